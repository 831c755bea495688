/**
 * An open probe: what one program holds through it, and the order in which that comes and goes.
 * Closing the file gives everything back: fences first, for somebody may hold a reservation while
 * he waits for one; then the newest before what it rests on.
 *
 * @source docs/probe-abi.md
 */

import { DmaBufError } from '../../base/index.ts';
import {
  type FileOperations,
  type Kernel,
  KernelFile,
  type OpenMode,
  POLLIN,
  type PollTable,
  type Process,
  WaitQueue,
} from '../../framework/index.ts';
import { type Device, Mutex, type Task } from '../../machine/index.ts';
import { EventLog } from './event-log.ts';
import { type HandleClass, HandleTable, type ProbeHandle } from './handle-table.ts';
import { FenceHandle, type ProbeNews } from './importer.ts';
import type { ProbeCaller } from './probe-caller.ts';
import { probeIoctl } from './probe-ioctl.ts';

/** An open probe. */
export class ProbeFile extends KernelFile {
  readonly handles: HandleTable;
  readonly news: ProbeNews;
  /** Held by who reads events, from the look to the end of the copy. */
  readonly reading: Mutex;
  /** The device named `probe`. */
  readonly platformDevice: Device;

  constructor(kernel: Kernel, mode: OpenMode, platformDevice: Device) {
    super(kernel, '/dev/peerbuf-probe', PROBE_FILE_OPERATIONS, mode);
    const { scheduler } = kernel;
    this.handles = new HandleTable(scheduler);
    this.news = {
      events: new EventLog(scheduler),
      queue: new WaitQueue(scheduler, 'probe news'),
    };
    this.reading = new Mutex(scheduler, 'probe reading');
    this.platformDevice = platformDevice;
  }

  /**
   * Makes something and gives it a number, of which the program learns before anybody can use it.
   *
   * @param make - Makes it, or fails.
   * @param tell - Tells the program; if that fails, all is undone.
   * @throws {@link DmaBufError} `ENOSPC` the file holds too much; what the two say.
   * @context May sleep; no lock held.
   */
  *create<H extends ProbeHandle>(
    caller: ProbeCaller,
    make: (id: number) => Task<H>,
    tell: (id: number, handle: H) => Task,
  ): Task<H> {
    const id = yield* this.handles.reserve();
    if (id === null) throw new DmaBufError('ENOSPC', caller.call, 'probe-holds-too-much');
    try {
      const handle = yield* make(id);
      try {
        yield* tell(id, handle);
      } catch (error) {
        yield* handle.destroy();
        throw error;
      }
      yield* this.handles.publish(id, handle);
      return handle;
    } catch (error) {
      yield* this.handles.cancel();
      throw error;
    }
  }

  /**
   * Makes something that rests on another thing, which cannot be removed as long as it is there.
   *
   * @throws {@link DmaBufError} `ENOENT` the program holds no such thing; as {@link create}.
   * @context May sleep; no lock held.
   */
  *createOn<P extends ProbeHandle, H extends ProbeHandle>(
    caller: ProbeCaller,
    [kind, parent]: readonly [HandleClass<P>, number],
    make: (on: P, id: number) => Task<H>,
    tell: (id: number, handle: H) => Task,
  ): Task {
    yield* this.keep(caller, kind, parent, (on) => this.create(caller, (id) => make(on, id), tell));
  }

  /**
   * Does something with a thing after which it has one user more.
   *
   * @throws {@link DmaBufError} `ENOENT` the program holds no such thing; what `body` says, and
   *   then there is no further user.
   * @context May sleep; no lock held.
   */
  *keep<H extends ProbeHandle, R>(
    caller: ProbeCaller,
    kind: HandleClass<H>,
    id: number,
    body: (handle: H) => Task<R>,
  ): Task<R> {
    const handle = yield* this.claim(caller, kind, id);
    try {
      return yield* body(handle);
    } catch (error) {
      yield* this.handles.drop(id);
      throw error;
    }
  }

  /**
   * Does something with a thing.
   *
   * @throws {@link DmaBufError} `ENOENT` the program holds no such thing; what `body` says.
   * @context May sleep; no lock held.
   */
  *use<H extends ProbeHandle, R>(
    caller: ProbeCaller,
    kind: HandleClass<H>,
    id: number,
    body: (handle: H) => Task<R>,
  ): Task<R> {
    const handle = yield* this.claim(caller, kind, id);
    try {
      return yield* body(handle);
    } finally {
      yield* this.handles.drop(id);
    }
  }

  /**
   * Takes a thing away, without giving it back yet: nobody else will.
   *
   * @throws {@link DmaBufError} `ENOENT` the program holds no such thing; `EBUSY` it is in use.
   * @context Any.
   */
  *take<H extends ProbeHandle>(caller: ProbeCaller, kind: HandleClass<H>, id: number): Task<H> {
    const taken = yield* this.handles.remove(kind, id);
    if (taken === 'missing') throw noSuchThing(caller, id);
    if (taken === 'in-use') {
      throw new DmaBufError('EBUSY', caller.call, 'probe-thing-is-in-use', { detail: { id } });
    }
    return taken;
  }

  /**
   * Takes a thing away and gives it back.
   *
   * @throws {@link DmaBufError} as {@link take}.
   * @context May sleep; no lock held.
   */
  *remove<H extends ProbeHandle>(caller: ProbeCaller, kind: HandleClass<H>, id: number): Task {
    const handle = yield* this.take(caller, kind, id);
    yield* handle.destroy();
    if (handle.parent !== 0) yield* this.handles.drop(handle.parent);
  }

  /**
   * The end: nobody calls any more.
   *
   * @context May sleep; no lock held.
   */
  *undo(): Task {
    const all = yield* this.handles.takeAll();
    for (const handle of all) if (handle instanceof FenceHandle) yield* handle.destroy();
    for (const handle of all) if (!(handle instanceof FenceHandle)) yield* handle.destroy();
  }

  private *claim<H extends ProbeHandle>(
    caller: ProbeCaller,
    kind: HandleClass<H>,
    id: number,
  ): Task<H> {
    const handle = yield* this.handles.claim(kind, id);
    if (handle === null) throw noSuchThing(caller, id);
    return handle;
  }
}

function noSuchThing({ call }: ProbeCaller, id: number): DmaBufError {
  return new DmaBufError('ENOENT', call, 'probe-has-no-such-thing', { detail: { id } });
}

const PROBE_FILE_OPERATIONS: FileOperations = {
  *release(file: KernelFile): Task {
    yield* (file as ProbeFile).undo();
  },

  *ioctl(file: KernelFile, request: number, arg: number, process: Process): Task<number> {
    return yield* probeIoctl(file as ProbeFile, request, arg, process);
  },

  *poll(file: KernelFile, table: PollTable): Task<number> {
    const { events, queue } = (file as ProbeFile).news;
    yield* table.wait(queue);
    return (yield* events.peek(1)).length > 0 ? POLLIN : 0;
  },
};
