/**
 * The system calls as the simulated kernel answers them: what holds for every kind of file is here,
 * the rest is the file's own.
 *
 * @source fs/open.c, fs/read_write.c, fs/ioctl.c, fs/fcntl.c, net/socket.c, v7.2
 */

import {
  assert,
  DmaBufError,
  F,
  FD_CLOEXEC,
  MAP,
  MFD,
  O,
  PROT,
  type UserAddr,
} from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { FileStat, KernelFile } from '../vfs/file.ts';
import {
  addSeals,
  checkMemfdArguments,
  getSeals,
  memfdCreate,
  truncateFile,
} from '../vfs/memfd-file.ts';
import { mmap, munmap } from './mmap.ts';
import { pollFiles } from './poll.ts';
import { fileText, linkText, openPath } from './paths.ts';
import { statOf } from './proc-fd.ts';
import type { Process } from './process.ts';
import { receiveMessage, sendMessage, socketpair } from './socket-calls.ts';
import type { MmapRequest, PollRequest, ReceivedMessage, Sys } from './sys.ts';

/** Requests that every file takes: the descriptor shall not, or shall, survive execve(2). */
const FIOCLEX = 0x5451;
const FIONCLEX = 0x5450;

/** LIMIT: the last whence that has a meaning, `SEEK_HOLE`. */
const SEEK_MAX = 4;

/** The system calls of one process. */
export class ModelSys implements Sys {
  readonly process: Process;
  private isOver = false;

  constructor(process: Process) {
    this.process = process;
  }

  /** @context User mode. */
  *alloc(length: number): Task<UserAddr> {
    const flags = MAP.PRIVATE | MAP.ANONYMOUS;
    const prot = PROT.READ | PROT.WRITE;
    return yield* this.call(mmap(this.process, { length, prot, flags, fd: -1, offset: 0 }));
  }

  /** @context User mode; no system call, so a signal waits. */
  *load(address: UserAddr, length: number): Task<Uint8Array> {
    this.assertAlive();
    return yield* this.process.mm.load(address, length);
  }

  /** @context User mode. */
  *store(address: UserAddr, bytes: Uint8Array): Task {
    this.assertAlive();
    yield* this.process.mm.store(address, bytes);
  }

  /** @context User mode. */
  *open(path: string, flags: number): Task<number> {
    return yield* this.call(this.installNew(openPath(this.process, path, flags), 'open', flags));
  }

  /** @context User mode. */
  *close(fd: number): Task {
    yield* this.process.close(fd);
  }

  /** @context User mode. */
  *dup(fd: number): Task<number> {
    return yield* this.process.dup(fd);
  }

  /** @context User mode. */
  *ioctl(fd: number, request: number, arg: number): Task<number> {
    return yield* this.call(this.doIoctl(fd, request >>> 0, arg));
  }

  /** @context User mode. */
  *mmap(request: MmapRequest): Task<UserAddr> {
    return yield* this.call(mmap(this.process, request));
  }

  /** @context User mode. */
  *munmap(address: UserAddr, length: number): Task {
    yield* this.call(munmap(this.process, address, length));
  }

  /** @context User mode. */
  *poll(requests: readonly PollRequest[], timeoutMs: number): Task<readonly number[]> {
    return yield* this.call(pollFiles(this.process, requests, timeoutMs));
  }

  /** @context User mode. */
  *lseek(fd: number, offset: number, whence: number): Task<number> {
    return yield* this.call(this.doSeek(fd, offset, whence));
  }

  /** @context User mode. */
  *read(fd: number, address: UserAddr, length: number): Task<number> {
    return yield* this.call(this.doRead(fd, address, length));
  }

  /** @context User mode. */
  *write(fd: number, address: UserAddr, length: number): Task<number> {
    return yield* this.call(this.doWrite(fd, address, length));
  }

  /** @context User mode. */
  *fstat(fd: number): Task<FileStat> {
    return yield* this.call(this.stat(fd, 'fstat'));
  }

  /** @context User mode. */
  *fstatfs(fd: number): Task<number> {
    return (yield* this.call(this.stat(fd, 'fstatfs'))).magic;
  }

  /** @context User mode. */
  *ftruncate(fd: number, length: number): Task {
    yield* this.call(this.doTruncate(fd, length));
  }

  /** @context User mode. */
  *fcntl(fd: number, command: number, arg: number): Task<number> {
    return yield* this.call(this.doFcntl(fd, command, arg));
  }

  /** @context User mode. */
  *memfdCreate(name: string, flags: number): Task<number> {
    return yield* this.call(this.makeMemfd(name, flags));
  }

  /** @context User mode. */
  *socketpair(): Task<readonly [number, number]> {
    return yield* this.call(socketpair(this.process));
  }

  /** @context User mode. */
  *sendmsg(fd: number, bytes: Uint8Array, fds: readonly number[], flags = 0): Task<number> {
    return yield* this.call(sendMessage(this.process, fd, bytes, fds, flags));
  }

  /** @context User mode. */
  *recvmsg(fd: number, length: number, fdsMax: number, flags = 0): Task<ReceivedMessage> {
    return yield* this.call(receiveMessage(this.process, fd, length, fdsMax, flags));
  }

  /** @context User mode. */
  *readlink(path: string): Task<string> {
    return yield* this.call(linkText(this.process, path));
  }

  /** @context User mode. */
  *readFile(path: string): Task<string> {
    return yield* this.call(fileText(this.process, path));
  }

  /** @context User mode. */
  *fork(main: (sys: Sys) => Task<unknown>): Task<number> {
    this.assertAlive();
    const child = yield* this.process.fork((process) => main(new ModelSys(process)));
    return child.pid;
  }

  /** @context User mode. */
  *waitpid(pid: number): Task<number> {
    return yield* this.process.waitpid(pid);
  }

  /** @context User mode. */
  *exit(status: number): Task {
    this.isOver = true;
    yield* this.process.exit(status);
  }

  private assertAlive(): void {
    assert(!this.isOver, 'a process that has ended makes no calls');
  }

  private *call<T>(body: Task<T>): Task<T> {
    this.assertAlive();
    return yield* this.process.syscall(body);
  }

  /** A number is reserved before the file is opened, and given back if that fails. */
  private *installNew(opening: Task<KernelFile>, call: string, flags: number): Task<number> {
    const { fds } = this.process;
    const fd = yield* fds.reserve({ closeOnExec: (flags & O.CLOEXEC) !== 0 });
    if (fd === null) throw new DmaBufError('EMFILE', call, 'no-descriptor-left-to-open');
    try {
      yield* fds.fill(fd, yield* opening);
    } catch (error) {
      yield* fds.unreserve(fd);
      throw error;
    }
    return fd;
  }

  private *doIoctl(fd: number, request: number, arg: number): Task<number> {
    const { process } = this;
    const file = yield* process.file(fd, 'ioctl');
    try {
      if (request === FIOCLEX || request === FIONCLEX) {
        yield* process.fds.setCloseOnExec(fd, request === FIOCLEX);
        return 0;
      }
      if (file.operations.ioctl === undefined) {
        throw new DmaBufError('ENOTTY', 'ioctl', 'file-takes-no-requests');
      }
      return yield* file.operations.ioctl(file, request, arg, process);
    } finally {
      yield* file.put();
    }
  }

  private *doSeek(fd: number, offset: number, whence: number): Task<number> {
    const file = yield* this.process.file(fd, 'lseek');
    try {
      if (whence < 0 || whence > SEEK_MAX) {
        throw new DmaBufError('EINVAL', 'lseek', 'no-such-whence');
      }
      if (file.operations.llseek === undefined) {
        throw new DmaBufError('ESPIPE', 'lseek', 'file-has-no-positions');
      }
      return yield* file.operations.llseek(file, offset, whence);
    } finally {
      yield* file.put();
    }
  }

  private *doRead(fd: number, address: UserAddr, length: number): Task<number> {
    const { mm } = this.process;
    const file = yield* this.process.file(fd, 'read');
    try {
      if (!file.mode.read) throw new DmaBufError('EBADF', 'read', 'not-open-for-reading');
      if (file.operations.read === undefined) {
        throw new DmaBufError('EINVAL', 'read', 'file-is-not-read');
      }
      const room = yield* mm.reach(address, length, true);
      if (room === 0 && length > 0) throw new DmaBufError('EFAULT', 'read', 'nowhere-to-read-to');
      const bytes = yield* file.operations.read(file, room);
      yield* mm.store(address, bytes);
      return bytes.length;
    } finally {
      yield* file.put();
    }
  }

  private *doWrite(fd: number, address: UserAddr, length: number): Task<number> {
    const { mm } = this.process;
    const file = yield* this.process.file(fd, 'write');
    try {
      if (!file.mode.write) throw new DmaBufError('EBADF', 'write', 'not-open-for-writing');
      if (file.operations.write === undefined) {
        throw new DmaBufError('EINVAL', 'write', 'file-is-not-written');
      }
      const given = yield* mm.reach(address, length, false);
      if (given === 0 && length > 0) throw new DmaBufError('EFAULT', 'write', 'nothing-to-write');
      return yield* file.operations.write(file, yield* mm.load(address, given));
    } finally {
      yield* file.put();
    }
  }

  private *stat(fd: number, call: string): Task<FileStat> {
    const file = yield* this.process.file(fd, call);
    const said = statOf(file);
    yield* file.put();
    return said;
  }

  private *doTruncate(fd: number, length: number): Task {
    if (length < 0) throw new DmaBufError('EINVAL', 'ftruncate', 'shorter-than-nothing');
    const file = yield* this.process.file(fd, 'ftruncate');
    try {
      yield* truncateFile(file, length);
    } finally {
      yield* file.put();
    }
  }

  private *doFcntl(fd: number, command: number, arg: number): Task<number> {
    const { fds } = this.process;
    const file = yield* this.process.file(fd, 'fcntl');
    try {
      switch (command) {
        case F.DUPFD:
        case F.DUPFD_CLOEXEC:
          return yield* this.dupFrom(file, arg, command === F.DUPFD_CLOEXEC);
        case F.GETFD:
          return (yield* fds.isCloseOnExec(fd)) ? FD_CLOEXEC : 0;
        case F.SETFD:
          yield* fds.setCloseOnExec(fd, (arg & FD_CLOEXEC) !== 0);
          return 0;
        case F.GETFL:
          return file.flags;
        case F.ADD_SEALS:
          return yield* addSeals(file, arg);
        case F.GET_SEALS:
          return yield* getSeals(file);
        default:
          throw new DmaBufError('EINVAL', 'fcntl', 'no-such-command');
      }
    } finally {
      yield* file.put();
    }
  }

  private *dupFrom(file: KernelFile, from: number, closeOnExec: boolean): Task<number> {
    const { fds } = this.process;
    if (from < 0 || from >= fds.limit) {
      throw new DmaBufError('EINVAL', 'fcntl', 'no-such-descriptors');
    }
    const fd = yield* fds.reserve({ from, closeOnExec });
    if (fd === null) throw new DmaBufError('EMFILE', 'fcntl', 'no-descriptor-left-from-there');
    yield* file.get();
    yield* fds.fill(fd, file);
    return fd;
  }

  private *makeMemfd(name: string, flags: number): Task<number> {
    checkMemfdArguments(name, flags);
    const made = memfdCreate(this.process.kernel, name, flags);
    const closeOnExec = (flags & MFD.CLOEXEC) !== 0 ? O.CLOEXEC : 0;
    return yield* this.installNew(made, 'memfd_create', closeOnExec);
  }
}
