/**
 * The race of thread S003, from the moment when all buffers are exported: once in its smallest
 * form, of a file, a lock, a list and memory, and once with the VFIO driver as it is. Each mistake
 * is one line.
 */

import { present } from '../../src/base/index.ts';
import { VfioPciDevice } from '../../src/drivers/index.ts';
import type { VfioDmaBuf } from '../../src/drivers/vfio-pci/vfio-dma-buf.ts';
import type { Program } from '../../src/explorer/index.ts';
import { type DmaBuf, Kernel, KernelFile, Process } from '../../src/framework/index.ts';
import {
  Actor,
  Allocation,
  type Atomic,
  findPreset,
  Machine,
  MachinePlan,
  NOW,
  type PciFunction,
  RwSemaphore,
  type Scheduler,
  Shared,
  type Task,
  WrongResult,
} from '../../src/machine/index.ts';
import { castFor } from '../../src/scenarios/cast.ts';

const plan = new MachinePlan(present(findPreset('server-switch'), 'the preset'));
const PAGE = 4096;

/** A number that no actor of a run has, so that cells made at boot have numbers of their own. */
const BOOT_ID = 1_000_000;

/** Runs a task before the race begins, alone and outside of the schedule. Only once in a run. */
function atBoot<T>(scheduler: Scheduler, task: Task<T>): T {
  const actor = new Actor(0, BOOT_ID, 'boot', 'user', false, task);
  scheduler.current = actor;
  actor.resume(undefined);
  for (let { step } = actor; step !== null; step = actor.step) {
    if (!step.guard(NOW, actor)) throw new Error(`boot waits to ${step.verb} ${step.cell.name}`);
    actor.resume(step.apply(actor));
  }
  scheduler.current = null;
  return actor.result as T;
}

/** One exported buffer of the smallest form. */
class ListedBuffer {
  readonly file: KernelFile;
  readonly memory: Allocation;
  readonly isRevoked: Shared<boolean>;
  /** What the walk made of it: `live`, `dying`, or nothing if it was not on the list. */
  seen = 'gone';

  constructor(race: SmallRace, name: string) {
    const { kernel } = race;
    this.memory = new Allocation(kernel.scheduler, `${name} state`);
    this.isRevoked = new Shared<boolean>(kernel.scheduler, 'revoked', false, this.memory);
    this.file = new KernelFile(kernel, name, { release: () => race.releaseBuffer(this) });
  }
}

/** The smallest form, as Linux has it. */
export class SmallRace {
  readonly kernel: Kernel;
  readonly lock: RwSemaphore;
  /** Holds no references. Guarded by {@link lock}. */
  readonly list: Shared<readonly ListedBuffer[]>;
  readonly all: readonly ListedBuffer[];

  constructor(kernel: Kernel, buffers: number) {
    const { scheduler } = kernel;
    this.kernel = kernel;
    this.lock = new RwSemaphore(scheduler, 'memory_lock');
    this.all = Array.from({ length: buffers }, (_, i) => new ListedBuffer(this, `buffer ${i + 1}`));
    this.list = new Shared<readonly ListedBuffer[]>(scheduler, 'buffers', this.all);
  }

  *reset(): Task {
    yield* this.lock.downWrite();
    yield* this.walk();
    yield* this.lock.upWrite();
    yield* this.kernel.returnToUser();
  }

  *walk(): Task {
    for (const buffer of yield* this.list.read()) {
      const isRevoked = yield* buffer.isRevoked.read();
      buffer.seen = 'dying';
      if (isRevoked || !(yield* this.takeReference(buffer))) continue;
      buffer.seen = 'live';
      yield* buffer.isRevoked.write(true);
      yield* buffer.file.put();
    }
  }

  *takeReference({ file }: ListedBuffer): Atomic<boolean> {
    return yield* file.getActive();
  }

  *close({ file }: ListedBuffer): Task {
    yield* file.put();
    yield* this.kernel.returnToUser();
  }

  *releaseBuffer(buffer: ListedBuffer): Task {
    yield* this.lock.downWrite();
    yield* this.unlink(buffer);
    yield* this.lock.upWrite();
    yield* buffer.memory.free();
  }

  protected *unlink(buffer: ListedBuffer): Atomic {
    const listed = yield* this.list.read();
    yield* this.list.write(listed.filter((other) => other !== buffer));
  }
}

/** Mistake 1: takes a reference without asking whether the buffer still lives. */
export class SmallGet extends SmallRace {
  override *takeReference({ file }: ListedBuffer): Atomic<boolean> {
    yield* file.get();
    return true;
  }
}

/** Mistake 2: walks the list without the lock that guards it. */
export class SmallNoLock extends SmallRace {
  override *reset(): Task {
    yield* this.walk();
    yield* this.kernel.returnToUser();
  }
}

/** Mistake 3: frees the state of a buffer before it takes the buffer off the list. */
export class SmallFreeFirst extends SmallRace {
  override *releaseBuffer(buffer: ListedBuffer): Task {
    yield* buffer.memory.free();
    yield* this.lock.downWrite();
    yield* this.unlink(buffer);
    yield* this.lock.upWrite();
  }
}

/** Mistake 1 in the driver. */
export class VfioGet extends VfioPciDevice {
  protected override *takeReference(dmabuf: DmaBuf): Atomic<boolean> {
    yield* dmabuf.getDmaBuf();
    return true;
  }
}

/** Mistake 2 in the driver. */
export class VfioNoLock extends VfioPciDevice {
  protected override *moveBuffers(revoked: boolean): Task {
    yield* this.memoryLock.upWrite();
    yield* super.moveBuffers(revoked);
    yield* this.memoryLock.downWrite();
  }
}

/** Mistake 3 in the driver. */
export class VfioFreeFirst extends VfioPciDevice {
  override *releaseBuffer(buffer: VfioDmaBuf): Task {
    yield* buffer.memory.free();
    yield* this.memoryLock.downWrite();
    yield* this.unlink(buffer);
    yield* this.memoryLock.upWrite();
  }
}

/** The smallest form: one resets, one thread for each buffer closes it. */
export function smallRace(Race: typeof SmallRace, buffers: number): Program {
  return {
    id: 'try-get-small',
    machine: plan.spec.name,
    boot(scheduler) {
      const race = new Race(new Kernel(new Machine(plan, scheduler)), buffers);
      scheduler.spawn(race.reset(), { name: 'resetter', role: 'user' });
      for (const [i, buffer] of race.all.entries()) {
        scheduler.spawn(race.close(buffer), { name: `closer ${i + 1}`, role: 'user' });
      }
      return {
        conclude() {
          if (race.list.value.length > 0) throw new WrongResult('a buffer is still on the list');
          return race.all.map(({ seen }) => seen).join(' ');
        },
      };
    },
  };
}

function* exportAll(vdev: VfioPciDevice, process: Process, count: number): Task<number[]> {
  const fds: number[] = [];
  yield* vdev.open();
  for (let i = 0; i < count; i += 1) {
    const ranges = [{ offset: i * PAGE, length: PAGE }];
    fds.push(yield* vdev.featureDmaBuf(process, { regionIndex: 0, ranges }));
  }
  return fds;
}

/** The driver: one resets the device, one thread for each buffer closes its descriptor. */
export function vfioRace(
  Device: new (kernel: Kernel, fn: PciFunction) => VfioPciDevice,
  buffers: number,
): Program {
  const cast = castFor(plan, ['nvme-drive'], {});
  return {
    id: 'try-get-vfio',
    machine: plan.spec.name,
    boot(scheduler) {
      const machine = new Machine(plan, scheduler);
      const kernel = new Kernel(machine);
      const vdev = new Device(kernel, machine.function(present(cast['nvme-drive'], 'a drive')));
      const process = new Process(kernel, 'spdk');
      const fds = atBoot(scheduler, exportAll(vdev, process, buffers));
      scheduler.spawn(vdev.reset(process), { name: 'resetter', role: 'user' });
      for (const [i, fd] of fds.entries()) {
        scheduler.spawn(process.close(fd), { name: `closer ${i + 1}`, role: 'user' });
      }
      return {
        conclude() {
          if (kernel.bufferList.value !== 0) throw new WrongResult('a buffer was never released');
          if (vdev.dmabufs.value.length > 0) throw new WrongResult('a buffer is still on the list');
          return 'every buffer was released once, and none was touched after';
        },
      };
    },
  };
}
