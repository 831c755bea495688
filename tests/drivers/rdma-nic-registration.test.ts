/**
 * Registering and deregistering: every refusal by code and reason, and that a refusal leaves
 * nothing.
 */

import { describe, expect, test } from 'vitest';
import { type DmaBufError, isDmaBufError, PAGE_SIZE } from '../../src/base/index.ts';
import {
  ACCESS_LOCAL_WRITE,
  ACCESS_REMOTE_READ,
  ACCESS_REMOTE_WRITE,
  type MemoryRegion,
  type RegDmabufMr,
} from '../../src/drivers/rdma-nic/memory-region.ts';
import { PATH_MTU_MAX } from '../../src/drivers/rdma-nic/nic.ts';
import { RandomStrategy } from '../../src/explorer/strategies/random.ts';
import { type DmaBuf, Process } from '../../src/framework/index.ts';
import {
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  Completion,
  type Task,
} from '../../src/machine/index.ts';
import { DESKTOP } from '../../src/machine/presets/desktop.ts';
import { SERVER_SWITCH_ACS } from '../../src/machine/presets/server-switch-acs.ts';
import { eventsOf, IOVA, MODES, World, type WorldOptions } from './rdma-nic-world.ts';

const SIZE = 4 * PAGE_SIZE;

/** What a refused registration looked like, and what it left. */
interface Refusal {
  readonly error: DmaBufError;
  readonly attachments: number;
  readonly buffers: number;
  readonly references: number;
}

/** Tries to register a window of a healthy buffer, and takes everything down. */
function* tryToRegister(world: World, request: Partial<RegDmabufMr>): Task {
  const fd = yield* world.exportCmb([{ offset: 0, length: SIZE }]);
  const dmabuf = yield* world.bufferOf(fd);
  const error = yield* world.refused(world.register(fd, PAGE_SIZE, request));
  world.seen.push(leftBy(error, world, dmabuf));
  yield* world.nic.closeContext(world.spdk);
  yield* world.spdk.exit();
}

function leftBy(error: DmaBufError, { kernel }: World, dmabuf: DmaBuf): Refusal {
  return {
    error,
    attachments: dmabuf.attachments.value.length,
    buffers: kernel.bufferList.value,
    references: dmabuf.file.refs.value,
  };
}

/** Runs it, checks that nothing is left and returns the error. */
function refusalOf(request: Partial<RegDmabufMr>, options: WorldOptions = {}): DmaBufError {
  const world = new World(options);
  world.user(tryToRegister(world, request));
  world.expectClean(world.run());
  return checkedError(world);
}

function checkedError({ seen }: World): DmaBufError {
  const { error, ...left } = seen.at(-1) as Refusal;
  expect(left).toEqual({ attachments: 0, buffers: 1, references: 1 });
  return error;
}

function nameOf({ code, reason }: DmaBufError): string {
  return `${code} ${reason}`;
}

describe('regDmabufMr', () => {
  test('fails with EOPNOTSUPP where the driver registers no dma-bufs (F.1)', () => {
    const error = refusalOf({}, { nicOptions: { hasRegUserMrDmabuf: false } });
    expect(nameOf(error)).toBe('EOPNOTSUPP driver-registers-no-dma-bufs');
  });

  test('fails with EINVAL when offset and iova lie differently in their pages (F.1)', () => {
    const differ = 'EINVAL mr-offset-and-iova-differ-in-their-page';
    expect(nameOf(refusalOf({ offset: 1 }))).toBe(differ);
    expect(nameOf(refusalOf({ iova: IOVA + 8 }))).toBe(differ);
    expect(nameOf(refusalOf({ offset: Number.NaN }))).toBe(differ);
  });

  test('fails with EINVAL when the range of the iova overflows', () => {
    const iova = Number.MAX_SAFE_INTEGER - PAGE_SIZE + 1;
    expect(nameOf(refusalOf({ iova, length: PAGE_SIZE }))).toBe('EINVAL mr-iova-range-overflows');
    expect(nameOf(refusalOf({ iova: -PAGE_SIZE }))).toBe('EINVAL mr-iova-range-overflows');
  });

  test('fails with EINVAL for unknown access flags and contradicting ones (F.1)', () => {
    const alone = 'EINVAL mr-remote-write-needs-local-write';
    expect(nameOf(refusalOf({ access: 8 }))).toBe('EINVAL mr-access-flag-unknown');
    expect(nameOf(refusalOf({ access: -1 }))).toBe('EINVAL mr-access-flag-unknown');
    expect(nameOf(refusalOf({ access: ACCESS_REMOTE_WRITE }))).toBe(alone);
    expect(nameOf(refusalOf({ access: ACCESS_REMOTE_WRITE | ACCESS_REMOTE_READ }))).toBe(alone);
  });

  test('looks at the driver first, then at offsets, flags and buffer', () => {
    const wrong = { offset: 1, access: 8, fd: 77 };
    const nicOptions = { hasRegUserMrDmabuf: false };
    const order = [
      refusalOf(wrong, { nicOptions }),
      refusalOf(wrong),
      refusalOf({ ...wrong, offset: 0 }),
      refusalOf({ fd: 77 }),
    ];
    expect(order.map(({ code }) => code)).toEqual(['EOPNOTSUPP', 'EINVAL', 'EINVAL', 'EBADF']);
    expect(order[2]?.reason).toBe('mr-access-flag-unknown');
  });

  test.each(MODES)('of a window that the buffer does not have fails, %s', (mode) => {
    const beyond = 'EINVAL umem-window-ends-beyond-the-buffer';
    expect(nameOf(refusalOf({ mode, length: SIZE + 1 }))).toBe(beyond);
    expect(nameOf(refusalOf({ mode, offset: SIZE }))).toBe(beyond);
    expect(nameOf(refusalOf({ mode, length: 0 }))).toBe('EINVAL umem-window-is-empty');
  });

  test('with a software card fails with EINVAL and a warning (S000-2, S000-13, F.1)', () => {
    const world = new World({ nicOptions: { usesVirtDma: true } });
    world.user(tryToRegister(world, {}));
    const { findings } = world.run();
    expect(nameOf(checkedError(world))).toBe('EINVAL no-dma-device');
    expect(findings.map(({ title }) => title)).toEqual(['dma_buf_dynamic_attach: no device']);
    expect(eventsOf(world.trace, 'attachment.attach')).toEqual([]);
  });

  test('pinned is refused by VFIO at attach: it could not take its memory back (N31, F.1)', () => {
    const error = refusalOf({ mode: 'pinned' });
    expect(nameOf(error)).toBe('EOPNOTSUPP importer-cannot-give-memory-back');
    expect(error.detail.refusedBy).toBe('exporter');
  });

  test.each(MODES)(
    'fails with ENODEV while memory decoding is off, whatever the mode: %s (N32)',
    (mode) => {
      const world = new World();
      world.user(registerWhileOff(world, mode));
      world.expectClean(world.run());
      expect(nameOf(checkedError(world))).toBe('ENODEV attach-to-revoked-memory');
    },
  );

  test.each([
    ['two root ports of a desktop', DESKTOP, 'machine'],
    ['a switch that redirects', SERVER_SWITCH_ACS, 'kernel-parameter'],
  ])('across %s fails with EINVAL at map and says what would help (N33)', (_, spec, change) => {
    for (const mode of ['on-demand', 'pinned-revocable'] as const) {
      const error = refusalOf({ mode }, { spec });
      expect(nameOf(error)).toBe('EINVAL no-peer-to-peer-route');
      const { why, advice } = error.detail as { why: string; advice: { change: string }[] };
      expect(why).toMatch(/not in Linux's list/);
      expect(advice.map((each) => each.change)).toContain(change);
    }
  });

  test('does not hold the descriptor: the same number may name another buffer afterwards', () => {
    const world = new World();
    world.user(closeAndReuse(world));
    world.expectClean(world.run());
    const [first, second] = world.seen as [string, string];
    expect(first).not.toBe(second);
  });

  test('gives every region a key that no other one has had', () => {
    const world = new World();
    world.user(registerAgain(world));
    world.expectClean(world.run());
    expect(new Set(world.regions.map(({ rkey }) => rkey)).size).toBe(6);
  });
});

function* registerWhileOff(world: World, mode: RegDmabufMr['mode'] & string): Task {
  const { vfio, spdk } = world;
  yield* vfio.writeCommand(spdk, COMMAND_BUS_MASTER);
  yield* tryToRegister(world, { mode });
  yield* vfio.writeCommand(spdk, COMMAND_BUS_MASTER | COMMAND_MEMORY);
}

function* closeAndReuse(world: World): Task {
  const { spdk } = world;
  for (let i = 0; i < 2; i += 1) {
    const fd = yield* world.exportCmb([{ offset: i * SIZE, length: SIZE }]);
    const region = yield* world.register(fd, SIZE);
    world.seen.push(`${region.umem.dmabuf.number}`);
    yield* spdk.close(fd);
  }
  yield* world.nic.closeContext(spdk);
}

function* registerAgain(world: World): Task {
  const { nic, spdk } = world;
  const fd = yield* world.exportCmb([{ offset: 0, length: SIZE }]);
  for (let i = 0; i < 3; i += 1) {
    yield* nic.deregMr(spdk, yield* world.register(fd, SIZE));
    yield* world.register(fd, SIZE);
  }
  yield* nic.closeContext(spdk);
  yield* spdk.exit();
}

describe('a static importer', () => {
  test('is refused by VFIO with EOPNOTSUPP at attach (N30)', () => {
    const world = new World();
    world.user(attachStatically(world));
    world.expectClean(world.run());
    expect(nameOf(checkedError(world))).toBe('EOPNOTSUPP importer-does-not-take-peer-memory');
  });
});

function* attachStatically(world: World): Task {
  const fd = yield* world.exportCmb([{ offset: 0, length: SIZE }]);
  const dmabuf = yield* world.bufferOf(fd);
  const error = yield* world.refused(dmabuf.attach(world.nicFn));
  world.seen.push(leftBy(error, world, dmabuf));
  yield* world.spdk.exit();
}

describe('deregMr', () => {
  test('fails with ENOENT for a region that is gone or somebody else’s', () => {
    const world = new World();
    world.user(deregTwice(world));
    world.expectClean(world.run());
    expect((world.seen as DmaBufError[]).map(nameOf)).toEqual([
      'ENOENT mr-is-not-registered',
      'ENOENT mr-is-not-registered',
    ]);
  });

  test('unmaps, detaches and drops the buffer, in that order', () => {
    const world = new World();
    world.user(deregAfterClose(world));
    world.expectClean(world.run());
    const kinds = new Set([
      'attachment.unmap',
      'attachment.detach',
      'buffer.put',
      'buffer.release',
    ]);
    const order = world.trace.map(({ kind }) => kind).filter((kind) => kinds.has(kind));
    expect(order).toEqual([
      'attachment.unmap',
      'attachment.detach',
      'buffer.put',
      'buffer.release',
      'buffer.release',
    ]);
  });
});

function* deregTwice(world: World): Task {
  const { nic, spdk, kernel } = world;
  const fd = yield* world.exportCmb([{ offset: 0, length: SIZE }]);
  const region = yield* world.register(fd, SIZE);
  const other = new Process(kernel, 'other');
  yield* world.refused(nic.deregMr(other, region));
  yield* nic.closeContext(other);
  yield* nic.deregMr(spdk, region);
  yield* world.refused(nic.deregMr(spdk, region));
  yield* spdk.exit();
}

function* deregAfterClose(world: World): Task {
  const { nic, spdk } = world;
  const fd = yield* world.exportCmb([{ offset: 0, length: SIZE }]);
  const region = yield* world.register(fd, SIZE);
  yield* spdk.close(fd);
  yield* nic.deregMr(spdk, region);
}

describe('closeContext', () => {
  test('deregisters what the process registered, oldest first, and nothing else', () => {
    const world = new World();
    const other = new Process(world.kernel, 'other');
    world.user(twoProcesses(world, other));
    world.expectClean(world.run());
    const detached = eventsOf(world.trace, 'attachment.detach').map(({ attachment }) => attachment);
    expect(detached).toEqual([1, 3, 2]);
  });
});

describe('closeContext and deregMr at once', () => {
  test('deregister each region once, whoever comes first', () => {
    const codes = new Set<unknown>();
    for (let seed = 1; seed <= 300; seed += 1) {
      const world = new World({ isTraced: false });
      const isRegistered = new Completion(world.scheduler, 'registered');
      const isGone = new Completion(world.scheduler, 'gone');
      world.user(registerAndClose(world, isRegistered, isGone));
      world.user(deregBeside(world, isRegistered, isGone), 'helper');
      world.expectClean(world.run(new RandomStrategy(seed)));
      codes.add(world.seen[0]);
    }
    expect([...codes].toSorted()).toEqual(['done', 'mr-is-not-registered']);
  });
});

function* registerAndClose(world: World, isRegistered: Completion, isGone: Completion): Task {
  const { nic, spdk } = world;
  const fd = yield* world.exportCmb([{ offset: 0, length: SIZE }]);
  for (let i = 0; i < 2; i += 1) yield* world.register(fd, SIZE);
  yield* isRegistered.complete();
  yield* nic.closeContext(spdk);
  yield* isGone.wait();
  yield* spdk.exit();
}

function* deregBeside(world: World, isRegistered: Completion, isGone: Completion): Task {
  const { nic, spdk, regions, seen } = world;
  yield* isRegistered.wait();
  try {
    yield* nic.deregMr(spdk, regions[0] as MemoryRegion);
    seen.push('done');
  } catch (error) {
    if (!isDmaBufError(error)) throw error;
    seen.push(error.reason);
  }
  yield* isGone.complete();
}

function* twoProcesses(world: World, other: Process): Task {
  const { nic, spdk, vfio } = world;
  const fd = yield* world.exportCmb([{ offset: 0, length: SIZE }]);
  const theirs = yield* vfio.featureDmaBuf(other, {
    regionIndex: 2,
    ranges: [{ offset: 0, length: SIZE }],
  });
  const request = { fd: theirs, offset: 0, length: SIZE, iova: 0, access: ACCESS_LOCAL_WRITE };
  yield* world.register(fd, SIZE);
  const kept: MemoryRegion = yield* nic.regDmabufMr(other, request);
  yield* world.register(fd, PAGE_SIZE, { mode: 'pinned-revocable' });
  yield* nic.closeContext(spdk);
  yield* nic.deregMr(other, kept);
  yield* other.exit();
  yield* spdk.exit();
}

describe('RdmaNic', () => {
  test.each([0, 1.5, PATH_MTU_MAX + 1])('is not made with a path MTU of %d bytes', (pathMtu) => {
    expect(() => new World({ nicOptions: { pathMtu } })).toThrow(/a path MTU is/);
  });

  test('switches bus mastering on when its driver binds', () => {
    const { nicFn } = new World();
    expect(nicFn.command.value & COMMAND_BUS_MASTER).not.toBe(0);
  });
});
