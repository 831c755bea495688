/**
 * An NVMe drive: what is behind the BARs of its PCI function, and the engine that brings it to
 * life. It lends two things to peers: its controller memory buffer and its page of doorbells.
 * Whoever may write to both can hand it commands.
 *
 * Not modelled: pin and MSI interrupts, SGLs, metadata, fused commands, asynchronous events,
 * features, log pages, Abort, shutdown notification, more than one namespace.
 *
 * @source NVM Express Base Specification 1.4; thread S003
 */

import { DmaBufError } from '../../base/index.ts';
import {
  type Actor,
  type Cell,
  type DeviceModel,
  type PciFunction,
  type PlacedRegion,
  Register,
  type Scheduler,
  type Task,
} from '../../machine/index.ts';
import { type CmbOptions, ControllerMemory, roomForCmb } from './controller-memory.ts';
import { NvmeEngine, type NvmeHardware } from './engine.ts';
import { WasReset } from './engine-step.ts';
import { CAPACITY_BLOCKS_DEFAULT, Media } from './media.ts';
import { RegisterFile } from './register-file.ts';
import { REGISTER_PAGE_SIZE } from './registers.ts';

/** What a drive may be given. */
export interface NvmeOptions {
  /** Blocks of 512 bytes. Default 1 GiB. */
  readonly capacityBlocks?: number;
  /** What the controller memory buffer is good for; null: there is none. Default: everything. */
  readonly cmb?: CmbOptions | null;
}

/** An NVMe controller with its drive. */
export class NvmeController implements DeviceModel, NvmeHardware {
  readonly fn: PciFunction;
  readonly registers: RegisterFile;
  readonly cmb: ControllerMemory | null;
  readonly media: Media;
  /** Counts resets; no register of the specification, and in no BAR. */
  readonly resets: Register;
  readonly bars: ReadonlyMap<number, readonly PlacedRegion[]>;
  readonly resetTouches: readonly Cell[];

  /**
   * Builds the drive into `fn`. Do it at boot: the cells are named after who makes them.
   *
   * @throws {@link DmaBufError} `ENODEV` BAR0 has no room for registers and doorbells.
   * @context At boot.
   * @source NVMe 1.4, 2.1.10 and 3.1
   */
  constructor(fn: PciFunction, options: NvmeOptions = {}) {
    const { capacityBlocks = CAPACITY_BLOCKS_DEFAULT, cmb = {} } = options;
    const { scheduler } = fn.machine;
    const size = fn.barSize(0);
    if (size < 2 * REGISTER_PAGE_SIZE) {
      const detail = { device: fn.name, size };
      throw new DmaBufError('ENODEV', 'NvmeController', 'nvme-bar0-too-small', { detail });
    }
    const place = cmb === null ? null : roomForCmb(fn);
    this.fn = fn;
    this.registers = new RegisterFile(scheduler, fn.name, place !== null);
    this.cmb = place === null ? null : new ControllerMemory(fn, place, cmb ?? {});
    this.media = new Media(scheduler, `${fn.name} media`, capacityBlocks);
    this.resets = new Register(scheduler, `${fn.name} resets`, 0, true);
    this.bars = layOut(this.registers, this.cmb);
    // The media is not among them: it outlives resets.
    const memory = this.cmb === null ? [] : [this.cmb.memory];
    this.resetTouches = [this.resets, ...this.registers.all, ...memory];
    fn.plug(this);
  }

  /**
   * Starts the engine as a daemon, `nvme 0000:41:00.0`.
   *
   * @context Any; once.
   */
  spawn(scheduler: Scheduler): Actor {
    return scheduler.spawn(this.run(), {
      name: `nvme ${this.fn.name}`,
      role: 'device',
      daemon: true,
    });
  }

  /**
   * Registers and buffer as after power-on. The engine forgets everything: see `engine-step.ts`.
   *
   * @context Inside the reset's step.
   * @source NVMe 1.4, 7.3.2, function level reset
   */
  reset(): void {
    this.registers.reset();
    this.cmb?.memory.clear();
    this.resets.value += 1;
  }

  /** One engine after the other, each from a reset to the next. */
  private *run(): Task<never> {
    for (;;) {
      const epoch = yield* this.resets.get();
      try {
        yield* new NvmeEngine(this, epoch).run();
      } catch (error) {
        // That is how an engine ends. Any other error is a bug of ours.
        if (!(error instanceof WasReset)) throw error;
      }
    }
  }
}

function layOut(
  { page, doorbells }: RegisterFile,
  cmb: ControllerMemory | null,
): ReadonlyMap<number, readonly PlacedRegion[]> {
  const bars = new Map<number, readonly PlacedRegion[]>([
    [
      0,
      [
        { offset: 0, region: page },
        { offset: REGISTER_PAGE_SIZE, region: doorbells },
      ],
    ],
  ]);
  if (cmb !== null) {
    const { bar, offset } = cmb.place;
    bars.set(bar, [...(bars.get(bar) ?? []), { offset, region: cmb.memory }]);
  }
  return bars;
}
