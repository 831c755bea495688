/**
 * Goal: what the thread S000 asks of the core holds: no copies, one place of refusal, memory that
 * moves only where it may. Method: a card whose memory can move to RAM, a unit that only its driver
 * knows, a subsystem with a rule of its own.
 */

import { describe, expect, test } from 'vitest';
import { DmaBufError, dmaAddr, PAGE_SIZE, type PhysAddr, physAddr } from '../../src/base/index.ts';
import { RoundRobinStrategy } from '../../src/explorer/index.ts';
import {
  type Attachment,
  type AttachOps,
  DmaBuf,
  type DmaBufOps,
  dmaBufFreeSgt,
  dmaBufPhysVecToSgt,
  dmaMapSgtable,
  dmaUnmapSgtable,
  pageList,
  type SgTable,
} from '../../src/framework/index.ts';
import type { Actor, Device, Step, Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { CoreRig } from './core-rig.ts';
import { KernelRig, locked, PEER_OPS } from './kernel-rig.ts';

const OWNER = '04:00.0';
/** Below the same switch as the owner. */
const NEAR = '03:00.0';
/** Below another root, whose host bridges are on no list. */
const FAR = '41:00.0';
const BYTES = [1, 2, 3, 4];

/** A card with memory of its own that can move to RAM, as graphics cards do it. */
class MovingCard {
  readonly rig: KernelRig;
  readonly isMovable: boolean;
  place: 'card' | 'ram' = 'card';
  pins = 0;
  readonly ram: PhysAddr;

  constructor(rig: KernelRig, isMovable: boolean, ram: PhysAddr) {
    this.rig = rig;
    this.isMovable = isMovable;
    this.ram = ram;
  }

  static *export(rig: KernelRig, isMovable = true): Task<DmaBuf<MovingCard>> {
    const ram = (yield* rig.machine.memory.allocate(1)) ?? expect.fail('a page');
    const priv = new MovingCard(rig, isMovable, ram);
    const info = { exporterName: 'gpu', ops: CARD_OPS, size: PAGE_SIZE, priv };
    return yield* DmaBuf.export(rig.kernel, info);
  }

  /** Where the memory may be for a device. */
  get provider() {
    return this.rig.kernel.p2pdmaOf(this.rig.at(OWNER)).provider(2) ?? expect.fail('a provider');
  }

  /** Moves it. With the reservation. */
  *move(buf: DmaBuf<MovingCard>, place: 'card' | 'ram'): Task {
    if (this.pins > 0) throw new DmaBufError('EBUSY', 'move', 'test-pinned');
    yield* buf.invalidateMappings();
    yield* buf.resv.wait('bookkeep');
    this.place = place;
  }
}

const CARD_OPS: DmaBufOps<MovingCard> = {
  *attach({ priv }, attachment): Task {
    const route = yield* priv.rig.kernel.p2pdmaOf(priv.rig.at(OWNER)).mapType(attachment.device);
    if (route === null || route.mapType === 'not-supported') attachment.peer2peer = false;
  },
  *pin({ buf: { priv } }): Task {
    priv.pins += 1;
  },
  *unpin({ buf: { priv } }): Task {
    priv.pins -= 1;
  },
  *mapDmaBuf(attachment, direction): Task<SgTable> {
    const { priv } = attachment.buf;
    if (attachment.peer2peer) {
      const paddr = physAddr(priv.rig.at(OWNER).barStart(2));
      const ranges = [{ paddr, length: PAGE_SIZE }];
      return yield* dmaBufPhysVecToSgt(attachment, priv.provider, ranges, direction);
    }
    if (!priv.isMovable) throw new DmaBufError('EINVAL', 'mapDmaBuf', 'test-stays-on-the-card');
    priv.place = 'ram';
    const pages = pageList([{ phys: priv.ram, size: PAGE_SIZE }]);
    return yield* dmaMapSgtable(priv.rig.machine, attachment.device, pages, direction);
  },
  *unmapDmaBuf(attachment, table, direction): Task {
    const { rig, place } = attachment.buf.priv;
    if (place === 'card') yield* dmaBufFreeSgt(attachment, table, direction);
    else yield* dmaUnmapSgtable(rig.machine, attachment.device, table, direction);
  },
  *release(): Task {},
};

describe('Memory of a card that is asked for', () => {
  test.each([
    [true, true, true, 'card'],
    [true, true, false, 'card'],
    [true, false, true, 'ram'],
    [true, false, false, 'EINVAL'],
    [false, true, true, 'ram'],
    [false, true, false, 'EINVAL'],
    [false, false, true, 'ram'],
    [false, false, false, 'EINVAL'],
  ])(
    'peer-to-peer %s, routable %s, movable %s: it is at %s (S000-9)',
    (isRequested, isRoutable, isMovable, expected) => {
      const rig = new KernelRig();
      const buf = rig.do(MovingCard.export(rig, isMovable));
      const ops: AttachOps = { ...PEER_OPS, allowPeer2Peer: isRequested };
      const attachment = rig.do(buf.dynamicAttach(rig.at(isRoutable ? NEAR : FAR), ops));
      const map = attachment.mapAttachmentUnlocked('bidirectional');
      if (expected === 'EINVAL') {
        expect(rig.do(refused(map)).code).toBe('EINVAL');
        expect(buf.priv.place).toBe('card');
        return;
      }
      const [entry] = rig.do(map).entries;
      expect(buf.priv.place).toBe(expected);
      rig.write(attachment.device, entry?.address ?? 0, BYTES);
      const inRam = rig.ram(buf.priv.ram, 4);
      expect(rig.arrived).toHaveLength(expected === 'card' ? 1 : 0);
      expect(inRam).toEqual(expected === 'ram' ? BYTES : [0, 0, 0, 0]);
    },
  );
});

describe('A move that is wanted while a device has the memory mapped (S000-18)', () => {
  test('is refused for a static importer, whose mapping is pinned', () => {
    const rig = new KernelRig();
    const buf = rig.do(MovingCard.export(rig));
    const attachment = rig.do(buf.attach(rig.at(NEAR)));
    const table = rig.do(attachment.mapAttachmentUnlocked('to-device'));
    expect(buf.priv.pins).toBe(1);
    const move = () => locked(buf.resv, buf.priv.move(buf, 'card'));
    expect(rig.do(refused(move())).code).toBe('EBUSY');
    rig.do(attachment.unmapAttachmentUnlocked(table, 'to-device'));
    rig.do(move());
    expect([buf.priv.pins, buf.priv.place]).toEqual([0, 'card']);
  });

  test('goes on for a dynamic one that was told', () => {
    const rig = new KernelRig();
    const buf = rig.do(MovingCard.export(rig));
    const heard: string[] = [];
    const ops: AttachOps = {
      allowPeer2Peer: true,
      *invalidateMappings({ device }: Attachment): Task {
        heard.push(`${device.name}: ${buf.priv.place}`);
      },
    };
    const attachment = rig.do(buf.dynamicAttach(rig.at(NEAR), ops));
    rig.do(attachment.mapAttachmentUnlocked('to-device'));
    rig.do(locked(buf.resv, buf.priv.move(buf, 'ram')));
    expect(heard).toEqual([`0000:${NEAR}: card`]);
    expect(buf.priv.place).toBe('ram');
  });
});

/** Notes every step that is taken. */
class NotingStrategy extends RoundRobinStrategy {
  readonly verbs: string[] = [];

  before(_actor: Actor, step: Step): void {
    this.verbs.push(step.verb);
  }
}

describe('The way of bytes between devices', () => {
  test.each(['ram', 'card'] as const)('has no copy by the CPU, in %s (S000-4)', (kind) => {
    const rig = new CoreRig();
    const buf: DmaBuf =
      kind === 'ram' ? rig.do(rig.exportRam()) : rig.do(MovingCard.export(rig, false));
    function* program(): Task {
      const attachment = yield* buf.dynamicAttach(rig.at(NEAR), PEER_OPS);
      const table = yield* attachment.mapAttachmentUnlocked('bidirectional');
      const { address } = table.entries[0] ?? expect.fail('an entry');
      yield* rig.machine.dma.write(attachment.device, address, Uint8Array.from(BYTES));
      yield* rig.machine.dma.read(attachment.device, address, 4);
      yield* attachment.unmapAttachmentUnlocked(table, 'bidirectional');
      yield* buf.detach(attachment);
    }
    const strategy = new NotingStrategy();
    expect(rig.try(program(), strategy).outcome.status).toBe('done');
    expect(strategy.verbs).toContain('dma write');
    const byCpu = strategy.verbs.filter((verb) => /^(load|store|mmio|copy|bounce)/.test(verb));
    expect(byCpu).toEqual([]);
  });
});

/** A subsystem with a rule of its own: cards below a certain slot only. */
class Subsystem {
  readonly rules: ((device: Device) => string | null)[] = [];

  *register(buf: DmaBuf, device: Device): Task<Attachment> {
    for (const rule of this.rules) {
      const why = rule(device);
      if (why !== null) throw new DmaBufError('EOPNOTSUPP', 'register', why);
    }
    return yield* buf.dynamicAttach(device, PEER_OPS);
  }
}

describe('A rule of one subsystem', () => {
  test('is its own: the core is not asked, and other importers are not concerned (S000-14)', () => {
    const rig = new CoreRig();
    const buf = rig.do(rig.exportRam());
    const subsystem = new Subsystem();
    subsystem.rules.push(({ name }) => (name.endsWith(NEAR) ? 'test-not-this-card' : null));
    expect(rig.codeOf(subsystem.register(buf, rig.at(NEAR)))).toBe('EOPNOTSUPP');
    expect(buf.attachments.value).toEqual([]);
    expect(rig.events('attachment.refuse')).toEqual([]);
    expect(rig.do(subsystem.register(buf, rig.at(FAR))).device.name).toBe(`0000:${FAR}`);
    expect(rig.do(buf.attach(rig.at(NEAR))).device.name).toBe(`0000:${NEAR}`);
  });
});

const SIDE = 2;

/** A remapping unit outside the IOMMU API: devices behind it see an image turned by a quarter. */
class Rotator {
  readonly behind: ReadonlySet<Device>;
  readonly window: number = 0x7000_0000;
  readonly image: readonly number[];

  constructor(behind: readonly Device[], image: readonly number[]) {
    this.behind = new Set(behind);
    this.image = image;
  }

  /** What a device reads at an address in the window. */
  read(device: Device, address: number): number {
    expect(this.behind.has(device)).toBe(true);
    const at = address - this.window;
    const [row, column] = [Math.floor(at / SIDE), at % SIDE];
    return this.image[(SIDE - 1 - column) * SIDE + row] ?? expect.fail('a pixel');
  }
}

const ROTATOR_OPS: DmaBufOps<Rotator> = {
  *attach({ priv }, { device }): Task {
    if (priv.behind.has(device)) return;
    const detail = { refusedBy: 'exporter', class: 'connectivity', exporter: 'rotator' };
    throw new DmaBufError('EINVAL', 'attach', 'test-not-behind-the-unit', { detail });
  },
  *mapDmaBuf({ buf }): Task<SgTable> {
    return { entries: [{ address: dmaAddr(buf.priv.window), length: PAGE_SIZE }] };
  },
  *unmapDmaBuf(): Task {},
  *release(): Task {},
};

describe('A remapping unit that only its driver knows', () => {
  test('turns the image for a device behind it, and no other gets in (S000-16)', () => {
    const rig = new KernelRig();
    const [scanout, other] = [rig.at(NEAR), rig.at(FAR)];
    const priv = new Rotator([scanout], [1, 2, 3, 4]);
    const info = { exporterName: 'rotator', ops: ROTATOR_OPS, size: PAGE_SIZE, priv };
    const buf = rig.do(DmaBuf.export(rig.kernel, info));
    const attachment = rig.do(buf.attach(scanout));
    const { address } =
      rig.do(attachment.mapAttachmentUnlocked('to-device')).entries[0] ?? expect.fail('an entry');
    const seen = [0, 1, 2, 3].map((i) => priv.read(scanout, address + i));
    expect(seen).toEqual([3, 1, 4, 2]);
    expect(rig.do(refused(buf.attach(other))).reason).toBe('test-not-behind-the-unit');
  });
});

describe('Three refusals of three kinds', () => {
  test('are told apart: a bug, no route, an exporter that will not (S000-13, S000-19)', () => {
    const rig = new KernelRig();
    const card = rig.do(MovingCard.export(rig, false));
    const bug = rig.do(refused(card.attach(null)));
    const direct: DmaBufOps<MovingCard> = {
      ...CARD_OPS,
      *attach(): Task {},
    };
    const info = { exporterName: 'gpu', ops: direct, size: PAGE_SIZE, priv: card.priv };
    const blind = rig.do(DmaBuf.export(rig.kernel, info));
    const far = rig.do(blind.dynamicAttach(rig.at(FAR), PEER_OPS));
    const route = rig.do(refused(far.mapAttachmentUnlocked('to-device')));
    const rotator = new Rotator([], []);
    const unit = { exporterName: 'rotator', ops: ROTATOR_OPS, size: PAGE_SIZE, priv: rotator };
    const veto = rig.do(refused(rig.do(DmaBuf.export(rig.kernel, unit)).attach(rig.at(NEAR))));
    expect([bug, route, veto].map(({ detail }) => [detail.refusedBy, detail.class])).toEqual([
      ['core', 'importer-bug'],
      ['core', 'connectivity'],
      ['exporter', 'connectivity'],
    ]);
  });
});
