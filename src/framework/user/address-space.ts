/**
 * The address map of a process. Loads and stores go through page tables; a page that is not there
 * faults, and the owner of the map is asked.
 *
 * @source `struct mm_struct`; mm/memory.c, v7.2
 */

import { DmaBufError, PAGE_SIZE, type UserAddr, userAddr } from '../../base/index.ts';
import { type Machine, RwSemaphore, Shared, type Task } from '../../machine/index.ts';
import { Vma, type VmaRequest } from './vma.ts';

/** Where maps are put: upwards from here. No program has a page below, so null pointers fault. */
const MAP_BASE = 0x7f00_0000_0000;

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
  private next = MAP_BASE;

  constructor(machine: Machine, name: string) {
    this.machine = machine;
    this.name = name;
    this.lock = new RwSemaphore(machine.scheduler, `${name} mmap_lock`);
    this.vmas = new Shared<readonly Vma[]>(machine.scheduler, `${name} mm`, []);
  }

  /**
   * Makes a map at a fresh address. `prepare` fills it, and may refuse; then nothing is left.
   *
   * @context May sleep; takes the mmap lock. `prepare` runs with it held for writing.
   */
  *map(request: Omit<VmaRequest, 'start'>, prepare: (vma: Vma) => Task): Task<Vma> {
    yield* this.lock.downWrite();
    try {
      const start = userAddr(this.next);
      // A page between two maps that nobody has.
      this.next += request.size + PAGE_SIZE;
      const vma = new Vma(this.machine, `${this.name} map`, { ...request, start });
      yield* prepare(vma);
      yield* this.vmas.write([...(yield* this.vmas.read()), vma]);
      return vma;
    } finally {
      yield* this.lock.upWrite();
    }
  }

  /**
   * Takes a whole map away.
   *
   * @throws {@link DmaBufError} `EINVAL` no map begins there.
   * @context May sleep; takes the mmap lock.
   * @returns The map; its file reference is the caller's to drop.
   */
  *unmap(start: UserAddr): Task<Vma> {
    yield* this.lock.downWrite();
    try {
      const all = yield* this.vmas.read();
      const vma = all.find((one) => one.start === start);
      if (vma === undefined) throw new DmaBufError('EINVAL', 'munmap', 'no-map-begins-there');
      yield* this.vmas.write(all.filter((one) => one !== vma));
      if (vma.operations.close !== undefined) yield* vma.operations.close(vma);
      yield* vma.zapPages();
      return vma;
    } finally {
      yield* this.lock.upWrite();
    }
  }

  /**
   * A load by the program itself, or by the kernel for it (`copy_from_user()`).
   *
   * @throws {@link DmaBufError} `EFAULT` nothing is mapped there, or not to be read.
   * @context May sleep in a fault, which takes the mmap lock.
   */
  *load(address: UserAddr, length: number): Task<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (const { at, done, size } of pieces(address, length)) {
      const vma = yield* this.find(at, false);
      const offset = at - vma.start;
      for (let faults = 0; ; faults += 1) {
        const piece = yield* vma.loadPage(offset, size);
        if (piece !== null) {
          bytes.set(piece, done);
          break;
        }
        yield* this.fault(vma, offset, false, faults);
      }
    }
    return bytes;
  }

  /**
   * A store by the program itself, or by the kernel for it (`copy_to_user()`).
   *
   * @throws {@link DmaBufError} `EFAULT` nothing is mapped there, or not to be written; what lies
   *   before that is written.
   * @context May sleep in a fault, which takes the mmap lock.
   */
  *store(address: UserAddr, bytes: Uint8Array): Task {
    for (const { at, done, size } of pieces(address, bytes.length)) {
      const vma = yield* this.find(at, true);
      const offset = at - vma.start;
      for (let faults = 0; ; faults += 1) {
        if ((yield* vma.storePage(offset, bytes.subarray(done, done + size))) === true) break;
        yield* this.fault(vma, offset, true, faults);
      }
    }
  }

  private *find(address: number, isWrite: boolean): Task<Vma> {
    const all = yield* this.vmas.read();
    const vma = all.find(({ start, size }) => address >= start && address < start + size);
    if (vma !== undefined && (isWrite ? vma.write : vma.read)) return vma;
    throw new DmaBufError('EFAULT', 'access', 'segmentation-fault', { detail: { address } });
  }

  private *fault(vma: Vma, offset: number, isWrite: boolean, faults: number): Task {
    const { operations } = vma;
    if (operations.fault === undefined || faults >= FAULTS_MAX) {
      throw new DmaBufError('EFAULT', 'page fault', 'bus-error', { detail: { offset } });
    }
    yield* this.lock.downRead();
    try {
      yield* operations.fault(vma, Math.floor(offset / PAGE_SIZE), isWrite);
    } finally {
      yield* this.lock.upRead();
    }
  }
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
