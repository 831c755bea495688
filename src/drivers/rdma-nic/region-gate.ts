/**
 * What the card itself knows of a region: where its bytes are, and how many accesses are under way.
 * The hardware goes through the gate for every request; the driver opens and closes it.
 *
 * Counting in and looking the translation up are one step, and so are counting out and learning
 * that the last access of a closed gate is over: as in hardware, nothing comes between.
 *
 * @source `mlx5r_umr_update_mr_pas()`, `mlx5r_deref_wait_odp_mkey()`, drivers/infiniband/hw/mlx5,
 *   v7.2
 */

import { assert, type DmaAddr } from '../../base/index.ts';
import { DmaFence, type Kernel } from '../../framework/index.ts';
import {
  type Access,
  type Actor,
  Allocation,
  Cell,
  type Look,
  PreemptStep,
  SleepStep,
  wholeCell,
} from '../../machine/index.ts';

/** One piece of a region. */
export interface TranslationEntry {
  /** First byte, in the region's own addresses. */
  readonly iova: number;
  /** Bytes. */
  readonly length: number;
  /** Where the card finds it. */
  readonly dmaAddress: DmaAddr;
}

/** Where a region's bytes are: pieces by ascending address, without gaps. */
export type Translation = readonly TranslationEntry[];

/** What came of an attempt to pass. */
export type Passage = Translation | 'fault' | 'closed';

/** What closing a gate found. */
export interface Closed {
  /** True if no access is under way. */
  readonly isIdle: boolean;
  /** Signaled when the accesses under way are over; null if there are none, or they were under way
   *  already when the gate was closed before. */
  readonly fence: DmaFence | null;
}

interface GateState {
  /** Null while the gate is closed. LOCKING: changed only by who holds the buffer's reservation. */
  readonly translation: Translation | null;
  /** Accesses of the hardware under way. */
  readonly inFlight: number;
  /** Works of the driver that somebody ordered for this region and that are not done. */
  readonly works: number;
  /** Signaled when {@link inFlight} reaches 0; null while the gate is open. */
  readonly drain: DmaFence | null;
  /** Of the last fence. */
  readonly seqno: number;
}

const SHUT: GateState = { translation: null, inFlight: 0, works: 0, drain: null, seqno: 0 };

/** The gate of one region. */
export class RegionGate extends Cell<GateState> {
  readonly kernel: Kernel;
  /** The memory it lives in, the driver's `struct ib_mr`. */
  readonly memory: Allocation;
  /** True if the driver can bring the region back when an access finds the gate closed. */
  readonly canFault: boolean;
  /** Fences of one region signal in order. */
  private readonly fenceContext: number;

  constructor(kernel: Kernel, fenceContext: number, canFault: boolean) {
    super(kernel.scheduler, 'mr gate', SHUT);
    this.kernel = kernel;
    this.memory = new Allocation(kernel.scheduler, 'ib_mr');
    this.canFault = canFault;
    this.fenceContext = fenceContext;
  }

  /**
   * A step that opens the gate.
   *
   * @context The caller holds the reservation. No access is under way.
   */
  open(translation: Translation): PreemptStep<void> {
    return new Open(this, translation);
  }

  /**
   * A step that closes the gate: from now on no access begins.
   *
   * @context The caller holds the reservation, and adds the fence to it before it unlocks.
   */
  close(): PreemptStep<Closed> {
    return new Close(this);
  }

  /**
   * A step that looks whether the gate is open.
   *
   * @context The caller holds the reservation; without, the answer is old at once.
   */
  isOpen(): PreemptStep<boolean> {
    return new IsOpen(this);
  }

  /**
   * A step of the hardware that counts an access out.
   *
   * @returns The fence to signal if it was the last one of a closed gate, else null. A work of the
   *   driver, the unmap, has then been counted in.
   * @context Any.
   */
  leave(): PreemptStep<DmaFence | null> {
    return new Leave(this);
  }

  /**
   * A step of the driver that counts a work out.
   *
   * @context Any. Who is not about to deregister does not touch the region afterwards.
   */
  workDone(): PreemptStep<void> {
    return new WorkDone(this);
  }

  /**
   * A step that waits until no access is under way.
   *
   * LOCKING: safe with the reservation held. An access that is under way waits for nothing.
   *
   * @context May sleep.
   */
  untilIdle(): SleepStep<void> {
    return new UntilIdle(this, true);
  }

  /**
   * A step that waits until no access and no work of the driver is under way.
   *
   * LOCKING: never with the reservation held, for which works wait.
   *
   * @context May sleep.
   */
  untilQuiet(): SleepStep<void> {
    return new UntilIdle(this, false);
  }

  /**
   * Lets an access through, or counts a page fault in.
   *
   * @context Inside the step of the hardware that looks the region up.
   */
  pass(actor: Actor): Passage {
    this.memory.check(actor, this.name);
    const { translation, inFlight, works } = this.value;
    if (translation !== null) {
      this.value = { ...this.value, inFlight: inFlight + 1 };
      return translation;
    }
    if (!this.canFault) return 'closed';
    this.value = { ...this.value, works: works + 1 };
    return 'fault';
  }

  /**
   * What {@link pass} touches.
   *
   * @context Any.
   */
  passAccesses(look: Look): readonly Access[] {
    const changes = this.canFault || look(this).translation !== null;
    return [wholeCell(this, changes ? 'W' : 'R'), wholeCell(this.memory, 'R')];
  }

  /**
   * Takes the translation away, and makes the fence if accesses are under way.
   *
   * @context Inside the step of {@link close}.
   */
  shut(): Closed {
    const { translation, inFlight, seqno } = this.value;
    if (translation === null || inFlight === 0) {
      this.value = { ...this.value, translation: null };
      return { isIdle: inFlight === 0, fence: null };
    }
    const fence = new DmaFence(this.kernel, {
      driver: 'rdma-nic',
      timeline: 'mr accesses',
      context: this.fenceContext,
      seqno: seqno + 1,
    });
    this.value = { ...this.value, translation: null, drain: fence, seqno: seqno + 1 };
    return { isIdle: false, fence };
  }
}

abstract class GateStep<R> extends PreemptStep<R> {
  readonly cell: RegionGate;

  constructor(cell: RegionGate) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W'), wholeCell(this.cell.memory, 'R')];
  }

  apply(actor: Actor): R {
    this.cell.memory.check(actor, this.cell.name);
    return this.act();
  }

  protected abstract act(): R;
}

class Open extends GateStep<void> {
  private readonly translation: Translation;

  constructor(cell: RegionGate, translation: Translation) {
    super(cell);
    this.translation = translation;
  }

  get verb(): string {
    return 'set translation';
  }

  protected act(): void {
    const { cell, translation } = this;
    assert(cell.value.inFlight === 0, 'a gate opens when the accesses of before are over');
    cell.value = { ...cell.value, translation };
  }
}

class Close extends GateStep<Closed> {
  get verb(): string {
    return 'clear translation';
  }

  protected act(): Closed {
    return this.cell.shut();
  }
}

class IsOpen extends GateStep<boolean> {
  get verb(): string {
    return 'look at translation';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R'), wholeCell(this.cell.memory, 'R')];
  }

  protected act(): boolean {
    return this.cell.value.translation !== null;
  }
}

class Leave extends GateStep<DmaFence | null> {
  get verb(): string {
    return 'end access';
  }

  protected act(): DmaFence | null {
    const { cell } = this;
    const { drain, works } = cell.value;
    const inFlight = cell.value.inFlight - 1;
    assert(inFlight >= 0, 'an access that ends has begun');
    const fence = inFlight === 0 ? drain : null;
    cell.value =
      fence === null
        ? { ...cell.value, inFlight }
        : { ...cell.value, inFlight, drain: null, works: works + 1 };
    return fence;
  }
}

class WorkDone extends GateStep<void> {
  get verb(): string {
    return 'end work';
  }

  protected act(): void {
    const { cell } = this;
    const works = cell.value.works - 1;
    assert(works >= 0, 'a work that ends was ordered');
    cell.value = { ...cell.value, works };
  }
}

class UntilIdle extends SleepStep<void> {
  readonly cell: RegionGate;
  /** True: works of the driver do not matter. */
  private readonly isForAccesses: boolean;

  constructor(cell: RegionGate, isForAccesses: boolean) {
    super();
    this.cell = cell;
    this.isForAccesses = isForAccesses;
  }

  get verb(): string {
    return this.isForAccesses ? 'wait for accesses' : 'wait for accesses and works';
  }

  override guard(look: Look): boolean {
    const { inFlight, works } = look(this.cell);
    return inFlight === 0 && (this.isForAccesses || works === 0);
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R'), wholeCell(this.cell.memory, 'R')];
  }

  apply(actor: Actor): void {
    this.cell.memory.check(actor, this.cell.name);
  }
}
