/**
 * The flags of open(2), fcntl(2), lseek(2), mmap(2) and memfd_create(2), as on x86-64.
 *
 * @source include/uapi/asm-generic/fcntl.h, include/uapi/linux/fcntl.h and memfd.h, v7.2; G.4
 */

/** Flags of open(2). */
export const O: Readonly<
  Record<'RDONLY' | 'WRONLY' | 'RDWR' | 'ACCMODE' | 'NONBLOCK' | 'LARGEFILE' | 'CLOEXEC', number>
> = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  ACCMODE: 3,
  NONBLOCK: 0x800,
  LARGEFILE: 0x8000,
  CLOEXEC: 0x8_0000,
};

/** Commands of fcntl(2). */
export const F: Readonly<
  Record<
    'DUPFD' | 'GETFD' | 'SETFD' | 'GETFL' | 'SETFL' | 'DUPFD_CLOEXEC' | 'ADD_SEALS' | 'GET_SEALS',
    number
  >
> = {
  DUPFD: 0,
  GETFD: 1,
  SETFD: 2,
  GETFL: 3,
  SETFL: 4,
  DUPFD_CLOEXEC: 1030,
  ADD_SEALS: 1033,
  GET_SEALS: 1034,
};

/** The flag of a descriptor: it does not survive execve(2). */
export const FD_CLOEXEC = 1;

/** What may not be done to a memfd any more. */
export const F_SEAL: Readonly<
  Record<'SEAL' | 'SHRINK' | 'GROW' | 'WRITE' | 'FUTURE_WRITE' | 'EXEC', number>
> = { SEAL: 0x01, SHRINK: 0x02, GROW: 0x04, WRITE: 0x08, FUTURE_WRITE: 0x10, EXEC: 0x20 };

/** Flags of memfd_create(2). */
export const MFD: Readonly<
  Record<'CLOEXEC' | 'ALLOW_SEALING' | 'HUGETLB' | 'NOEXEC_SEAL' | 'EXEC', number>
> = { CLOEXEC: 1, ALLOW_SEALING: 2, HUGETLB: 4, NOEXEC_SEAL: 8, EXEC: 0x10 };

/** Whence of lseek(2). */
export const SEEK: Readonly<Record<'SET' | 'CUR' | 'END', number>> = { SET: 0, CUR: 1, END: 2 };

/** Protections of mmap(2). */
export const PROT: Readonly<Record<'NONE' | 'READ' | 'WRITE' | 'EXEC', number>> = {
  NONE: 0,
  READ: 1,
  WRITE: 2,
  EXEC: 4,
};

/** Flags of mmap(2). */
export const MAP: Readonly<
  Record<'SHARED' | 'PRIVATE' | 'SHARED_VALIDATE' | 'FIXED' | 'ANONYMOUS', number>
> = { SHARED: 1, PRIVATE: 2, SHARED_VALIDATE: 3, FIXED: 0x10, ANONYMOUS: 0x20 };
