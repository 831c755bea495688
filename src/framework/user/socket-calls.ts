/**
 * The system calls on sockets: how descriptors become files in a message, and descriptors again at
 * the other end.
 *
 * @source net/core/scm.c, net/socket.c, v7.2
 */

import { DmaBufError } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { KernelFile } from '../vfs/file.ts';
import { checkFileCount, socketOf, UnixSocket } from '../vfs/unix-socket.ts';
import type { Process } from './process.ts';
import { MSG, type ReceivedMessage } from './sys.ts';

/**
 * socketpair(2).
 *
 * @throws {@link DmaBufError} `EMFILE`.
 * @context May sleep; no lock held.
 * @source `__sys_socketpair()`
 */
export function* socketpair(process: Process): Task<readonly [number, number]> {
  const { fds, kernel } = process;
  const one = yield* fds.reserve();
  const other = one === null ? null : yield* fds.reserve();
  if (one === null || other === null) {
    if (one !== null) yield* fds.unreserve(one);
    throw new DmaBufError('EMFILE', 'socketpair', 'no-two-descriptors-left');
  }
  const [here, there] = yield* UnixSocket.pair(kernel);
  yield* fds.fill(one, here);
  yield* fds.fill(other, there);
  return [one, other];
}

/**
 * sendmsg(2).
 *
 * @returns How many bytes were sent.
 * @throws {@link DmaBufError} As {@link Sys.sendmsg}; no reference is left then.
 * @context May sleep; no lock held.
 * @source `unix_stream_sendmsg()`, `scm_fp_copy()`
 */
export function* sendMessage(
  process: Process,
  fd: number,
  bytes: Uint8Array,
  fds: readonly number[],
  _flags: number,
): Task<number> {
  const file = yield* process.file(fd, 'sendmsg');
  try {
    const socket = socketOf(file, 'sendmsg');
    checkFileCount(fds.length);
    yield* socket.send(bytes, yield* filesOf(process, fds));
    return bytes.length;
  } finally {
    yield* file.put();
  }
}

/**
 * recvmsg(2).
 *
 * @throws {@link DmaBufError} As {@link Sys.recvmsg}.
 * @context May sleep; no lock held.
 * @source `unix_stream_recvmsg()`, `scm_detach_fds()`
 */
export function* receiveMessage(
  process: Process,
  fd: number,
  length: number,
  fdsMax: number,
  flags: number,
): Task<ReceivedMessage> {
  const file = yield* process.file(fd, 'recvmsg');
  try {
    const socket = socketOf(file, 'recvmsg');
    const received = yield* socket.receive(length, (flags & MSG.DONTWAIT) === 0);
    const closeOnExec = (flags & MSG.CMSG_CLOEXEC) !== 0;
    const fds: number[] = [];
    for (const [i, sent] of received.files.entries()) {
      // One that finds no place is followed by none.
      const place =
        fds.length < i || i >= fdsMax ? null : yield* process.fds.install(sent, { closeOnExec });
      if (place === null) yield* sent.put();
      else fds.push(place);
    }
    return { bytes: received.bytes, fds, isTruncated: fds.length < received.files.length };
  } finally {
    yield* file.put();
  }
}

/** The files behind descriptors, with a reference to each. */
function* filesOf(process: Process, fds: readonly number[]): Task<readonly KernelFile[]> {
  const files: KernelFile[] = [];
  for (const fd of fds) {
    const file = yield* process.fds.fget(fd);
    if (file !== null) {
      files.push(file);
      continue;
    }
    for (const taken of files) yield* taken.put();
    throw new DmaBufError('EBADF', 'sendmsg', 'sent-descriptor-is-not-open', { detail: { fd } });
  }
  return files;
}
