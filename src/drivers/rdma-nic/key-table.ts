/**
 * The keys of a card: which regions remote requests may name. Driver and hardware share it.
 *
 * @source `mlx5r_store_odp_mkey()`, `struct mlx5_ib_dev.odp_mkeys`, drivers/infiniband/hw/mlx5,
 *   v7.2
 */

import type { Process } from '../../framework/index.ts';
import {
  type Access,
  type Actor,
  Cell,
  type Look,
  PreemptStep,
  type Scheduler,
  wholeCell,
} from '../../machine/index.ts';
import type { MemoryRegion } from './memory-region.ts';
import type { NakStatus, RdmaRequest } from './packets.ts';
import type { Translation } from './region-gate.ts';

/** What the hardware finds when it looks a request's key up. */
export type Entry =
  | { readonly kind: 'refused'; readonly status: NakStatus }
  /** The access is counted in; count it out with {@link RegionGate.leave}. */
  | { readonly kind: 'granted'; readonly region: MemoryRegion; readonly translation: Translation }
  /** The region must be brought in; a work of the driver is counted in. */
  | { readonly kind: 'fault'; readonly region: MemoryRegion };

interface Keys {
  /** Keys handed out so far. */
  readonly count: number;
  /** By key, in order of registration. */
  readonly regions: ReadonlyMap<number, MemoryRegion>;
}

/** The upper bits of a key count; the lowest eight are a tag, so that guessing does not hit. */
const KEY_STRIDE = 0x100;
const KEY_TAG = 0x5a;

/** The keys of one card. */
export class KeyTable extends Cell<Keys> {
  constructor(scheduler: Scheduler, name: string) {
    super(scheduler, name, { count: 0, regions: new Map() });
  }

  /**
   * A step that draws a key that was never used.
   *
   * @context Any.
   */
  allocate(): PreemptStep<number> {
    return new AllocateKey(this);
  }

  /**
   * A step that makes a region known to the hardware under its key.
   *
   * @context Any.
   */
  insert(region: MemoryRegion): PreemptStep<void> {
    return new InsertRegion(this, region);
  }

  /**
   * A step that makes a region unknown. False if it was.
   *
   * @context Any.
   */
  remove(region: MemoryRegion): PreemptStep<boolean> {
    return new RemoveRegion(this, region);
  }

  /**
   * A step that lists the regions of a process, oldest first.
   *
   * @context Any.
   */
  regionsOf(process: Process): PreemptStep<readonly MemoryRegion[]> {
    return new ListRegions(this, process);
  }

  /**
   * A step of the hardware that looks a request's key up and, if all is well, begins the access.
   *
   * @context Any.
   */
  enter(request: RdmaRequest): PreemptStep<Entry> {
    return new EnterRegion(this, request);
  }
}

abstract class KeyStep<R> extends PreemptStep<R> {
  readonly cell: KeyTable;

  constructor(cell: KeyTable) {
    super();
    this.cell = cell;
  }

  override accesses(_look: Look): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }
}

class AllocateKey extends KeyStep<number> {
  get verb(): string {
    return 'allocate key';
  }

  apply(): number {
    const count = this.cell.value.count + 1;
    this.cell.value = { ...this.cell.value, count };
    return count * KEY_STRIDE + KEY_TAG;
  }
}

class InsertRegion extends KeyStep<void> {
  private readonly region: MemoryRegion;

  constructor(cell: KeyTable, region: MemoryRegion) {
    super(cell);
    this.region = region;
  }

  get verb(): string {
    return 'insert key';
  }

  apply(): void {
    const { count, regions } = this.cell.value;
    const { region } = this;
    this.cell.value = { count, regions: new Map([...regions, [region.rkey, region]]) };
  }
}

class RemoveRegion extends KeyStep<boolean> {
  private readonly region: MemoryRegion;

  constructor(cell: KeyTable, region: MemoryRegion) {
    super(cell);
    this.region = region;
  }

  get verb(): string {
    return 'remove key';
  }

  apply(): boolean {
    const { count, regions } = this.cell.value;
    const { region } = this;
    if (regions.get(region.rkey) !== region) return false;
    this.cell.value = {
      count,
      regions: new Map([...regions].filter(([, other]) => other !== region)),
    };
    return true;
  }
}

class ListRegions extends KeyStep<readonly MemoryRegion[]> {
  private readonly process: Process;

  constructor(cell: KeyTable, process: Process) {
    super(cell);
    this.process = process;
  }

  get verb(): string {
    return 'list keys';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): readonly MemoryRegion[] {
    return [...this.cell.value.regions.values()].filter(({ process }) => process === this.process);
  }
}

class EnterRegion extends KeyStep<Entry> {
  private readonly request: RdmaRequest;

  constructor(cell: KeyTable, request: RdmaRequest) {
    super(cell);
    this.request = request;
  }

  get verb(): string {
    return 'begin access';
  }

  override accesses(look: Look): readonly Access[] {
    const keys = wholeCell(this.cell, 'R');
    const region = look(this.cell).regions.get(this.request.rkey);
    if (region === undefined || region.refuses(this.request) !== null) return [keys];
    return [keys, ...region.gate.passAccesses(look)];
  }

  apply(actor: Actor): Entry {
    const region = this.cell.value.regions.get(this.request.rkey);
    if (region === undefined) return REFUSED;
    const status = region.refuses(this.request);
    if (status !== null) return { kind: 'refused', status };
    const passage = region.gate.pass(actor);
    if (passage === 'closed') return REFUSED;
    if (passage === 'fault') return { kind: 'fault', region };
    return { kind: 'granted', region, translation: passage };
  }
}

/** There is no such key, or it was revoked for good. */
const REFUSED: Entry = { kind: 'refused', status: 'remote-access-error' };
