/**
 * Goal: behaviour vectors of reference N, asked by a user program through the probe. Method: the
 * same calls that the kernel module will be asked, with the same structs.
 */

import { describe, expect, test } from 'vitest';
import {
  PROBE_ATTACH,
  PROBE_EXPORT,
  PROBE_USAGE,
  probeAttach,
  probeMap,
} from '../../src/base/index.ts';
import type { MachineSpec, Task } from '../../src/machine/index.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { type ProbeProgram, ProbeRig } from './probe-rig.ts';
import { FAR, PEER } from './vfio-pci-rig.ts';

const { DYNAMIC, PEER2PEER, INVALIDATE } = PROBE_ATTACH;
const FOLLOWS = DYNAMIC | PEER2PEER | INVALIDATE;
const NEAR = `0000:${PEER}`;

/** A program that has imported a buffer of VFIO's. */
interface Guest {
  readonly rig: ProbeRig;
  readonly program: ProbeProgram;
  readonly buffer: number;
}

/** Runs a program on one page of a BAR. */
function onVfio(body: (guest: Guest) => Task, spec: MachineSpec = wideMachine()): ProbeRig {
  const rig = new ProbeRig(spec);
  function* main(): Task {
    yield* rig.vdev.open();
    const fd = yield* rig.exportBytes([{ offset: 0, length: 4096 }]);
    const program = yield* rig.program();
    yield* body({ rig, program, buffer: yield* program.import(fd) });
    yield* program.exit();
  }
  rig.user(main(), 'program');
  const { status, findings } = rig.run();
  expect(status).toBe('done');
  expect(findings.filter(({ kind }) => kind !== 'warn')).toEqual([]);
  expect(rig.vdev.dmabufs.value).toEqual([]);
  return rig;
}

/** Runs a program with a buffer of the probe's own. */
function onProbe(body: (guest: Guest & { readonly id: number }) => Task, flags: number): ProbeRig {
  const rig = new ProbeRig();
  function* main(): Task {
    const program = yield* rig.program();
    const { fd, id } = yield* program.export({ flags });
    yield* body({ rig, program, id, buffer: yield* program.import(fd) });
    yield* program.exit();
  }
  rig.user(main(), 'program');
  expect(rig.run().status).toBe('done');
  return rig;
}

function* attachFails({ program, buffer }: Guest, device: string, mode: number): Task<string> {
  const error = yield* program.fails('ATTACH', probeAttach, { import: buffer, device, mode });
  return `${error.code} ${error.reason}`;
}

describe('VFIO, asked by a program', () => {
  test('refuses a static importer at attach (N30)', () => {
    onVfio(function* (guest) {
      const said = yield* attachFails(guest, NEAR, 0);
      expect(said).toBe('EOPNOTSUPP importer-does-not-take-peer-memory');
    });
  });

  test('refuses a dynamic importer without peer memory at attach (N30, E.1)', () => {
    onVfio(function* (guest) {
      const said = yield* attachFails(guest, NEAR, DYNAMIC | INVALIDATE);
      expect(said).toBe('EOPNOTSUPP importer-does-not-take-peer-memory');
    });
  });

  test('refuses an importer that cannot give memory back at attach (N31)', () => {
    onVfio(function* (guest) {
      const said = yield* attachFails(guest, NEAR, DYNAMIC | PEER2PEER);
      expect(said).toBe('EOPNOTSUPP importer-cannot-give-memory-back');
    });
  });

  test('maps nothing while memory decoding is off, and does when it is on again (N32)', () => {
    onVfio(function* ({ rig, program, buffer }) {
      const { attachment } = yield* program.attach(buffer, NEAR, FOLLOWS);
      yield* rig.setMemory(false);
      const error = yield* program.fails('MAP', probeMap, { attachment });
      expect([error.code, error.reason]).toEqual(['ENODEV', 'map-of-revoked-memory']);
      const attach = yield* attachFails({ rig, program, buffer }, NEAR, FOLLOWS);
      expect(attach).toBe('ENODEV attach-to-revoked-memory');
      yield* rig.setMemory(true);
      const { entries } = yield* program.map(attachment);
      expect(entries).toEqual([{ address: BigInt(rig.busAddressOf('04:00.0', 2)), length: 4096n }]);
      expect((yield* program.events()).map(({ attachment: at }) => at)).toEqual([
        attachment,
        attachment,
      ]);
    });
  });

  test('lets a device without a route in, and fails with EINVAL at map (N33)', () => {
    onVfio(function* ({ program, buffer }) {
      for (const device of [`0000:${FAR}`, 'probe']) {
        const { attachment } = yield* program.attach(buffer, device, FOLLOWS);
        const error = yield* program.fails('MAP', probeMap, { attachment });
        expect([error.code, error.reason]).toEqual(['EINVAL', 'no-peer-to-peer-route']);
      }
    });
  });

  test('has no map for the kernel and none for processes (E.1)', () => {
    onVfio(function* ({ program, buffer }) {
      yield* program.cpu('BEGIN_CPU', buffer, 0);
      yield* program.cpu('END_CPU', buffer, 0);
      const error = yield* program.failsVmap(buffer);
      expect([error.code, error.reason]).toEqual(['EINVAL', 'exporter-has-no-vmap']);
    });
  });

  test('does not stop for a pin (E.1)', () => {
    onVfio(function* ({ program, buffer }) {
      const { attachment } = yield* program.attach(buffer, NEAR, FOLLOWS);
      yield* program.byId('PIN', attachment);
      yield* program.byId('UNPIN', attachment);
    });
  });
});

describe('The core, asked by a program', () => {
  test('refuses no device with EINVAL and a warning (N35)', () => {
    const rig = onProbe(function* (guest) {
      expect(yield* attachFails(guest, '', DYNAMIC)).toBe('EINVAL no-dma-device');
      expect(yield* attachFails(guest, '', 0)).toBe('EINVAL no-dma-device');
      expect(yield* guest.program.info(guest.id)).toMatchObject({ attachments: 0 });
    }, 0);
    expect(rig.warnings).toHaveLength(2);
  });

  test('says ENODEV for a device that is not there', () => {
    onProbe(function* (guest) {
      for (const name of ['0000:ff:00.0', 'nonsense', '04:00.0']) {
        expect(yield* attachFails(guest, name, 0)).toBe('ENODEV no-such-function');
      }
    }, 0);
  });

  test('pins a dynamic exporter for each mapping of a static importer (N36)', () => {
    onProbe(function* ({ program, buffer, id }) {
      const { attachment } = yield* program.attach(buffer, 'probe', 0);
      const one = yield* program.map(attachment);
      const two = yield* program.map(attachment);
      expect(one.id).not.toBe(two.id);
      expect(yield* program.info(id)).toEqual({ attachments: 1, mappings: 2, pins: 2 });
      yield* program.byId('UNMAP', one.id);
      expect(yield* program.info(id)).toEqual({ attachments: 1, mappings: 1, pins: 1 });
    }, PROBE_EXPORT.DYNAMIC);
  });

  test('warns of a pin by a static importer, and goes on (A.13)', () => {
    const rig = onProbe(function* ({ program, buffer, id }) {
      const { attachment } = yield* program.attach(buffer, 'probe', 0);
      yield* program.byId('PIN', attachment);
      expect(yield* program.info(id)).toMatchObject({ pins: 1 });
    }, PROBE_EXPORT.DYNAMIC);
    expect(rig.warnings.length).toBeGreaterThan(0);
  });

  test('lets a dynamic importer map while a move is under way (N37)', () => {
    onProbe(function* ({ program, buffer }) {
      yield* program.fenceAdd(buffer, PROBE_USAGE.KERNEL);
      const { attachment } = yield* program.attach(buffer, 'probe', DYNAMIC);
      expect((yield* program.map(attachment)).entries).toHaveLength(1);
      expect(yield* program.fences(buffer, PROBE_USAGE.KERNEL)).toBe(1);
    }, 0);
  });

  test('lets a static importer wait until the move is over (A.14)', () => {
    const rig = new ProbeRig();
    const order: string[] = [];
    function* main(): Task {
      const program = yield* rig.program();
      const { fd } = yield* program.export();
      const buffer = yield* program.import(fd);
      const fence = yield* program.fenceAdd(buffer, PROBE_USAGE.KERNEL);
      const { attachment } = yield* program.attach(buffer, 'probe', 0);
      rig.kthread(signalLater(program, fence), 'other thread');
      yield* program.map(attachment);
      order.push('mapped');
      yield* rig.scheduler.sleep(1000);
      yield* program.exit();
    }
    function* signalLater(program: ProbeProgram, fence: number): Task {
      yield* rig.scheduler.sleep(100);
      order.push('signals');
      yield* program.signalElsewhere(fence);
    }
    rig.user(main(), 'program');
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(order).toEqual(['signals', 'mapped']);
  });
});
