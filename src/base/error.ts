/**
 * The one error of peerbuf's verbs. The same class is thrown by the model and by real Linux, so
 * that code which handles `EBUSY` need not know who said so.
 *
 * Three fates, never mixed: a call that cannot be done throws {@link DmaBufError}; a driver that
 * breaks the contract is recorded in the trace; a bug of ours fails an `assert`.
 */

/** Error numbers as Linux has them on x86-64 and arm64, positive. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  ENOSPC: 28,
  ESPIPE: 29,
  EPIPE: 32,
  EDEADLK: 35,
  ENOSYS: 38,
  ENODATA: 61,
  ETIME: 62,
  EOVERFLOW: 75,
  EBADFD: 77,
  ENOTSOCK: 88,
  EOPNOTSUPP: 95,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ETIMEDOUT: 110,
  EALREADY: 114,
  EREMOTEIO: 121,
  ECANCELED: 125,
  /** Inside the kernel only: user space sees the call restarted, or `EINTR`. */
  ERESTARTSYS: 512,
} as const;

/** The name of an error number: a misspelt one does not compile. */
export type ErrnoCode = keyof typeof ERRNO;

/** What {@link DmaBufError} may carry beyond its code. */
export interface ErrorContext {
  /** Plain data for the trace and `--json`. */
  readonly detail?: Readonly<Record<string, unknown>>;
  /** The error that this one wraps. */
  readonly cause?: unknown;
}

const MARK: symbol = Symbol.for('peerbuf.DmaBufError');

/** An expected failure, with the kernel's error number and a reason that is unique in the tree. */
export class DmaBufError extends Error {
  override readonly name = 'DmaBufError';
  /** `'EBUSY'`. */
  readonly code: ErrnoCode;
  /** Negative, as Node and the kernel give it: `-16`. */
  readonly errno: number;
  /** The verb or system call that failed. */
  readonly call: string;
  /** Kebab-case; names this one way to fail. */
  readonly reason: string;
  /** Plain data for people and tools. */
  readonly detail: Readonly<Record<string, unknown>>;

  constructor(code: ErrnoCode, call: string, reason: string, context: ErrorContext = {}) {
    const text = `${code}: ${call}: ${reason.replaceAll('-', ' ')}`;
    super(text, context.cause === undefined ? undefined : { cause: context.cause });
    Object.defineProperty(this, MARK, { value: true });
    this.code = code;
    this.errno = -ERRNO[code];
    this.call = call;
    this.reason = reason;
    this.detail = context.detail ?? {};
  }
}

/** True for a {@link DmaBufError}, also of another copy of this package. */
export function isDmaBufError(error: unknown): error is DmaBufError {
  return typeof error === 'object' && error !== null && MARK in error;
}
