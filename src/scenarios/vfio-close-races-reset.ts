/**
 * The race of thread S003: a device keeps a list of its exported buffers without owning them. One
 * thread resets the device and walks the list; others close the last descriptors, so that a release
 * may have begun, may be waiting for the lock, or may be over.
 */

import { present } from '../base/index.ts';
import { VfioPciDevice } from '../drivers/index.ts';
import { type Kernel, Process } from '../framework/index.ts';
import { Completion, type PciFunction, type Task, WrongResult } from '../machine/index.ts';
import { defineScenario, type Ending, type Scenario, type Stage } from './scenario.ts';

/** How a story makes the VFIO device: tests plant mistakes here. */
export type MakeVfioDevice = (kernel: Kernel, fn: PciFunction) => VfioPciDevice;

/** The race, with a device of the caller's making. */
export function closeRacesReset(makeDevice: MakeVfioDevice, buffers: number): Scenario {
  return defineScenario({
    id: 'vfio-close-races-reset',
    title: 'a reset walks exported buffers while their last descriptors are closed',
    story:
      'A process has exported two ranges of a drive it owns through VFIO. One thread resets the ' +
      'drive, which takes every exported buffer back; two others close the descriptors. The walk ' +
      'must take each buffer only if it still lives.',
    machine: 'server-switch',
    roles: ['nvme-drive'],
    boot: (stage) => new CloseRace(stage, makeDevice, buffers),
  });
}

/** The story as Linux has it. */
export const vfioCloseRacesReset: Scenario = closeRacesReset(
  (kernel, fn) => new VfioPciDevice(kernel, fn),
  2,
);

const PAGE = 4096;

class CloseRace implements Ending {
  private readonly stage: Stage;
  private readonly vdev: VfioPciDevice;
  private readonly process: Process;
  private readonly exported: Completion;

  constructor(stage: Stage, makeDevice: MakeVfioDevice, buffers: number) {
    const { scheduler, kernel, machine, cast } = stage;
    const fn = machine.function(present(cast['nvme-drive'], 'a drive'));
    this.stage = stage;
    this.vdev = makeDevice(kernel, fn);
    this.process = new Process(kernel, 'spdk');
    this.exported = new Completion(scheduler, 'buffers are exported');
    scheduler.spawn(this.resetter(buffers), { name: 'resetter', role: 'user' });
    for (let i = 0; i < buffers; i += 1) {
      scheduler.spawn(this.closer(i), { name: `closer ${i + 1}`, role: 'user' });
    }
  }

  conclude(): string {
    const { kernel } = this.stage;
    if (kernel.bufferList.value !== 0) throw new WrongResult('a buffer was never released');
    if (this.vdev.dmabufs.value.length !== 0)
      throw new WrongResult('a buffer is still on the list');
    return 'every buffer was released once, and none was touched after';
  }

  private *resetter(buffers: number): Task {
    yield* this.vdev.open();
    for (let i = 0; i < buffers; i += 1) {
      const ranges = [{ offset: i * PAGE, length: PAGE }];
      yield* this.vdev.featureDmaBuf(this.process, { regionIndex: 0, ranges });
    }
    for (let i = 0; i < buffers; i += 1) yield* this.exported.complete();
    yield* this.vdev.reset(this.process);
  }

  private *closer(index: number): Task {
    yield* this.exported.wait();
    // Descriptors are handed out from 3 on, in order.
    yield* this.process.close(3 + index);
  }
}
