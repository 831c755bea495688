/**
 * Bytes between a peer beyond the wire and a drive's memory: every route, every bound, every right.
 */

import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/base/index.ts';
import {
  ACCESS_LOCAL_WRITE,
  ACCESS_REMOTE_READ,
  ACCESS_REMOTE_WRITE,
  type MemoryRegion,
} from '../../src/drivers/rdma-nic/memory-region.ts';
import {
  MESSAGE_SIZE_MAX,
  NO_PAYLOAD,
  type RdmaPacket,
} from '../../src/drivers/rdma-nic/packets.ts';
import type { RdmaResult } from '../../src/drivers/rdma-nic/remote-peer.ts';
import {
  COMMAND_BUS_MASTER,
  Completion,
  type MachineSpec,
  type Task,
  untilRegisters,
} from '../../src/machine/index.ts';
import { SERVER_SWITCH } from '../../src/machine/presets/server-switch.ts';
import { WORKSTATION_ZEN } from '../../src/machine/presets/workstation-zen.ts';
import {
  BRIDGES,
  BRIDGES_WITHOUT_IOMMU,
  eventsOf,
  IOVA,
  pattern,
  SWITCH,
  World,
} from './rdma-nic-world.ts';

const KIB = 1024;

/**
 * Runs a program of this machine that sets something up, then a peer's, then takes all down again.
 */
class Session {
  readonly world: World;
  readonly results: RdmaResult[] = [];
  private readonly ready: Completion;
  private readonly over: Completion;

  constructor(world: World) {
    this.world = world;
    this.ready = new Completion(world.scheduler, 'ready');
    this.over = new Completion(world.scheduler, 'over');
  }

  run(setUp: Task, peer: Task): void {
    this.world.user(this.program(setUp));
    this.world.remote(this.initiator(peer));
    const outcome = this.world.run();
    this.world.expectClean(outcome);
  }

  private *program(setUp: Task): Task {
    const { nic, spdk } = this.world;
    yield* setUp;
    yield* this.ready.complete();
    yield* this.over.wait();
    yield* nic.closeContext(spdk);
    yield* spdk.exit();
  }

  private *initiator(peer: Task): Task {
    yield* this.ready.wait();
    yield* peer;
    yield* this.over.complete();
  }
}

function* registerOnePage(world: World, access?: number): Task {
  const fd = yield* world.exportCmb([{ offset: 0, length: 4 * PAGE_SIZE }]);
  yield* world.register(fd, PAGE_SIZE, access === undefined ? {} : { access });
}

function* registerTwoPages(world: World): Task {
  const fd = yield* world.exportCmb([{ offset: 0, length: 4 * PAGE_SIZE }]);
  yield* world.register(fd, 2 * PAGE_SIZE, { offset: PAGE_SIZE });
}

function* writeAndReadBack({ world, results }: Session, length: number): Task {
  const [region] = world.regions as [MemoryRegion];
  const { rkey } = region;
  results.push(yield* world.peer.write(rkey, IOVA + 100, pattern(length)));
  results.push(yield* world.peer.read(rkey, IOVA + 100, length));
}

describe('a transfer', () => {
  const ROOT = 'root-complex';
  const routes: readonly (readonly [string, MachineSpec, readonly string[]])[] = [
    ['a bus address across a switch', SWITCH, []],
    ['a bus address across a switch, with an IOMMU', SERVER_SWITCH, []],
    ['an I/O address through host bridges', BRIDGES, [ROOT, 'iommu']],
    ['a physical address through host bridges without an IOMMU', BRIDGES_WITHOUT_IOMMU, [ROOT]],
    ['a physical address with the IOMMU in passthrough', WORKSTATION_ZEN, [ROOT]],
  ];

  test.each(routes)('writes and reads back by %s (S003-2)', (_, spec, route) => {
    const world = new World({ spec });
    const session = new Session(world);
    session.run(registerTwoPages(world), writeAndReadBack(session, 5000));
    const [written, read] = session.results;
    expect(written).toEqual({ status: 'success', bytes: NO_PAYLOAD });
    expect(read).toEqual({ status: 'success', bytes: pattern(5000) });
    expect(world.drive.bytes(PAGE_SIZE + 100, 5000)).toEqual(pattern(5000));
    const transfers = [...eventsOf(world.trace, 'dma.write'), ...eventsOf(world.trace, 'dma.read')];
    expect(transfers.length).toBe(4);
    for (const { device, target, route: passed, result } of transfers) {
      expect(device).toBe(world.nicFn.name);
      expect(target.startsWith(`${world.driveFn.name} BAR2+`)).toBe(true);
      expect(passed.filter((port) => port === ROOT || port === 'iommu')).toEqual(route);
      expect(result).toBe('done');
    }
  });

  test('is cut into pieces of at most the path MTU, each a step of its own', () => {
    const world = new World({ nicOptions: { pathMtu: 256 } });
    const session = new Session(world);
    session.run(registerTwoPages(world), writeAndReadBack(session, 1000));
    const writes = eventsOf(world.trace, 'dma.write');
    expect(writes.map(({ length }) => length)).toEqual([256, 256, 256, 232]);
    expect(new Set(writes.map(({ step }) => step)).size).toBe(4);
    expect(session.results.at(-1)?.bytes).toEqual(pattern(1000));
  });

  test('to the doorbell page rings the doorbell (S003-5)', () => {
    const world = new World();
    const session = new Session(world);
    world.scheduler.spawn(copyingDrive(world), { name: 'drive', role: 'device', daemon: true });
    session.run(registerBothBars(world), commandAndRing(session));
    expect(session.results.map(({ status }) => status)).toEqual(['success', 'success']);
    expect(world.drive.bytes(0x800, 16)).toEqual(pattern(16));
  });

  test('that the drive does not answer is refused to the reader', () => {
    const world = new World();
    const session = new Session(world);
    world.user(deafDrive(session));
    const outcome = world.run();
    expect(session.results).toEqual([{ status: 'remote-operational-error', bytes: NO_PAYLOAD }]);
    expect(outcome.findings.map(({ kind }) => kind)).toEqual(['fault']);
    expect(outcome.findings[0]?.title).toMatch(/memory decoding is off/);
  });
});

function* registerBothBars(world: World): Task {
  yield* world.register(yield* world.exportCmb([{ offset: 0, length: PAGE_SIZE }]), PAGE_SIZE);
  yield* world.register(yield* world.exportDoorbell(), PAGE_SIZE);
}

function* commandAndRing({ world, results }: Session): Task {
  const [cmb, doorbell] = world.regions as [MemoryRegion, MemoryRegion];
  const posted = [
    yield* world.peer.postWrite(cmb.rkey, IOVA, pattern(16)),
    yield* world.peer.postWrite(doorbell.rkey, IOVA, Uint8Array.of(1, 0, 0, 0)),
  ];
  for (const psn of posted) results.push(yield* world.peer.completion(psn));
}

/**
 * Copies 16 bytes within its buffer when the doorbell rings: what a command means to this drive.
 */
function* copyingDrive({ drive: { cmb, doorbell } }: World): Task {
  yield* untilRegisters([doorbell], ([value]) => value === 1);
  yield* cmb.store(0x800, yield* cmb.load(0, 16));
}

/** Memory decoding goes away behind VFIO's back, so nobody tells the card. */
function* deafDrive(session: Session): Task {
  const { world, results } = session;
  yield* registerOnePage(world);
  const [region] = world.regions as [MemoryRegion];
  yield* world.driveFn.writeCommand(COMMAND_BUS_MASTER);
  results.push(yield* world.peer.read(region.rkey, IOVA, 64));
  yield* world.nic.closeContext(world.spdk);
  yield* world.spdk.exit();
}

describe('a window in the middle of a buffer of three ranges', () => {
  const RANGES = [
    { offset: 0x6000, length: 2 * PAGE_SIZE },
    { offset: 0x1000, length: PAGE_SIZE },
    { offset: 0xa000, length: 3 * PAGE_SIZE },
  ];
  const OFFSET = PAGE_SIZE + 0x123;
  const LENGTH = 2 * PAGE_SIZE + 0x100;
  const SLOT = 0x2_0000;

  function* registerWindow(world: World): Task {
    yield* world.drive.cmb.store(0, new Uint8Array(0x10000).fill(0xee));
    const fd = yield* world.exportCmb(RANGES);
    yield* world.register(fd, LENGTH, { offset: OFFSET, iova: SLOT + 0x123 });
    // The region keeps the buffer alive.
    yield* world.spdk.close(fd);
    world.seen.push(world.kernel.bufferList.value, world.vfio.dmabufs.value.length);
  }

  function* writeAll({ world, results }: Session): Task {
    const [{ rkey }] = world.regions as [MemoryRegion];
    results.push(yield* world.peer.write(rkey, SLOT + 0x123, pattern(LENGTH)));
  }

  test.each([
    ['a switch', SWITCH],
    ['host bridges', BRIDGES],
    ['host bridges without an IOMMU', BRIDGES_WITHOUT_IOMMU],
  ])('changes exactly those bytes and outlives its descriptor, by %s (S000-1)', (_, spec) => {
    const world = new World({ spec });
    const session = new Session(world);
    session.run(registerWindow(world), writeAll(session));
    expect(world.seen).toEqual([1, 1]);
    expect(session.results.map(({ status }) => status)).toEqual(['success']);
    const expected = new Uint8Array(0x10000).fill(0xee);
    const bytes = pattern(LENGTH);
    const firstEnd = PAGE_SIZE - 0x123;
    expected.set(bytes.subarray(0, firstEnd), 0x7000 + 0x123);
    expected.set(bytes.subarray(firstEnd, firstEnd + PAGE_SIZE), 0x1000);
    expected.set(bytes.subarray(firstEnd + PAGE_SIZE), 0xa000);
    expect(world.drive.bytes(0, 0x10000)).toEqual(expected);
  });

  test('its storage is freed by the deregistration, not before (S000-1)', () => {
    const world = new World();
    const session = new Session(world);
    session.run(registerWindow(world), writeAll(session));
    const released = eventsOf(world.trace, 'buffer.release').map(({ seq }) => seq);
    const [write] = eventsOf(world.trace, 'dma.write').slice(-1);
    const [detach] = eventsOf(world.trace, 'attachment.detach');
    expect(released[0]).toBeGreaterThan(write?.seq ?? Number.POSITIVE_INFINITY);
    expect(released[0]).toBeGreaterThan(detach?.seq ?? Number.POSITIVE_INFINITY);
  });
});

describe('a request that is not allowed', () => {
  function* outOfBounds({ world, results }: Session): Task {
    const [{ rkey }] = world.regions as [MemoryRegion];
    const { peer } = world;
    results.push(
      yield* peer.write(rkey, IOVA - 1, pattern(1)),
      yield* peer.write(rkey, IOVA + PAGE_SIZE, pattern(1)),
      yield* peer.write(rkey, IOVA + PAGE_SIZE - 7, pattern(8)),
      yield* peer.read(rkey, IOVA + PAGE_SIZE - 7, 8),
      yield* peer.read(rkey + 1, IOVA, 8),
      yield* peer.read(rkey, 0, 8),
      // The neighbour that is allowed.
      yield* peer.write(rkey, IOVA + PAGE_SIZE - 8, pattern(8)),
    );
  }

  test('for its key or its bounds is refused as a remote access error', () => {
    const world = new World();
    const session = new Session(world);
    session.run(registerOnePage(world), outOfBounds(session));
    expect(session.results.map(({ status }) => status)).toEqual([
      ...new Array(6).fill('remote-access-error'),
      'success',
    ]);
    expect(eventsOf(world.trace, 'dma.write').length).toBe(1);
    expect(eventsOf(world.trace, 'dma.read').length).toBe(0);
  });

  function* writeThenRead({ world, results }: Session): Task {
    const [{ rkey }] = world.regions as [MemoryRegion];
    results.push(yield* world.peer.write(rkey, IOVA, pattern(8)));
    results.push(yield* world.peer.read(rkey, IOVA, 8));
  }

  const REFUSED = 'remote-access-error';
  test.each([
    ['nothing', 0, REFUSED, REFUSED],
    ['local writes', ACCESS_LOCAL_WRITE, REFUSED, REFUSED],
    ['remote reads', ACCESS_REMOTE_READ, REFUSED, 'success'],
    ['remote writes', ACCESS_LOCAL_WRITE | ACCESS_REMOTE_WRITE, 'success', REFUSED],
  ])('by a region that allows %s is refused', (_, access, write, read) => {
    const world = new World();
    const session = new Session(world);
    session.run(registerOnePage(world, access), writeThenRead(session));
    expect(session.results.map(({ status }) => status)).toEqual([write, read]);
  });

  const none = { va: IOVA, payload: NO_PAYLOAD };
  const packets: readonly RdmaPacket[] = [
    { kind: 'rdma-read', psn: 0, rkey: 0x15a, length: -1, ...none },
    { kind: 'rdma-read', psn: 1, rkey: 0x15a, length: 1.5, ...none },
    { kind: 'rdma-read', psn: 2, rkey: 0x15a, length: MESSAGE_SIZE_MAX + 1, ...none },
    { kind: 'rdma-read', psn: 3, rkey: 0x15a, length: 8, va: -8, payload: NO_PAYLOAD },
    { kind: 'rdma-read', psn: 5, rkey: 0x15a, length: 8, ...none },
    { kind: 'ack', psn: 4, payload: NO_PAYLOAD },
    { kind: 'rdma-read', psn: 4, rkey: 0x15a, length: MESSAGE_SIZE_MAX, ...none },
  ];

  function* sendRaw({ world, results }: Session): Task {
    for (const packet of packets) yield* world.farPort.send(packet);
    for (const psn of [0, 1, 2, 3, 5, 4]) results.push(yield* world.peer.completion(psn));
  }

  test('because it is no request at all is refused by what is wrong with it', () => {
    const world = new World();
    const session = new Session(world);
    session.run(registerOnePage(world), sendRaw(session));
    expect(session.results.map(({ status }) => status)).toEqual([
      ...new Array(4).fill('invalid-request'),
      'psn-sequence-error',
      'remote-access-error',
    ]);
  });

  function* nothingAtAll({ world, results }: Session): Task {
    results.push(yield* world.peer.write(0, 0, NO_PAYLOAD));
    results.push(yield* world.peer.read(0, 0, 0));
  }

  test('is allowed if it moves nothing: the key is not looked at then', () => {
    const world = new World();
    const session = new Session(world);
    session.run(registerOnePage(world), nothingAtAll(session));
    expect(session.results).toEqual([
      { status: 'success', bytes: NO_PAYLOAD },
      { status: 'success', bytes: NO_PAYLOAD },
    ]);
  });
});

describe('several requests outstanding', () => {
  function* postMany({ world, results }: Session): Task {
    const [{ rkey }] = world.regions as [MemoryRegion];
    const { peer } = world;
    const psns = [
      yield* peer.postWrite(rkey, IOVA, pattern(64, 1)),
      yield* peer.postWrite(rkey, IOVA, pattern(64, 2)),
      yield* peer.postRead(rkey, IOVA, 64),
      yield* peer.postWrite(rkey + 1, IOVA, pattern(64, 3)),
      yield* peer.postWrite(rkey, IOVA, pattern(64, 4)),
    ];
    world.seen.push(psns);
    // The answers may be asked for in any order.
    for (const psn of psns.toReversed()) results.unshift(yield* peer.completion(psn));
  }

  test('are carried out in order of posting and answered by number', () => {
    const world = new World();
    const session = new Session(world);
    session.run(registerOnePage(world), postMany(session));
    expect(world.seen).toEqual([[0, 1, 2, 3, 4]]);
    expect(session.results.map(({ status }) => status)).toEqual([
      'success',
      'success',
      'success',
      'remote-access-error',
      'success',
    ]);
    expect(session.results[2]?.bytes).toEqual(pattern(64, 2));
    expect(world.drive.bytes(0, 64)).toEqual(pattern(64, 4));
  });

  test('of what the program changes afterwards carry what it was at the time', () => {
    const world = new World();
    const session = new Session(world);
    session.run(registerOnePage(world), changeAfterPost(session));
    expect(world.drive.bytes(0, 64)).toEqual(pattern(64));
  });
});

function* changeAfterPost({ world }: Session): Task {
  const [{ rkey }] = world.regions as [MemoryRegion];
  const bytes = pattern(64);
  const psn = yield* world.peer.postWrite(rkey, IOVA, bytes);
  bytes.fill(0);
  yield* world.peer.completion(psn);
}

describe('messages', () => {
  function* hello({ nic, seen }: World): Task {
    yield* nic.postSend(pattern(3, 1));
    yield* nic.postSend(pattern(2 * KIB, 2));
    seen.push(yield* nic.receiveMessage());
  }

  function* answer({ peer, seen }: World): Task {
    seen.push(yield* peer.receive(), yield* peer.receive());
    yield* peer.send(pattern(5, 3));
  }

  test('go both ways in order', () => {
    const world = new World();
    world.user(hello(world));
    world.remote(answer(world));
    world.expectClean(world.run());
    expect(world.seen).toEqual([pattern(3, 1), pattern(2 * KIB, 2), pattern(5, 3)]);
  });
});
