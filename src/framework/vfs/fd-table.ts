/** File descriptors of a process. @source fs/file.c, v7.2 */

import {
  type Access,
  Cell,
  changeCell,
  lookAtCell,
  type Look,
  PreemptStep,
  type Scheduler,
  wholeCell,
} from '../../machine/index.ts';
import type { KernelFile } from './file.ts';

/** LIMIT: the usual `RLIMIT_NOFILE`. */
export const FD_MAX = 1024;

/** Standard input, output and error are taken. */
const FD_FIRST = 3;

/** One place of the table. */
export interface Descriptor {
  /** Null: the number is reserved, and the file still to come. */
  readonly file: KernelFile | null;
  /** `FD_CLOEXEC`. */
  readonly closeOnExec: boolean;
}

/** How a descriptor is wanted. */
export interface DescriptorOptions {
  /** Default false. */
  readonly closeOnExec?: boolean;
  /** The lowest number that will do. */
  readonly from?: number;
}

type Table = ReadonlyMap<number, Descriptor>;

/** The descriptors of a process. Its value says what stands behind each number in use. */
export class FdTable extends Cell<Table> {
  /** `RLIMIT_NOFILE`: numbers are below. */
  readonly limit: number;

  constructor(scheduler: Scheduler, process: string, limit: number = FD_MAX) {
    super(scheduler, `fds of ${process}`, new Map());
    this.limit = limit;
  }

  /**
   * A step that gives the file the lowest free descriptor and takes the caller's reference.
   *
   * @returns The descriptor; null if the table is full.
   * @source `get_unused_fd_flags()`, `fd_install()`
   */
  install(file: KernelFile, options: DescriptorOptions = {}): PreemptStep<number | null> {
    return new Install(this, file, options);
  }

  /**
   * A step that reserves the lowest free number for a file that {@link fill} brings.
   *
   * @returns The number; null if the table is full.
   * @source `get_unused_fd_flags()`
   */
  reserve(options: DescriptorOptions = {}): PreemptStep<number | null> {
    return new Install(this, null, options);
  }

  /**
   * A step that puts a file behind a reserved number and takes the caller's reference.
   *
   * @source `fd_install()`
   */
  fill(fd: number, file: KernelFile): PreemptStep<void> {
    return changeCell(this, 'fd_install', (table) => {
      const closeOnExec = table.get(fd)?.closeOnExec ?? false;
      return [new Map([...table, [fd, { file, closeOnExec }]]), undefined];
    });
  }

  /**
   * A step that gives a reserved number back.
   *
   * @source `put_unused_fd()`
   */
  unreserve(fd: number): PreemptStep<void> {
    return changeCell(this, 'put_unused_fd', (table) => [without(table, fd), undefined]);
  }

  /**
   * A step that looks a descriptor up and takes a reference on its file.
   *
   * @returns Null if it is not open.
   * @source `fget()`
   */
  fget(fd: number): PreemptStep<KernelFile | null> {
    return new Fget(this, fd);
  }

  /**
   * A step that takes a descriptor out of the table; its reference is the caller's then.
   *
   * @returns Null if it was not open.
   * @source `file_close_fd()`
   */
  remove(fd: number): PreemptStep<KernelFile | null> {
    return changeCell(this, 'close fd', (table) => {
      const file = table.get(fd)?.file ?? null;
      // A number that is only reserved is not open.
      return [file === null ? table : without(table, fd), file];
    });
  }

  /** A step that says whether a descriptor, which is open, survives execve(2). */
  isCloseOnExec(fd: number): PreemptStep<boolean> {
    return lookAtCell(this, 'close_on_exec', (table) => table.get(fd)?.closeOnExec ?? false);
  }

  /**
   * A step that says whether a descriptor shall survive execve(2); nothing if it is not open.
   *
   * @source `set_close_on_exec()`
   */
  setCloseOnExec(fd: number, closeOnExec: boolean): PreemptStep<void> {
    return changeCell(this, 'set_close_on_exec', (table) => {
      const file = table.get(fd)?.file ?? null;
      return [file === null ? table : new Map([...table, [fd, { file, closeOnExec }]]), undefined];
    });
  }

  /**
   * A step that makes this empty table a copy of another, with references of its own. Numbers that
   * are only reserved stay behind.
   *
   * @source `dup_fd()`
   */
  copyFrom(other: FdTable): PreemptStep<void> {
    return new Copy(this, other);
  }
}

function without(table: Table, fd: number): Table {
  return new Map([...table].filter(([other]) => other !== fd));
}

abstract class FdStep<R> extends PreemptStep<R> {
  readonly cell: FdTable;

  constructor(cell: FdTable) {
    super();
    this.cell = cell;
  }

  override accesses(_look: Look): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }
}

class Install extends FdStep<number | null> {
  private readonly file: KernelFile | null;
  private readonly options: DescriptorOptions;

  constructor(cell: FdTable, file: KernelFile | null, options: DescriptorOptions) {
    super(cell);
    this.file = file;
    this.options = options;
  }

  get verb(): string {
    return 'install';
  }

  override failure(): null {
    return null;
  }

  apply(): number | null {
    const { file, options } = this;
    const table = this.cell.value;
    const { closeOnExec = false, from = FD_FIRST } = options;
    for (let fd = Math.max(from, FD_FIRST); fd < this.cell.limit; fd += 1) {
      if (table.has(fd)) continue;
      this.cell.value = new Map([...table, [fd, { file, closeOnExec }]]);
      return fd;
    }
    return null;
  }
}

class Fget extends FdStep<KernelFile | null> {
  private readonly fd: number;

  constructor(cell: FdTable, fd: number) {
    super(cell);
    this.fd = fd;
  }

  get verb(): string {
    return 'fget';
  }

  override accesses(look: Look): readonly Access[] {
    const file = look(this.cell).get(this.fd)?.file ?? null;
    const table = wholeCell(this.cell, 'R');
    return file === null ? [table] : [table, wholeCell(file.refs, 'G')];
  }

  apply(): KernelFile | null {
    const file = this.cell.value.get(this.fd)?.file ?? null;
    // The table owns a reference, so the count is above zero.
    if (file !== null) file.refs.value += 1;
    return file;
  }
}

class Copy extends FdStep<void> {
  private readonly other: FdTable;

  constructor(cell: FdTable, other: FdTable) {
    super(cell);
    this.other = other;
  }

  get verb(): string {
    return 'dup_fd';
  }

  override accesses(look: Look): readonly Access[] {
    const table: Table = look(this.other);
    const files = new Set([...table.values()].flatMap(({ file }) => file ?? []));
    const refs = [...files].map((file) => wholeCell(file.refs, 'G'));
    return [wholeCell(this.cell, 'W'), wholeCell(this.other, 'R'), ...refs];
  }

  apply(): void {
    const open = [...this.other.value].filter(([, { file }]) => file !== null);
    for (const [, { file }] of open) if (file !== null) file.refs.value += 1;
    this.cell.value = new Map(open);
  }
}
