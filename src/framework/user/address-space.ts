/**
 * The address map of a process. Loads and stores go through page tables; a page that is not there
 * faults, and the owner of the map is asked.
 *
 * @source `struct mm_struct`; mm/memory.c, mm/mmap.c, v7.2
 */

import { DmaBufError, PAGE_SIZE, type UserAddr } from '../../base/index.ts';
import { type Machine, RwSemaphore, Shared, type Task } from '../../machine/index.ts';
import { copyOnWrite, copyPages } from './anonymous-memory.ts';
import { Vma, type VmaRequest } from './vma.ts';

/** Where maps are put: upwards from here. No program has a page below, so null pointers fault. */
const MAP_BASE = 0x7f00_0000_0000;

/** LIMIT: `TASK_SIZE` of x86-64: addresses of programs are below. */
export const TASK_SIZE: number = 2 ** 47 - PAGE_SIZE;

/** LIMIT: faults in a row on one page before we take the owner for broken. */
const FAULTS_MAX = 1000;

/** The address map. */
export class AddressSpace {
  readonly machine: Machine;
  /** `mmap_lock`: held for writing while the map changes, for reading in a fault. */
  readonly lock: RwSemaphore;
  /** What is mapped, in no particular order. Guarded by {@link lock}. */
  readonly vmas: Shared<readonly Vma[]>;
  private readonly name: string;
  /** Guarded by {@link lock}. */
  private next = MAP_BASE;

  constructor(machine: Machine, name: string) {
    this.machine = machine;
    this.name = name;
    this.lock = new RwSemaphore(machine.scheduler, `${name} mmap_lock`);
    this.vmas = new Shared<readonly Vma[]>(machine.scheduler, `${name} mm`, []);
  }

  /**
   * Makes a map at a fresh address. `prepare` fills it, and may refuse; then nothing is left. The
   * map takes a reference to its file; who replaces {@link Vma.file} takes care of both.
   *
   * @throws {@link DmaBufError} `ENOMEM` no address is left; what `prepare` says.
   * @context May sleep; takes the mmap lock. `prepare` runs with it held for writing.
   * @source `mmap_region()`
   */
  *map(request: Omit<VmaRequest, 'start'>, prepare: (vma: Vma) => Task): Task<Vma> {
    yield* this.lock.downWrite();
    try {
      const start = this.next as UserAddr;
      if (request.size > TASK_SIZE - start) {
        throw new DmaBufError('ENOMEM', 'mmap', 'no-address-left');
      }
      const vma = new Vma(this.machine, `${this.name} map`, { ...request, start });
      if (vma.file !== null) yield* vma.file.get();
      try {
        yield* prepare(vma);
      } catch (error) {
        yield* vma.zapPages();
        // It may have been replaced.
        if (vma.file !== null) yield* vma.file.put();
        throw error;
      }
      // A page between two maps that nobody has.
      this.next += request.size + PAGE_SIZE;
      yield* this.vmas.write([...(yield* this.vmas.read()), vma]);
      return vma;
    } finally {
      yield* this.lock.upWrite();
    }
  }

  /**
   * Takes all maps in a range away, and drops their files. There may be none.
   *
   * DIFFERS: Linux cuts a map at the ends of the range; here a map goes as a whole or not at all.
   *
   * @param size - Bytes; a multiple of the page size.
   * @throws {@link DmaBufError} `EINVAL` a map lies in the range in part; nothing is done.
   * @context May sleep; takes the mmap lock.
   * @source `do_vmi_munmap()`
   */
  *unmap(start: UserAddr, size: number): Task {
    const end = start + size;
    yield* this.lock.downWrite();
    try {
      const all = yield* this.vmas.read();
      const hit = all.filter((vma) => vma.start < end && start < vma.end);
      if (hit.some((vma) => vma.start < start || vma.end > end)) {
        throw new DmaBufError('EINVAL', 'munmap', 'part-of-a-map', { detail: { start, size } });
      }
      yield* this.vmas.write(all.filter((vma) => !hit.includes(vma)));
      for (const vma of hit) yield* removeVma(vma);
    } finally {
      yield* this.lock.upWrite();
    }
  }

  /**
   * Takes everything away, at the end of the process.
   *
   * @context May sleep; takes the mmap lock.
   * @source `exit_mmap()`
   */
  *unmapAll(): Task {
    if ((yield* this.vmas.read()).length === 0) return;
    yield* this.unmap(0 as UserAddr, TASK_SIZE);
  }

  /**
   * Makes this empty map a copy of another: shared maps show the same pages, what is private is
   * copied.
   *
   * DIFFERS: private pages are copied at once, not when one of the two writes. The difference is
   * seen only by a device that was told to reach such a page and goes on doing so.
   *
   * @throws {@link DmaBufError} `ENOMEM`; {@link unmapAll} removes what was copied.
   * @context May sleep; takes the other's mmap lock.
   * @source `dup_mmap()`
   */
  *copyFrom(other: AddressSpace): Task {
    yield* other.lock.downWrite();
    try {
      this.next = other.next;
      for (const vma of yield* other.vmas.read()) {
        const copy = new Vma(this.machine, `${this.name} map`, vma);
        copy.operations = vma.operations;
        copy.priv = vma.priv;
        if (copy.file !== null) yield* copy.file.get();
        if (copy.operations.open !== undefined) yield* copy.operations.open(copy);
        yield* this.vmas.write([...(yield* this.vmas.read()), copy]);
        yield* copyPages(vma, copy);
      }
    } finally {
      yield* other.lock.upWrite();
    }
  }

  /**
   * A load by the program itself, or by the kernel for it (`copy_from_user()`).
   *
   * DIFFERS: where Linux sends the program `SIGSEGV` or `SIGBUS`, its load fails with `EFAULT`.
   *
   * @param address - As user space gave it: any number.
   * @throws {@link DmaBufError} `EFAULT` nothing is mapped there, or not to be read.
   * @context May sleep in a fault, which takes the mmap lock.
   */
  *load(address: UserAddr, length: number): Task<Uint8Array> {
    // A length that no map has would not even fit into our own memory.
    const reach = yield* this.reach(address, length, false);
    if (reach < length) throw segmentationFault(address + reach);
    const bytes = new Uint8Array(length);
    for (const { at, done, size } of pieces(address, length)) {
      for (let faults = 0; ; faults += 1) {
        const vma = yield* this.find(at, false);
        const piece = yield* vma.loadPage(at - vma.start, size);
        if (piece !== null) {
          bytes.set(piece, done);
          break;
        }
        yield* this.fault(at, false, faults);
      }
    }
    return bytes;
  }

  /**
   * A store by the program itself, or by the kernel for it (`copy_to_user()`).
   *
   * @param address - As user space gave it: any number.
   * @throws {@link DmaBufError} `EFAULT` nothing is mapped there, or not to be written; what lies
   *   before that is written.
   * @context May sleep in a fault, which takes the mmap lock.
   */
  *store(address: UserAddr, bytes: Uint8Array): Task {
    for (const { at, done, size } of pieces(address, bytes.length)) {
      const piece = bytes.subarray(done, done + size);
      for (let faults = 0; ; faults += 1) {
        const vma = yield* this.find(at, true);
        if ((yield* vma.storePage(at - vma.start, piece)) === true) break;
        yield* this.fault(at, true, faults);
      }
    }
  }

  /**
   * How many bytes from an address on lie in maps that allow the access, up to `length`.
   *
   * @context Any.
   * @source `fault_in_readable()`, `fault_in_writeable()`
   */
  *reach(address: UserAddr, length: number, isWrite: boolean): Task<number> {
    const all = (yield* this.vmas.read()).filter((vma) => (isWrite ? vma.write : vma.read));
    let at: number = address;
    while (at < address + length) {
      const vma = all.find(({ start, end }) => at >= start && at < end);
      if (vma === undefined) break;
      at = vma.end;
    }
    return at > address ? Math.min(at - address, length) : 0;
  }

  private *find(address: number, isWrite: boolean): Task<Vma> {
    const all = yield* this.vmas.read();
    const vma = all.find(({ start, end }) => address >= start && address < end);
    if (vma !== undefined && (isWrite ? vma.write : vma.read)) return vma;
    throw segmentationFault(address);
  }

  /** The map is looked up anew: it may have gone since the access. */
  private *fault(address: number, isWrite: boolean, faults: number): Task {
    yield* this.lock.downRead();
    try {
      const vma = yield* this.find(address, isWrite);
      const page = Math.floor((address - vma.start) / PAGE_SIZE);
      const entry = yield* vma.entryAt(page);
      if (entry === null) {
        if (vma.operations.fault === undefined || faults >= FAULTS_MAX) {
          throw new DmaBufError('EFAULT', 'page fault', 'bus-error', { detail: { address } });
        }
        yield* vma.operations.fault(vma, page, isWrite);
      } else if (isWrite && entry.isReadOnly === true) yield* copyOnWrite(vma, page, entry);
    } finally {
      yield* this.lock.upRead();
    }
  }
}

/** The pages first, then the owner hears of it, then the file goes. */
function* removeVma(vma: Vma): Task {
  yield* vma.zapPages();
  if (vma.operations.close !== undefined) yield* vma.operations.close(vma);
  if (vma.file !== null) yield* vma.file.put();
}

function segmentationFault(address: number): DmaBufError {
  return new DmaBufError('EFAULT', 'access', 'segmentation-fault', { detail: { address } });
}

/** A range of addresses, page by page. */
function* pieces(
  address: number,
  length: number,
): Generator<{ readonly at: number; readonly done: number; readonly size: number }> {
  for (let done = 0; done < length;) {
    const at = address + done;
    const size = Math.min(PAGE_SIZE - (at % PAGE_SIZE), length - done);
    yield { at, done, size };
    done += size;
  }
}
