/** Fences, reservations and sync files to try things on. */

import { expect } from 'vitest';
import type { DmaBufError, Struct } from '../../src/base/index.ts';
import type { PollTable } from '../../src/framework/index.ts';
import {
  DmaFence,
  type DmaFenceOps,
  DmaResv,
  type DmaResvUsage,
  type FenceCallback,
  type KernelFile,
  syncFileCreate,
} from '../../src/framework/index.ts';
import type { Atomic, Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { CoreRig } from './core-rig.ts';
import { locked } from './kernel-rig.ts';

/** A kernel with fences. */
export class FenceRig extends CoreRig {
  /** A pending fence of a card. */
  fence(context = 1, seqno = 1, ops: DmaFenceOps = {}): DmaFence {
    const origin = { driver: 'card', timeline: 'ring', context, seqno };
    return new DmaFence(this.kernel, origin, { ops });
  }

  /** A reservation with these in it. */
  resv(...entries: readonly (readonly [DmaFence, DmaResvUsage])[]): DmaResv {
    const resv = new DmaResv(this.kernel, 'test');
    for (const entry of entries) this.do(addTo(resv, ...entry));
    return resv;
  }

  /** The error of a call. */
  errorOf(task: Task<unknown>): DmaBufError {
    return this.do(refused(task));
  }

  /** The error of a call whose n-th step that may be refused is. */
  errorWithout(n: number, task: Task<unknown>): DmaBufError {
    Object.assign(this.scheduler, { failAt: n, fallible: 0 });
    try {
      return this.errorOf(task);
    } finally {
      Object.assign(this.scheduler, { failAt: 0 });
    }
  }

  /** A descriptor of a new sync file. The fence is the file's alone then. */
  *syncFd(fence: DmaFence, name = ''): Task<number> {
    const fd = yield* this.process.fds.install(syncFileCreate(this.kernel, fence, name));
    yield* fence.put();
    return fd ?? expect.fail('a descriptor');
  }

  /** `ioctl(2)`; gives back the struct as it is then. */
  *call<V extends object>(
    fd: number,
    request: number,
    codec: Struct<V>,
    values: Partial<V> = {},
  ): Task<V> {
    const address = yield* this.userBytes(codec.encode(values));
    yield* this.callAt(fd, request, address);
    return codec.decode(yield* this.process.mm.load(address, codec.size));
  }

  /** `ioctl(2)` with any argument. */
  *callAt(fd: number, request: number, arg: number): Task<number> {
    const file = yield* this.file(fd);
    try {
      const call = file.operations.ioctl?.(file, request, arg, this.process);
      return yield* this.process.syscall(call ?? expect.fail('an ioctl'));
    } finally {
      yield* file.put();
    }
  }

  /** `poll(2)` without sleeping. */
  *poll(fd: number, table: PollTable): Task<number> {
    const file = yield* this.file(fd);
    try {
      return yield* file.operations.poll?.(file, table) ?? expect.fail('a poll');
    } finally {
      yield* file.put();
    }
  }

  private *file(fd: number): Task<KernelFile> {
    return (yield* this.process.fds.fget(fd)) ?? expect.fail(`${fd} is open`);
  }
}

/** Adds a fence, with the lock and the room that it takes. */
export function* addTo(resv: DmaResv, fence: DmaFence, usage: DmaResvUsage): Task {
  yield* locked(resv, addLocked(resv, fence, usage));
}

function* addLocked(resv: DmaResv, fence: DmaFence, usage: DmaResvUsage): Task {
  yield* resv.reserveFences(1);
  yield* resv.addFence(fence, usage);
}

/** A callback that writes something down. */
export function note(log: string[], text: string): FenceCallback {
  return function* callback(): Atomic {
    log.push(text);
  };
}
