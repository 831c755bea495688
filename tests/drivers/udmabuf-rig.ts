/** A kernel with `/dev/udmabuf`, and a program that makes buffers of its memfds. */

import {
  F,
  F_SEAL,
  joinBytes,
  MAP,
  MFD,
  O,
  PROT,
  UDMABUF_IOCTL,
  type UdmabufCreate,
  type UdmabufCreateItem,
  type UserAddr,
  udmabufCreate,
  udmabufCreateItem,
  udmabufCreateList,
} from '../../src/base/index.ts';
import { UDMABUF_PATH, UdmabufDevice } from '../../src/drivers/index.ts';
import type { DmaBuf } from '../../src/framework/index.ts';
import type { MachineSpec, Task } from '../../src/machine/index.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { ProgramRig } from './dma-heap-rig.ts';

/** Bytes of a memfd, unless told otherwise. */
export const FILE_SIZE: number = 16 * 4096;

/** What a program asks for; sizes may be plain numbers. */
export interface Piece {
  readonly memfd: number;
  readonly offset?: number | bigint;
  readonly size?: number | bigint;
}

/** A kernel with the udmabuf driver. */
export class UdmabufRig extends ProgramRig {
  readonly driver: UdmabufDevice;

  constructor(spec: MachineSpec = wideMachine()) {
    super(spec);
    this.driver = new UdmabufDevice(this.kernel);
  }

  /** A memfd, sealed as told. */
  *memfd(size = FILE_SIZE, seals: number = F_SEAL.SHRINK, flags = MFD.ALLOW_SEALING): Task<number> {
    const fd = yield* this.sys.memfdCreate('buffer', flags);
    yield* this.sys.ftruncate(fd, size);
    if (seals !== 0) yield* this.sys.fcntl(fd, F.ADD_SEALS, seals);
    return fd;
  }

  /** `UDMABUF_CREATE`; gives back the descriptor. */
  *create(piece: Piece, flags = 0): Task<number> {
    const bytes = udmabufCreate.encode({ ...numbersOf(piece), flags } satisfies UdmabufCreate);
    return yield* this.request(UDMABUF_IOCTL.CREATE, bytes);
  }

  /** `UDMABUF_CREATE_LIST`; gives back the descriptor. */
  *createList(pieces: readonly Piece[], flags = 0, count = pieces.length): Task<number> {
    const head = udmabufCreateList.encode({ flags, count });
    const items = pieces.map((piece) => {
      return udmabufCreateItem.encode({ ...numbersOf(piece), pad: 7 } satisfies UdmabufCreateItem);
    });
    return yield* this.request(UDMABUF_IOCTL.CREATE_LIST, joinBytes(head, ...items));
  }

  /** An ioctl of `/dev/udmabuf` with these bytes as its argument. */
  *request(number: number, bytes: Uint8Array): Task<number> {
    const at = yield* this.sys.alloc(Math.max(bytes.length, 1));
    yield* this.sys.store(at, bytes);
    return yield* this.requestAt(number, at);
  }

  /** The same, with any argument. */
  *requestAt(number: number, arg: number): Task<number> {
    const fd = yield* this.sys.open(UDMABUF_PATH, O.RDWR);
    try {
      return yield* this.sys.ioctl(fd, number, arg);
    } finally {
      yield* this.sys.close(fd);
    }
  }

  /** A buffer of one memfd. Its descriptor keeps it. */
  *buffer(size = FILE_SIZE): Task<{ readonly buf: DmaBuf; fd: number; memfd: number }> {
    const memfd = yield* this.memfd(size);
    const fd = yield* this.create({ memfd, size });
    return { buf: yield* this.bufOf(fd), fd, memfd };
  }

  /** Maps a descriptor for reading and writing. */
  *map(fd: number, length = FILE_SIZE, flags: number = MAP.SHARED, offset = 0): Task<UserAddr> {
    return yield* this.sys.mmap({ length, prot: PROT.READ | PROT.WRITE, flags, fd, offset });
  }

  /** The program reads. */
  *peek(at: UserAddr, offset: number, length: number): Task<number[]> {
    return [...(yield* this.sys.load((at + offset) as UserAddr, length))];
  }

  /** The program writes. */
  *poke(at: UserAddr, offset: number, bytes: readonly number[]): Task {
    yield* this.sys.store((at + offset) as UserAddr, Uint8Array.from(bytes));
  }
}

function numbersOf({ memfd, offset = 0, size = FILE_SIZE }: Piece): {
  memfd: number;
  offset: bigint;
  size: bigint;
} {
  return { memfd, offset: BigInt(offset), size: BigInt(size) };
}
