/** File descriptors of a process. @source fs/file.c */

import {
  type Access,
  Cell,
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

/** The descriptors of a process. Its value maps each open one to its file. */
export class FdTable extends Cell<ReadonlyMap<number, KernelFile>> {
  constructor(scheduler: Scheduler, process: string) {
    super(scheduler, `fds of ${process}`, new Map());
  }

  /**
   * A step that gives the file the lowest free descriptor and takes the caller's reference.
   *
   * @returns The descriptor; null if the table is full.
   * @source `get_unused_fd_flags()`, `fd_install()`
   */
  install(file: KernelFile): PreemptStep<number | null> {
    return new Install(this, file);
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
    return new Remove(this, fd);
  }
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
  private readonly file: KernelFile;

  constructor(cell: FdTable, file: KernelFile) {
    super(cell);
    this.file = file;
  }

  get verb(): string {
    return 'install';
  }

  override failure(): null {
    return null;
  }

  apply(): number | null {
    const table = this.cell.value;
    for (let fd = FD_FIRST; fd < FD_MAX; fd += 1) {
      if (table.has(fd)) continue;
      this.cell.value = new Map([...table, [fd, this.file]]);
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
    const file = look(this.cell).get(this.fd);
    const table = wholeCell(this.cell, 'R');
    return file === undefined ? [table] : [table, wholeCell(file.refs, 'G')];
  }

  apply(): KernelFile | null {
    const file = this.cell.value.get(this.fd) ?? null;
    // The table owns a reference, so the count is above zero.
    if (file !== null) file.refs.value += 1;
    return file;
  }
}

class Remove extends FdStep<KernelFile | null> {
  private readonly fd: number;

  constructor(cell: FdTable, fd: number) {
    super(cell);
    this.fd = fd;
  }

  get verb(): string {
    return 'close fd';
  }

  apply(): KernelFile | null {
    const table = this.cell.value;
    const file = table.get(this.fd);
    if (file === undefined) return null;
    this.cell.value = new Map([...table].filter(([fd]) => fd !== this.fd));
    return file;
  }
}
