/**
 * Memory that is a file without a name: pages that programs map, write and truncate, and that may
 * be sealed against that. This is the file's inode; descriptors lead to `memfd-file.ts`.
 *
 * @source mm/shmem.c, mm/memfd.c, v7.2; reference/linux-dma-buf.md G.4, E.2
 */

import { DmaBufError, F_SEAL, PAGE_SIZE, type PhysAddr } from '../../base/index.ts';
import { Mutex, RefCount, RwSemaphore, Shared, type Task } from '../../machine/index.ts';
import { type PageList, pageList, pagesOf } from '../dma/page-list.ts';
import type { Kernel } from '../kernel.ts';
import type { Vma } from '../user/vma.ts';

/** Looks for pins that go away, before a seal against writing is refused. */
const PIN_SCANS = 5;
/** Nanoseconds before the second look; they double. */
const PIN_SCAN_NS = 10_000_000;

/** A map of the file. */
interface FileMap {
  readonly vma: Vma;
  /** Shared, and of a descriptor open for writing: it writes, or could be made to. */
  readonly mayWrite: boolean;
}

/** The inode of a memfd. */
export class Memfd {
  readonly kernel: Kernel;
  /** As given to memfd_create(2). */
  readonly name: string;
  readonly ino: number;
  /** With the bits for a regular file. */
  readonly mode: number;
  /** `i_rwsem`: held shared to look at seals and pin, exclusively to write, truncate and seal. */
  readonly lock: RwSemaphore;
  /** Bits of `F_SEAL`. Guarded by {@link lock}. */
  readonly seals: Shared<number>;
  /** Bytes. Changed under {@link lock} and {@link pageLock}. */
  readonly size: Shared<number>;
  /** Open files of it. */
  readonly refs: RefCount;
  /** Guards pages, pins and maps. Taken inside the mmap lock and {@link lock}. */
  private readonly pageLock: Mutex;
  private readonly pages: Shared<ReadonlyMap<number, PhysAddr>>;
  /** Also of pages that are no longer the file's. */
  private readonly pins: Shared<ReadonlyMap<PhysAddr, number>>;
  private readonly maps: Shared<readonly FileMap[]>;

  constructor(kernel: Kernel, name: string, ino: number, mode: number, seals: number) {
    const { scheduler } = kernel;
    const cell = `memfd ${ino}`;
    this.kernel = kernel;
    this.name = name;
    this.ino = ino;
    this.mode = mode;
    this.lock = new RwSemaphore(scheduler, `${cell} i_rwsem`);
    this.seals = new Shared(scheduler, `${cell} seals`, seals);
    this.size = new Shared(scheduler, `${cell} size`, 0);
    this.refs = new RefCount(scheduler, cell);
    this.pageLock = new Mutex(scheduler, `${cell} pages lock`);
    this.pages = new Shared<ReadonlyMap<number, PhysAddr>>(scheduler, `${cell} pages`, new Map());
    this.pins = new Shared<ReadonlyMap<PhysAddr, number>>(scheduler, `${cell} pins`, new Map());
    this.maps = new Shared<readonly FileMap[]>(scheduler, `${cell} maps`, []);
  }

  /**
   * The pages of a range, made if they are holes, which stay where they are until
   * {@link unpinRange}, even if the file is cut or closed. The caller holds {@link lock} shared and
   * has looked at the seals.
   *
   * @param offset - Bytes; a multiple of the page size.
   * @param size - Bytes; a multiple of the page size.
   * @throws {@link DmaBufError} `EINVAL` nothing, or beyond the end of the file; `ENOMEM`. Nothing
   *   is pinned then.
   * @context May sleep. {@link lock} is held.
   * @source `memfd_pin_folios()`
   */
  *pinRange(offset: number, size: number): Task<PageList> {
    yield* this.pageLock.lock();
    try {
      if (size <= 0 || offset < 0 || offset + size > (yield* this.size.read())) {
        throw new DmaBufError('EINVAL', 'pin', 'pinned-range-beyond-the-file');
      }
      const found: PhysAddr[] = [];
      for (let at = offset; at < offset + size; at += PAGE_SIZE) {
        const page = yield* this.pageAt(at / PAGE_SIZE);
        if (page === null) throw noPage();
        found.push(page);
      }
      const pins = new Map(yield* this.pins.read());
      for (const phys of found) pins.set(phys, (pins.get(phys) ?? 0) + 1);
      yield* this.pins.write(pins);
      return pageList(found.map((phys) => ({ phys, size: PAGE_SIZE })));
    } finally {
      yield* this.pageLock.unlock();
    }
  }

  /**
   * Takes pins back. Pages that the file has lost meanwhile are free then.
   *
   * @context May sleep; {@link lock} need not be held.
   * @source `unpin_folio()`
   */
  *unpinRange(list: PageList): Task {
    yield* this.pageLock.lock();
    const pins = new Map(yield* this.pins.read());
    const kept = new Set((yield* this.pages.read()).values());
    const free: PhysAddr[] = [];
    for (const phys of pagesOf(list)) {
      const left = (pins.get(phys) ?? 0) - 1;
      if (left > 0) pins.set(phys, left);
      else {
        pins.delete(phys);
        if (!kept.has(phys)) free.push(phys);
      }
    }
    yield* this.pins.write(pins);
    for (const phys of free) yield* this.kernel.machine.memory.free(phys, 1);
    yield* this.pageLock.unlock();
  }

  /**
   * Adds seals.
   *
   * @throws {@link DmaBufError} `EPERM` sealed against sealing; `EBUSY` against writing while
   *   somebody may write: through a map, or because pages are pinned and stay so.
   * @context May sleep; takes {@link lock}.
   * @source `memfd_add_seals()`
   */
  *addSeals(wanted: number): Task {
    yield* this.lock.downWrite();
    try {
      const seals = yield* this.seals.read();
      if ((seals & F_SEAL.SEAL) !== 0) {
        throw new DmaBufError('EPERM', 'fcntl', 'sealed-against-seals');
      }
      const isProgram = (wanted & F_SEAL.EXEC) !== 0 && (this.mode & 0o111) !== 0;
      const added = isProgram ? wanted | PROGRAM_SEALS : wanted;
      const denies = (added & F_SEAL.WRITE) !== 0 && (seals & F_SEAL.WRITE) === 0;
      if (!denies) yield* this.seals.write(seals | added);
      else yield* this.sealAgainstWriting(seals | added);
    } finally {
      yield* this.lock.upWrite();
    }
  }

  /**
   * Changes the size. What is cut off is gone for maps as well; what is new is zero.
   *
   * @throws {@link DmaBufError} `EPERM` sealed against it.
   * @context May sleep; takes {@link lock}.
   * @source `shmem_setattr()`
   */
  *truncate(size: number): Task {
    yield* this.lock.downWrite();
    try {
      const before = yield* this.size.read();
      const seal = size < before ? F_SEAL.SHRINK : size > before ? F_SEAL.GROW : 0;
      if (((yield* this.seals.read()) & seal) !== 0) {
        throw new DmaBufError('EPERM', 'ftruncate', 'sealed-against-this-size');
      }
      yield* this.pageLock.lock();
      yield* this.size.write(size);
      if (size < before) yield* this.dropPages(size);
      yield* this.pageLock.unlock();
    } finally {
      yield* this.lock.upWrite();
    }
  }

  /**
   * Bytes of the file, up to its end. Holes are zero, and stay holes.
   *
   * @context May sleep.
   * @source `shmem_file_read_iter()`
   */
  *readAt(offset: number, length: number): Task<Uint8Array> {
    const { cpu } = this.kernel.machine;
    const end = Math.min(offset + length, yield* this.size.read());
    const bytes = new Uint8Array(Math.max(end - offset, 0));
    for (let at = offset; at < end;) {
      const inPage = at % PAGE_SIZE;
      const size = Math.min(PAGE_SIZE - inPage, end - at);
      yield* this.pageLock.lock();
      const page = (yield* this.pages.read()).get((at - inPage) / PAGE_SIZE);
      if (page !== undefined) {
        bytes.set(yield* cpu.load((page + inPage) as PhysAddr, size), at - offset);
      }
      yield* this.pageLock.unlock();
      at += size;
    }
    return bytes;
  }

  /**
   * Writes bytes; the file grows as needed.
   *
   * @returns How many were written.
   * @throws {@link DmaBufError} `EPERM` sealed against it; `ENOMEM` for the first byte.
   * @context May sleep; takes {@link lock}.
   * @source `shmem_file_write_iter()`
   */
  *writeAt(offset: number, bytes: Uint8Array): Task<number> {
    yield* this.lock.downWrite();
    try {
      const seals = yield* this.seals.read();
      const grows = offset + bytes.length > (yield* this.size.read());
      const sealed = grows ? WRITE_SEALS | F_SEAL.GROW : WRITE_SEALS;
      if ((seals & sealed) !== 0) {
        throw new DmaBufError('EPERM', 'write', 'sealed-against-writing');
      }
      let done = 0;
      while (done < bytes.length) {
        const size = yield* this.writePage(offset + done, bytes.subarray(done));
        if (size === 0) break;
        done += size;
      }
      if (done < bytes.length && done === 0) throw noPage();
      return done;
    } finally {
      yield* this.lock.upWrite();
    }
  }

  /**
   * A map of the file begins. Its pages come when they are touched.
   *
   * @param canWrite - The descriptor was open for writing.
   * @throws {@link DmaBufError} `EPERM` a shared map would write in spite of a seal.
   * @context May sleep. The process's mmap lock is held for writing.
   * @source `shmem_mmap()`, `memfd_check_seals_mmap()`
   */
  *addMap(vma: Vma, canWrite: boolean): Task {
    yield* this.pageLock.lock();
    try {
      const isSealed = ((yield* this.seals.read()) & WRITE_SEALS) !== 0;
      if (isSealed && vma.isShared && vma.write) {
        throw new DmaBufError('EPERM', 'mmap', 'sealed-against-writing-maps');
      }
      const mayWrite = vma.isShared && canWrite && !isSealed;
      yield* this.maps.write([...(yield* this.maps.read()), { vma, mayWrite }]);
    } finally {
      yield* this.pageLock.unlock();
    }
  }

  /**
   * A map was copied by a fork.
   *
   * @context May sleep. The parent's mmap lock is held.
   */
  *copyMap(vma: Vma): Task {
    yield* this.pageLock.lock();
    const maps = yield* this.maps.read();
    const mayWrite =
      vma.isShared && maps.some((one) => one.mayWrite && one.vma.start === vma.start);
    yield* this.maps.write([...maps, { vma, mayWrite }]);
    yield* this.pageLock.unlock();
  }

  /**
   * A map ends.
   *
   * @context May sleep. The process's mmap lock is held.
   */
  *removeMap(vma: Vma): Task {
    yield* this.pageLock.lock();
    yield* this.maps.write((yield* this.maps.read()).filter((one) => one.vma !== vma));
    yield* this.pageLock.unlock();
  }

  /**
   * Fills one page of a map in.
   *
   * @throws {@link DmaBufError} `EFAULT` beyond the end of the file: a bus error; `ENOMEM`.
   * @context May sleep. The process's mmap lock is held.
   * @source `shmem_fault()`
   */
  *fault(vma: Vma, page: number): Task {
    yield* this.pageLock.lock();
    try {
      const index = vma.pgoff + page;
      if (index * PAGE_SIZE >= (yield* this.size.read())) {
        throw new DmaBufError('EFAULT', 'page fault', 'beyond-the-end-of-the-memfd');
      }
      const phys = yield* this.pageAt(index);
      if (phys === null) throw noPage();
      yield* vma.insertPages(page, [{ phys, kind: 'ram' }]);
    } finally {
      yield* this.pageLock.unlock();
    }
  }

  /**
   * An open file of it ends; after the last one the pages go back, but for pinned ones.
   *
   * @context May sleep; no lock held.
   * @source `shmem_evict_inode()`
   */
  *put(): Task {
    if (!(yield* this.refs.put())) return;
    yield* this.pageLock.lock();
    yield* this.dropPages(0);
    yield* this.pageLock.unlock();
  }

  /** Writes up to the end of a page. 0: there was no memory for the page. */
  private *writePage(offset: number, bytes: Uint8Array): Task<number> {
    const inPage = offset % PAGE_SIZE;
    const piece = bytes.subarray(0, PAGE_SIZE - inPage);
    yield* this.pageLock.lock();
    const page = yield* this.pageAt((offset - inPage) / PAGE_SIZE);
    if (page !== null) {
      yield* this.kernel.machine.cpu.store((page + inPage) as PhysAddr, piece);
      const size = yield* this.size.read();
      if (offset + piece.length > size) yield* this.size.write(offset + piece.length);
    }
    yield* this.pageLock.unlock();
    return page === null ? 0 : piece.length;
  }

  /** The page, made if there is none; null: no memory. The page lock is held. */
  private *pageAt(index: number): Task<PhysAddr | null> {
    const pages = yield* this.pages.read();
    const known = pages.get(index);
    if (known !== undefined) return known;
    const phys = yield* this.kernel.machine.memory.allocate(1);
    if (phys === null) return null;
    yield* this.pages.write(new Map([...pages, [index, phys]]));
    return phys;
  }

  /** Cuts everything from `size` on off. The page lock is held. */
  private *dropPages(size: number): Task {
    const { cpu, memory } = this.kernel.machine;
    const left = Math.ceil(size / PAGE_SIZE);
    for (const { vma } of yield* this.maps.read()) {
      const first = Math.max(left - vma.pgoff, 0);
      if (first < vma.pages) yield* vma.zapPages(first);
    }
    const pages = yield* this.pages.read();
    const pins = yield* this.pins.read();
    yield* this.pages.write(new Map([...pages].filter(([index]) => index < left)));
    for (const [index, phys] of pages) {
      if (index >= left && !pins.has(phys)) yield* memory.free(phys, 1);
    }
    // What is behind the end must be zero when the file grows again.
    const tail = pages.get(left - 1);
    const inPage = size % PAGE_SIZE;
    if (tail !== undefined && inPage > 0) {
      yield* cpu.store((tail + inPage) as PhysAddr, new Uint8Array(PAGE_SIZE - inPage));
    }
  }

  /** Seals are set first, so that no new map may write; the lock is held for writing. */
  private *sealAgainstWriting(seals: number): Task {
    const before = yield* this.seals.read();
    yield* this.pageLock.lock();
    const isMapped = (yield* this.maps.read()).some(({ mayWrite }) => mayWrite);
    if (!isMapped) yield* this.seals.write(seals);
    yield* this.pageLock.unlock();
    if (!isMapped && (yield* this.waitForPins())) return;
    yield* this.seals.write(before);
    throw isMapped ? mapped() : pinned();
  }

  /** True if no page is pinned, or soon none is. */
  private *waitForPins(): Task<boolean> {
    for (let scan = 0; scan < PIN_SCANS; scan += 1) {
      if (scan > 0) yield* this.kernel.scheduler.sleep(PIN_SCAN_NS * 2 ** (scan - 1));
      const pins = yield* this.pins.read();
      const pages = yield* this.pages.read();
      if (![...pages.values()].some((phys) => pins.has(phys))) return true;
    }
    return false;
  }
}

/** Seals that forbid to write. */
const WRITE_SEALS = F_SEAL.WRITE | F_SEAL.FUTURE_WRITE;

/** What sealing a program against losing its execute bits implies. */
const PROGRAM_SEALS = F_SEAL.SHRINK | F_SEAL.GROW | WRITE_SEALS;

function noPage(): DmaBufError {
  return new DmaBufError('ENOMEM', 'shmem', 'no-page-left-for-a-memfd');
}

function mapped(): DmaBufError {
  return new DmaBufError('EBUSY', 'fcntl', 'a-map-may-still-write');
}

function pinned(): DmaBufError {
  return new DmaBufError('EBUSY', 'fcntl', 'pages-are-still-pinned');
}
