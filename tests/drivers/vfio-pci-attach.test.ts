/**
 * Goal: VFIO lets in who accepts device memory and can give it back, and says of everybody else why
 * not; whether there is a way is said at map. Method: every kind of importer; what Linux 7.2.12
 * answered (samples/k7.2-p2p-one-switch, samples/errno/k7.2/probe-two-root-ports.txt).
 */

import { describe, expect, test } from 'vitest';
import type { AttachOps, DmaBuf } from '../../src/framework/index.ts';
import { PlatformDevice, type Task } from '../../src/machine/index.ts';
import { PEER_OPS } from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';
import { BAR, FAR, FakeImporter, OWNED, PEER, VfioRig } from './vfio-pci-rig.ts';

const NO_PEER: AttachOps = { allowPeer2Peer: false, *invalidateMappings(): Task {} };
const NOT_REVOCABLE: AttachOps = { allowPeer2Peer: true };

const NEEDS_PEER = ['EOPNOTSUPP', 'importer-does-not-take-peer-memory'] as const;
const NEEDS_REVOKE = ['EOPNOTSUPP', 'importer-cannot-give-memory-back'] as const;
const IS_REVOKED = ['ENODEV', 'attach-to-revoked-memory'] as const;

/** Importer, its operations, the answer of a live buffer and of a revoked one. */
const REFUSALS = [
  ['a static importer (N30)', null, NEEDS_PEER, NEEDS_PEER],
  ['one that takes no peer memory (N30)', NO_PEER, NEEDS_PEER, NEEDS_PEER],
  ['one that cannot give it back (N31, B127)', NOT_REVOCABLE, NEEDS_REVOKE, IS_REVOKED],
  ['one that can all', PEER_OPS, null, IS_REVOKED],
] as const;

describe('VFIO answers at attach', () => {
  test.each(REFUSALS)("%s, in the kernel's order", (_, ops, live, revoked) => {
    for (const [isOn, expected] of [
      [true, live],
      [false, revoked],
    ] as const) {
      const rig = new VfioRig();
      const buf = rig.do(rig.open([0, 1]));
      if (!isOn) rig.do(rig.setMemory(false));
      const attach = buf.dynamicAttach(rig.at(PEER), ops);
      if (expected === null) {
        expect(rig.do(attach).device.name).toBe('0000:03:00.0');
        continue;
      }
      const [code, reason] = expected;
      const error = rig.do(refused(attach));
      const detail = { refusedBy: 'exporter', exporter: 'vfio_pci_core', client: '0000:03:00.0' };
      expect(error).toMatchObject({ code, reason, detail });
      expect(buf.attachments.value).toEqual([]);
      expect(rig.events('attachment.refuse')).toMatchObject([{ code, reason, detail }]);
    }
  });

  test('with what would help, and that does help (AC-26)', () => {
    const rig = new VfioRig();
    const buf = rig.do(rig.open([0, 1]));
    function advice(of: { readonly detail: Readonly<Record<string, unknown>> }): string {
      const [first] = of.detail.advice as readonly { readonly text: string }[];
      return first?.text ?? expect.fail('advice');
    }
    const first = rig.do(refused(buf.attach(rig.at(PEER))));
    expect(advice(first)).toContain('attach dynamically and allow peer-to-peer');
    const second = rig.do(refused(buf.dynamicAttach(rig.at(PEER), NOT_REVOCABLE)));
    expect(advice(second)).toContain('must bring invalidateMappings');
    rig.do(rig.setMemory(false));
    const third = rig.do(refused(buf.dynamicAttach(rig.at(PEER), PEER_OPS)));
    expect(advice(third)).toContain('switch memory decoding on');
    rig.do(rig.setMemory(true));
    expect(rig.do(buf.dynamicAttach(rig.at(PEER), PEER_OPS)).peer2peer).toBe(true);
  });

  test('yes to a device without a way: the route is judged at map (N33)', () => {
    const rig = new VfioRig();
    const buf = rig.do(rig.open([0, 1]));
    const importer = new FakeImporter(rig, rig.at(FAR));
    rig.do(importer.attach(buf));
    expect(rig.do(importer.mapRefused())).toMatchObject({
      code: 'EINVAL',
      reason: 'no-peer-to-peer-route',
    });
    // What failed to map holds nothing up.
    rig.do(rig.setMemory(false));
    expect(importer.invalidations).toBe(1);
  });

  test('to a device that is not on PCI as Linux does: attach 0, map EINVAL', () => {
    const rig = new VfioRig();
    const buf = rig.do(rig.open([0, 16]));
    const platform = new PlatformDevice('dmabuf_probe.0', true);
    const attachment = rig.do(buf.dynamicAttach(platform, PEER_OPS));
    function* map(): Task {
      yield* buf.resv.lock();
      try {
        yield* attachment.mapAttachment('bidirectional');
      } finally {
        yield* buf.resv.unlock();
      }
    }
    expect(rig.do(refused(map())).code).toBe('EINVAL');
  });
});

/** What the probe module saw on Linux: invalidations, and whether it could attach and map. */
describe('The course of the sample k7.2-p2p-one-switch', () => {
  test('is ours as well: addresses, invalidations 0, 1, 2, 4, and errors (N32)', () => {
    const rig = new VfioRig();
    const buf = rig.do(rig.open([0, 16]));
    const held = new FakeImporter(rig, rig.at(PEER));
    rig.do(held.import(buf));
    expect(held.tables.map(({ entries }) => entries)).toEqual([
      [{ address: rig.busAddressOf(OWNED, BAR), length: 65_536 }],
    ]);
    const attachAnew = (): string => {
      const other = new FakeImporter(rig, rig.at(PEER));
      const { result } = rig.try(attachAndMap(other, buf));
      return result ?? 'failed';
    };
    expect(held.invalidations).toBe(0);
    rig.do(rig.setMemory(false));
    expect([held.invalidations, attachAnew()]).toEqual([1, 'ENODEV']);
    rig.do(rig.setMemory(true));
    expect([held.invalidations, attachAnew()]).toEqual([2, 'mapped']);
    rig.do(rig.vdev.reset(rig.process));
    expect([held.invalidations, attachAnew()]).toEqual([4, 'mapped']);
  });
});

function* attachAndMap(importer: FakeImporter, buf: DmaBuf): Task<string> {
  try {
    yield* importer.import(buf);
    yield* importer.leave();
    return 'mapped';
  } catch (error) {
    return (error as { readonly code: string }).code;
  }
}
