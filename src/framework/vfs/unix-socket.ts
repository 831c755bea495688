/**
 * Connected pairs of Unix stream sockets: bytes, and descriptors that travel with them. A message
 * on its way holds its files.
 *
 * DIFFERS: a socket is never full, so sending never waits. Sockets that are sent over themselves
 * and then closed are not collected.
 *
 * @source net/unix/af_unix.c, net/core/scm.c, v7.2
 */

import { DmaBufError } from '../../base/index.ts';
import { Mutex, Shared, type Task } from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import { type FileOperations, type FileStat, KernelFile } from './file.ts';
import { POLLERR, POLLHUP, POLLIN, POLLOUT, type PollTable } from './poll-table.ts';
import { waitForAny, WaitQueue } from './wait-queue.ts';

/** LIMIT: descriptors in one message (`SCM_MAX_FD`). */
const FILES_MAX = 253;

/** `f_type` of sockfs. */
const SOCKFS_MAGIC = 0x534f_434b;

const S_IFSOCK = 0o140000;

/** Bytes that wait to be received. */
interface Message {
  readonly bytes: Uint8Array;
  /** The message holds a reference to each. */
  readonly files: readonly KernelFile[];
}

/** What was received; its files' references are the caller's. */
export interface Received {
  readonly bytes: Uint8Array;
  readonly files: readonly KernelFile[];
}

/** What one end knows. Guarded by the lock of the pair. */
interface EndState {
  readonly queue: readonly Message[];
  readonly isClosed: boolean;
  /** `sk_err`: the other end went away without reading all; told once. */
  readonly isReset: boolean;
}

/** One end of a pair. */
export class UnixSocket extends KernelFile {
  readonly ino: number;
  private readonly state: Shared<EndState>;
  private readonly news: WaitQueue;
  private readonly lock: Mutex;
  private peer: UnixSocket = this;

  private constructor(kernel: Kernel, ino: number, lock: Mutex) {
    super(kernel, `socket:[${ino}]`, SOCKET_OPERATIONS);
    const { scheduler } = kernel;
    const nothing: EndState = { queue: [], isClosed: false, isReset: false };
    this.ino = ino;
    this.lock = lock;
    this.state = new Shared<EndState>(scheduler, `${this.name} state`, nothing);
    this.news = new WaitQueue(scheduler, `${this.name} news`);
  }

  /**
   * Two ends, each with a reference for the caller.
   *
   * @context Any.
   * @source `unix_socketpair()`
   */
  static *pair(kernel: Kernel): Task<readonly [UnixSocket, UnixSocket]> {
    const ino = yield* kernel.otherInodes.next(2);
    const lock = new Mutex(kernel.scheduler, `socket:[${ino}] lock`);
    const one = new UnixSocket(kernel, ino, lock);
    const other = new UnixSocket(kernel, ino + 1, lock);
    one.peer = other;
    other.peer = one;
    return [one, other];
  }

  /**
   * Sends bytes, and files with them if there is a byte to send them with.
   *
   * @param files - With a reference each, which the message takes over; also on error.
   * @throws {@link DmaBufError} `EPIPE` the other end is closed.
   * @context May sleep; no lock held.
   * @source `unix_stream_sendmsg()`
   */
  *send(bytes: Uint8Array, files: readonly KernelFile[]): Task {
    yield* this.lock.lock();
    const there = yield* this.peer.state.read();
    const isSent = bytes.length > 0 && !there.isClosed;
    if (isSent) {
      const message = { bytes: bytes.slice(), files };
      yield* this.peer.state.write({ ...there, queue: [...there.queue, message] });
      yield* this.peer.news.wake();
    }
    yield* this.lock.unlock();
    if (isSent) return;
    yield* putAll(files);
    if (bytes.length > 0) throw new DmaBufError('EPIPE', 'sendmsg', 'nobody-will-receive');
  }

  /**
   * Receives what is there, at most `length` bytes, waiting for the first. Files come with the
   * first byte of their message, and nothing that was sent after them comes with them.
   *
   * @returns No bytes: the other end is closed.
   * @throws {@link DmaBufError} `EAGAIN` nothing there, and not to wait; `ECONNRESET`;
   *   `ERESTARTSYS`.
   * @context May sleep; no lock held.
   * @source `unix_stream_read_generic()`
   */
  *receive(length: number, mayWait: boolean): Task<Received> {
    const { scheduler, signals } = this.kernel;
    for (;;) {
      const seen = yield* this.news.seen();
      const received = yield* this.take(length);
      if (received !== null) return received;
      if (!mayWait || this.mode.isNonBlocking) {
        throw new DmaBufError('EAGAIN', 'recvmsg', 'nothing-to-receive');
      }
      const wait = waitForAny(scheduler.clock, [{ queue: this.news, seen }], Infinity);
      yield* signals.interruptible(wait, 'recvmsg');
    }
  }

  /**
   * Events that are there.
   *
   * @context May sleep; no lock held.
   * @source `unix_poll()`
   */
  *pollEvents(table: PollTable): Task<number> {
    yield* table.wait(this.news);
    yield* this.lock.lock();
    const { queue, isReset } = yield* this.state.read();
    const { isClosed } = yield* this.peer.state.read();
    yield* this.lock.unlock();
    const readable = queue.length > 0 || isClosed ? POLLIN : 0;
    return POLLOUT | readable | (isClosed ? POLLHUP : 0) | (isReset ? POLLERR : 0);
  }

  /**
   * The last reference is gone: what waits here is dropped, the other end hears of it.
   *
   * @context May sleep; no lock held.
   * @source `unix_release_sock()`
   */
  *end(): Task {
    yield* this.lock.lock();
    const { queue } = yield* this.state.read();
    yield* this.state.write({ queue: [], isClosed: true, isReset: false });
    if (queue.length > 0) {
      const there = yield* this.peer.state.read();
      yield* this.peer.state.write({ ...there, isReset: true });
    }
    yield* this.peer.news.wake();
    yield* this.lock.unlock();
    for (const { files } of queue) yield* putAll(files);
  }

  /** Null: nothing is there, but may come. */
  private *take(length: number): Task<Received | null> {
    yield* this.lock.lock();
    try {
      const state = yield* this.state.read();
      if (state.queue.length > 0) {
        const { received, left } = split(state.queue, length);
        yield* this.state.write({ ...state, queue: left });
        return received;
      }
      if (state.isReset) {
        yield* this.state.write({ ...state, isReset: false });
        throw new DmaBufError('ECONNRESET', 'recvmsg', 'closed-before-all-was-read');
      }
      const { isClosed } = yield* this.peer.state.read();
      return isClosed ? { bytes: new Uint8Array(), files: [] } : null;
    } finally {
      yield* this.lock.unlock();
    }
  }
}

/**
 * The socket that a file is.
 *
 * @throws {@link DmaBufError} `ENOTSOCK`.
 */
export function socketOf(file: KernelFile, call: string): UnixSocket {
  if (file instanceof UnixSocket) return file;
  throw new DmaBufError('ENOTSOCK', call, 'file-is-no-socket');
}

/**
 * Checks how many descriptors a message is to carry.
 *
 * @throws {@link DmaBufError} `EINVAL` more than 253.
 * @source `scm_fp_copy()`
 */
export function checkFileCount(count: number): void {
  if (count > FILES_MAX) throw new DmaBufError('EINVAL', 'sendmsg', 'too-many-files-in-a-message');
}

/** What a receiver of `length` bytes gets of a queue that is not empty, and what is left. */
function split(
  queue: readonly Message[],
  length: number,
): { readonly received: Received; readonly left: readonly Message[] } {
  const bytes: number[] = [];
  let files: readonly KernelFile[] = [];
  const left = [...queue];
  for (let next = left[0]; next !== undefined; next = left[0]) {
    const room = length - bytes.length;
    if (room === 0) break;
    bytes.push(...next.bytes.subarray(0, room));
    files = next.files;
    if (room < next.bytes.length) {
      left[0] = { bytes: next.bytes.subarray(room), files: [] };
      break;
    }
    left.shift();
    if (files.length > 0) break;
  }
  return { received: { bytes: Uint8Array.from(bytes), files }, left };
}

function* putAll(files: readonly KernelFile[]): Task {
  for (const file of files) yield* file.put();
}

const SOCKET_OPERATIONS: FileOperations = {
  release: (file: KernelFile): Task => (file as UnixSocket).end(),

  /** Files that come with the bytes are lost. */
  *read(file: KernelFile, length: number): Task<Uint8Array> {
    const { bytes, files } = yield* (file as UnixSocket).receive(length, true);
    yield* putAll(files);
    return bytes;
  },

  *write(file: KernelFile, bytes: Uint8Array): Task<number> {
    yield* (file as UnixSocket).send(bytes, []);
    return bytes.length;
  },

  poll: (file: KernelFile, table: PollTable): Task<number> =>
    (file as UnixSocket).pollEvents(table),

  stat(file: KernelFile): FileStat {
    return { ino: (file as UnixSocket).ino, size: 0, mode: S_IFSOCK | 0o777, magic: SOCKFS_MAGIC };
  },
};
