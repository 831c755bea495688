/**
 * The system calls of Linux, as a program sees them. The simulated kernel implements them, and so
 * can a real one: what is written against this interface runs on either.
 *
 * Every call throws `DmaBufError` with the kernel's error number.
 */

import type { UserAddr } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { FileStat } from '../vfs/file.ts';

/** What mmap(2) is asked for. */
export interface MmapRequest {
  /** Bytes; rounded up to pages. */
  readonly length: number;
  /** Bits of `PROT`. */
  readonly prot: number;
  /** Bits of `MAP`. */
  readonly flags: number;
  /** Not looked at with `MAP.ANONYMOUS`. */
  readonly fd: number;
  /** Byte of the file; a multiple of the page size. */
  readonly offset: number;
}

/** One descriptor that poll(2) looks at. */
export interface PollRequest {
  /** Negative: not looked at. */
  readonly fd: number;
  /** Bits of `POLLIN` and so on. */
  readonly events: number;
}

/** What recvmsg(2) took off a socket. */
export interface ReceivedMessage {
  /** Empty: the other end is closed. */
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
  /** `MSG_CTRUNC`: more descriptors were sent than there was room for; those are closed. */
  readonly isTruncated: boolean;
}

/** Flags of sendmsg(2) and recvmsg(2). */
export const MSG: Readonly<Record<'DONTWAIT' | 'CMSG_CLOEXEC', number>> = {
  DONTWAIT: 0x40,
  CMSG_CLOEXEC: 0x4000_0000,
};

/** The system calls, and the program's own loads and stores. */
export interface Sys {
  /** Anonymous, private memory, zero: mmap(2). `ENOMEM`, `EINVAL`. */
  alloc(length: number): Task<UserAddr>;
  /** The program's own load. `EFAULT` stands for a signal that would end the program. */
  load(address: UserAddr, length: number): Task<Uint8Array>;
  /** The program's own store. `EFAULT` as {@link load}. */
  store(address: UserAddr, bytes: Uint8Array): Task;
  /** open(2). `ENOENT`, `EACCES`, `EMFILE`; what the driver says. */
  open(path: string, flags: number): Task<number>;
  /** close(2). `EBADF`. */
  close(fd: number): Task;
  /** dup(2). `EBADF`, `EMFILE`. */
  dup(fd: number): Task<number>;
  /** ioctl(2). `EBADF`; `ENOTTY` the file knows no such request; what the file says. */
  ioctl(fd: number, request: number, arg: number): Task<number>;
  /**
   * mmap(2). `EBADF`; `EINVAL` length 0, a crooked offset, neither shared nor private; `EOVERFLOW`;
   * `EACCES` not opened so; `ENODEV` files of this kind cannot be mapped; `ENOMEM`; what the file
   * says.
   */
  mmap(request: MmapRequest): Task<UserAddr>;
  /** munmap(2). `EINVAL`. */
  munmap(address: UserAddr, length: number): Task;
  /**
   * poll(2).
   *
   * @param timeoutMs - Negative: for ever.
   * @returns For each request the events that are there; `POLLNVAL` for what is not open. `EINVAL`
   *   more requests than descriptors are allowed; `EINTR`.
   */
  poll(requests: readonly PollRequest[], timeoutMs: number): Task<readonly number[]>;
  /** lseek(2). `EBADF`, `EINVAL`; `ESPIPE` the file has no positions. */
  lseek(fd: number, offset: number, whence: number): Task<number>;
  /** read(2). `EBADF` not open for reading; `EINVAL` no such operation; `EFAULT`. */
  read(fd: number, address: UserAddr, length: number): Task<number>;
  /** write(2). `EBADF` not open for writing; `EINVAL` no such operation; `EFAULT`. */
  write(fd: number, address: UserAddr, length: number): Task<number>;
  /** fstat(2). `EBADF`. */
  fstat(fd: number): Task<FileStat>;
  /** fstatfs(2): `f_type` of the file system. `EBADF`. */
  fstatfs(fd: number): Task<number>;
  /** ftruncate(2). `EBADF`; `EINVAL` no regular file open for writing; `EPERM` sealed. */
  ftruncate(fd: number, length: number): Task;
  /** fcntl(2). `EBADF`; `EINVAL` unknown command or argument; as the command. */
  fcntl(fd: number, command: number, arg: number): Task<number>;
  /** memfd_create(2). `EINVAL` unknown flags, long name; `EMFILE`. */
  memfdCreate(name: string, flags: number): Task<number>;
  /** socketpair(2) of two connected streams. `EMFILE`. */
  socketpair(): Task<readonly [number, number]>;
  /**
   * sendmsg(2): bytes, and descriptors with them, which live on in the message. `EBADF` also for
   * one of `fds`; `ENOTSOCK`; `EINVAL` more than 253 descriptors; `EPIPE` the other end is closed.
   */
  sendmsg(fd: number, bytes: Uint8Array, fds: readonly number[], flags?: number): Task<number>;
  /**
   * recvmsg(2): waits for bytes. `EBADF`; `ENOTSOCK`; `EAGAIN`; `EINTR`; `ECONNRESET` the other end
   * was closed without reading all.
   *
   * @param length - Room for bytes.
   * @param fdsMax - Room for descriptors.
   */
  recvmsg(fd: number, length: number, fdsMax: number, flags?: number): Task<ReceivedMessage>;
  /** readlink(2) of `/proc/self/fd/N`. `ENOENT`; `EINVAL` no link. */
  readlink(path: string): Task<string>;
  /** Opens a file, reads all of it, closes it: `/proc/self/fdinfo/N`, files of debugfs. As open. */
  readFile(path: string): Task<string>;
  /** fork(2). The child runs `main` on its own copy of everything, and ends with it. `ENOMEM`. */
  fork(main: (sys: Sys) => Task<unknown>): Task<number>;
  /** waitpid(2): the status of a child that ended. `ECHILD`, `EINTR`. */
  waitpid(pid: number): Task<number>;
  /** exit(2). Nothing may be called afterwards. */
  exit(status: number): Task;
}
