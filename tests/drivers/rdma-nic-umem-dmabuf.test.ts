/** Dma-bufs as user memory, against an exporter of plain memory that counts what is asked of it. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DmaBufError, type DmaDirection, dmaAddr, PAGE_SIZE } from '../../src/base/index.ts';
import { type RevokeCallback, UmemDmabuf } from '../../src/drivers/rdma-nic/umem-dmabuf.ts';
import {
  type Attachment,
  type AttachOps,
  DmaBuf,
  type DmaBufOps,
  DmaFence,
  type Kernel,
  KernelFile,
  type Process,
  type SgEntry,
  type SgTable,
} from '../../src/framework/index.ts';
import { Completion, type Task } from '../../src/machine/index.ts';
import { eventsOf, World } from './rdma-nic-world.ts';

/** Pages in each piece of the memory that a {@link FakeExporter} lends. */
const PIECES: readonly number[] = [2, 1, 3];
const SIZE: number = PIECES.reduce((sum, pages) => sum + pages, 0) * PAGE_SIZE;

/** Lends memory that nobody has: pieces far from each other, at made-up addresses. */
class FakeExporter implements DmaBufOps<FakeExporter> {
  pins = 0;
  maps = 0;
  /** Tables handed out, frozen: an importer that edits one is found. */
  readonly tables: SgTable[] = [];
  readonly entries: readonly SgEntry[];
  readonly size: number;

  constructor(pieces: readonly number[] = PIECES) {
    this.entries = pieces.map((pages, i) =>
      Object.freeze({ address: dmaAddr((i + 1) * 2 ** 32), length: pages * PAGE_SIZE }),
    );
    this.size = pieces.reduce((sum, pages) => sum + pages, 0) * PAGE_SIZE;
  }

  *export(kernel: Kernel, process: Process): Task<number> {
    const { size } = this;
    const buf = yield* DmaBuf.export(kernel, { exporterName: 'fake', ops: this, size, priv: this });
    return yield* buf.fd(process);
  }

  *pin(): Task {
    this.pins += 1;
  }

  *unpin(): Task {
    this.pins -= 1;
  }

  *mapDmaBuf(_attachment: Attachment<FakeExporter>, direction: DmaDirection): Task<SgTable> {
    expect(direction).toBe('bidirectional');
    this.maps += 1;
    const table = Object.freeze({ entries: Object.freeze([...this.entries]) });
    this.tables.push(table);
    return table;
  }

  *unmapDmaBuf(_attachment: Attachment<FakeExporter>, table: SgTable): Task {
    expect(table).toBe(this.tables.at(-1));
    this.maps -= 1;
  }

  *release(): Task {
    expect([this.pins, this.maps]).toEqual([0, 0]);
  }
}

const FOLLOWS: AttachOps = { allowPeer2Peer: true, *invalidateMappings(): Task {} };

function nameOf({ code, reason }: DmaBufError): string {
  return `${code} ${reason}`;
}

/** Runs `task` as a system call of a world without anything else, and expects a clean end. */
function runAlone(world: World, task: Task): void {
  world.user(thenExit(world, task));
  world.expectClean(world.run());
}

function* thenExit({ spdk }: World, task: Task): Task {
  yield* spdk.syscall(task);
  yield* spdk.exit();
}

describe('get', () => {
  function* wrongWindows(world: World): Task {
    const { nicFn, spdk, kernel } = world;
    const fd = yield* new FakeExporter().export(kernel, spdk);
    const windows = [
      [0, Number.MAX_SAFE_INTEGER + 1],
      [Number.MAX_SAFE_INTEGER, 1],
      [-1, 8],
      [8, -8],
      [0, SIZE + 1],
      [SIZE, 1],
      [SIZE, 0],
    ] as const;
    for (const [offset, size] of windows) {
      const window = { process: spdk, fd, offset, size };
      yield* world.refused(UmemDmabuf.get(nicFn, window, FOLLOWS, null));
    }
  }

  test('fails with EINVAL for a window that overflows, sticks out or is empty (F.1)', () => {
    const world = new World();
    runAlone(world, wrongWindows(world));
    expect((world.seen as DmaBufError[]).map(nameOf)).toEqual([
      ...new Array(4).fill('EINVAL umem-window-overflows'),
      'EINVAL umem-window-ends-beyond-the-buffer',
      'EINVAL umem-window-ends-beyond-the-buffer',
      'EINVAL umem-window-is-empty',
    ]);
    expect((world.seen[4] as DmaBufError).detail).toEqual({ offset: 0, size: SIZE + 1 });
  });

  function* wrongFiles(world: World): Task {
    const { nicFn, spdk, kernel } = world;
    const other = new KernelFile(kernel, 'eventfd', { *release(): Task {} });
    const fd = (yield* spdk.fds.install(other)) as number;
    for (const wrong of [fd + 1, fd]) {
      const window = { process: spdk, fd: wrong, offset: 0, size: 1 };
      yield* world.refused(UmemDmabuf.get(nicFn, window, FOLLOWS, null));
    }
  }

  test('fails with EBADF for no file and with EINVAL for another kind of file (F.1)', () => {
    const world = new World();
    runAlone(world, wrongFiles(world));
    expect((world.seen as DmaBufError[]).map(nameOf)).toEqual([
      'EBADF descriptor-is-not-open',
      'EINVAL descriptor-is-no-dma-buf',
    ]);
  });

  function* getAndRelease({ nicFn, spdk, kernel, seen }: World, fake: FakeExporter): Task {
    const fd = yield* fake.export(kernel, spdk);
    const window = { process: spdk, fd, offset: 5, size: 6 };
    const umem = yield* UmemDmabuf.get(nicFn, window, FOLLOWS, 'mine');
    yield* spdk.close(fd);
    const [attachment] = umem.dmabuf.attachments.value;
    seen.push(attachment?.importerPriv === umem, umem.priv, fake.maps);
    yield* umem.release();
  }

  test('attaches and maps nothing yet (F.1)', () => {
    const world = new World();
    runAlone(world, getAndRelease(world, new FakeExporter()));
    expect(world.seen).toEqual([true, 'mine', 0]);
    expect(eventsOf(world.trace, 'attachment.attach')).toMatchObject([{ peer2peer: true }]);
  });
});

describe('mapPages', () => {
  function* mapWindow(
    { nicFn, spdk, kernel, seen }: World,
    fake: FakeExporter,
    [offset, size]: readonly [number, number],
  ): Task {
    const fd = yield* fake.export(kernel, spdk);
    const umem = yield* UmemDmabuf.get(nicFn, { process: spdk, fd, offset, size }, FOLLOWS, null);
    yield* umem.resv.lock();
    const entries = yield* umem.mapPages();
    const again = yield* umem.mapPages();
    seen.push(entries, again === entries, fake.maps);
    yield* umem.unmapPages();
    yield* umem.unmapPages();
    seen.push(yield* umem.mappedEntries(), fake.maps);
    yield* umem.resv.unlock();
    yield* umem.release();
  }

  test('gives the pages of the window, once, and leaves the exporter’s table alone (F.1)', () => {
    const world = new World();
    const fake = new FakeExporter();
    runAlone(world, mapWindow(world, fake, [PAGE_SIZE + 1, 3 * PAGE_SIZE]));
    const [entries, isSame, maps, unmapped, left] = world.seen;
    expect(entries).toEqual([
      { address: 2 ** 32 + PAGE_SIZE, length: PAGE_SIZE },
      { address: 2 * 2 ** 32, length: PAGE_SIZE },
      { address: 3 * 2 ** 32, length: 2 * PAGE_SIZE },
    ]);
    expect([isSame, maps, unmapped, left]).toEqual([true, 1, [], 0]);
    expect(fake.tables).toEqual([{ entries: fake.entries }]);
  });

  test('of any window gives just the pages that it touches, in order (F.1)', () => {
    const pieces = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 5 });
    const places = fc.tuple(fc.nat({ max: 999 }), fc.nat({ max: 1000 }));
    fc.assert(
      fc.property(pieces, places, (each, [start, part]) => {
        const world = new World({ isTraced: false });
        const fake = new FakeExporter(each);
        const offset = Math.floor((start / 1000) * fake.size);
        const size = Math.max(1, Math.floor((part / 1000) * (fake.size - offset)));
        runAlone(world, mapWindow(world, fake, [offset, size]));
        expect(pagesOf(world.seen[0] as SgEntry[])).toEqual(
          pagesOf(fake.entries).slice(
            Math.floor(offset / PAGE_SIZE),
            Math.ceil((offset + size) / PAGE_SIZE),
          ),
        );
      }),
      { numRuns: 200 },
    );
  });

  function* mapDuringMove(world: World, moved: DmaFence): Task {
    const { nicFn, spdk, kernel } = world;
    const fd = yield* new FakeExporter().export(kernel, spdk);
    const umem = yield* UmemDmabuf.get(
      nicFn,
      { process: spdk, fd, offset: 0, size: 1 },
      FOLLOWS,
      0,
    );
    yield* umem.resv.lock();
    yield* umem.resv.reserveFences(1);
    yield* umem.resv.addFence(moved, 'kernel');
    yield* umem.mapPages();
    yield* umem.resv.unlock();
    yield* umem.release();
  }

  function* finishMove(moved: DmaFence, { scheduler }: World): Task {
    yield* scheduler.sleep(1000);
    yield* moved.signal();
  }

  test('waits until a move under way is over (F.1)', () => {
    const world = new World();
    const origin = { driver: 'fake', timeline: 'moves', context: 1, seqno: 1 };
    const moved = new DmaFence(world.kernel, origin);
    world.scheduler.spawn(finishMove(moved, world), { name: 'mover', role: 'device' });
    runAlone(world, mapDuringMove(world, moved));
    const [signal] = eventsOf(world.trace, 'fence.signal');
    const [end] = eventsOf(world.trace, 'fence.wait').filter(({ phase }) => phase === 'end');
    expect(end?.t).toBe(1000);
    expect(end?.seq).toBeGreaterThan(signal?.seq ?? Number.POSITIVE_INFINITY);
  });
});

function pagesOf(entries: readonly SgEntry[]): readonly number[] {
  return entries.flatMap(({ address, length }) =>
    Array.from({ length: length / PAGE_SIZE }, (_, i) => address + i * PAGE_SIZE),
  );
}

describe('getPinned', () => {
  function* pinAndRelease({ nicFn, spdk, kernel, seen }: World, fake: FakeExporter): Task {
    const fd = yield* fake.export(kernel, spdk);
    const umem = yield* UmemDmabuf.getPinned(nicFn, { process: spdk, fd, offset: 0, size: 1 }, 0);
    const [attachment] = umem.dmabuf.attachments.value;
    seen.push(fake.pins, fake.maps, attachment?.isRevocable, yield* umem.mappedEntries());
    yield* umem.release();
    seen.push(fake.pins, fake.maps);
  }

  test('pins and maps until the release, and is not revocable (F.1)', () => {
    const world = new World();
    runAlone(world, pinAndRelease(world, new FakeExporter()));
    const page = [{ address: 2 ** 32, length: PAGE_SIZE }];
    expect(world.seen).toEqual([1, 1, false, page, 0, 0]);
  });
});

describe('getPinnedRevocableAndLock', () => {
  function* pin({ nicFn, spdk, kernel }: World, fake: FakeExporter): Task<UmemDmabuf<number>> {
    const fd = yield* fake.export(kernel, spdk);
    const window = { process: spdk, fd, offset: 0, size: 1 };
    return yield* UmemDmabuf.getPinnedRevocableAndLock(nicFn, window, 0);
  }

  function* revokeTwice(world: World, fake: FakeExporter, onRevoke: RevokeCallback): Task {
    const { seen } = world;
    const umem = yield* pin(world, fake);
    yield* umem.setRevokeLocked(onRevoke);
    yield* umem.dmabuf.invalidateMappings();
    yield* umem.dmabuf.invalidateMappings();
    seen.push(fake.pins, fake.maps);
    yield* world.refused(umem.mapPages());
    yield* umem.resv.unlock();
    yield* umem.release();
    seen.push(fake.pins, fake.maps);
  }

  test('gives the memory up for good when it is revoked, and tells the driver once (F.1)', () => {
    const world = new World();
    let told = 0;
    runAlone(
      world,
      revokeTwice(world, new FakeExporter(), function* () {
        told += 1;
        return true;
      }),
    );
    const [pins, maps, error, ...left] = world.seen;
    expect([told, pins, maps, left]).toEqual([1, 0, 0, [0, 0]]);
    expect(nameOf(error as DmaBufError)).toBe('EINVAL umem-is-revoked');
  });

  test('keeps mapping and pin while the driver says that accesses are under way', () => {
    const world = new World();
    runAlone(
      world,
      revokeTwice(world, new FakeExporter(), function* () {
        return false;
      }),
    );
    const [pins, maps, , ...left] = world.seen;
    expect([pins, maps, left]).toEqual([1, 1, [0, 0]]);
  });

  function* revokeBeforePin(world: World, fake: FakeExporter, exported: Completion): Task {
    const { kernel, spdk, nicFn } = world;
    const fd = yield* fake.export(kernel, spdk);
    world.seen.push(yield* world.bufferOf(fd));
    yield* exported.complete();
    const window = { process: spdk, fd, offset: 0, size: 1 };
    const error = yield* world.refused(UmemDmabuf.getPinnedRevocableAndLock(nicFn, window, 0));
    world.seen.push(nameOf(error));
  }

  function* revokeWhenAttached({ seen }: World, exported: Completion): Task {
    yield* exported.wait();
    const dmabuf = seen[0] as DmaBuf;
    yield* dmabuf.attachments.until((attachments) => attachments.length > 0);
    yield* dmabuf.resv.lock();
    yield* dmabuf.invalidateMappings();
    yield* dmabuf.resv.unlock();
  }

  test('fails with EINVAL if the revocation comes between attach and pin (F.1)', () => {
    const world = new World();
    const exported = new Completion(world.scheduler, 'exported');
    world.scheduler.spawn(revokeWhenAttached(world, exported), { name: 'owner', role: 'kernel' });
    world.user(thenExit(world, revokeBeforePin(world, new FakeExporter(), exported)));
    // The thread that owns the memory goes first whenever it can.
    const owner = world.scheduler.actors.findIndex(({ name }) => name === 'owner');
    world.expectClean(
      world.run({
        name: 'owner first',
        pick: (enabled) =>
          Math.max(
            0,
            enabled.findIndex(({ index }) => index === owner),
          ),
      }),
    );
    expect(world.seen.at(-1)).toBe('EINVAL umem-is-revoked');
  });
});
