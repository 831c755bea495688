/**
 * How the controller reaches an address that a host gave it: inside the window that CMBMSC opens it
 * is the controller memory buffer, without the bus; everywhere else it is a request on the bus,
 * which the IOMMU and the fabric see.
 *
 * @source NVM Express Base Specification 1.4, sections 3.1.16 and 4.7
 */

import { ADDRESS_LIMIT, alignDown, dmaAddr, PAGE_SIZE } from '../../base/index.ts';
import type { PciFunction, Task } from '../../machine/index.ts';
import type { ControllerMemory } from './controller-memory.ts';
import type { Epoch } from './engine-step.ts';
import { CMBMSC_CMSE, CMBMSC_CRE } from './registers.ts';
import { joinHalves } from './uint64.ts';

/** Bytes that a command or queue lies in, at addresses as the host gives them. */
export interface Segment {
  readonly address: number;
  /** Bytes. */
  readonly length: number;
}

/** True if something can be at all these addresses. @context Any; pure. */
export function isAddressable({ address, length }: Segment): boolean {
  return address + length <= ADDRESS_LIMIT;
}

/** The way to memory in one epoch. */
export class MemoryPort {
  private readonly fn: PciFunction;
  private readonly cmb: ControllerMemory | null;
  private readonly epoch: Epoch;
  /** The first address of the window; null while it is shut. */
  private base: number | null = null;

  constructor(fn: PciFunction, cmb: ControllerMemory | null, epoch: Epoch) {
    this.fn = fn;
    this.cmb = cmb;
    this.epoch = epoch;
  }

  /**
   * Opens, moves or shuts the window as CMBMSC says.
   *
   * @returns False if the buffer does not fit behind the base address; the window is shut then.
   */
  setWindow(cmbmscLow: number, cmbmscHigh: number): boolean {
    this.base = null;
    const wanted = CMBMSC_CRE | CMBMSC_CMSE;
    if (this.cmb === null || (cmbmscLow & wanted) !== wanted) return true;
    const base = alignDown(joinHalves(cmbmscLow, cmbmscHigh), PAGE_SIZE);
    if (!isAddressable({ address: base, length: this.cmb.place.size })) return false;
    this.base = base;
    return true;
  }

  /** Whether bytes lie in the buffer: `inside`, `outside`, or `across` its edge. */
  sideOf({ address, length }: Segment): 'inside' | 'outside' | 'across' {
    const { base, cmb } = this;
    if (base === null || cmb === null) return 'outside';
    const end = base + cmb.place.size;
    if (address >= base && address + length <= end) return 'inside';
    return address + length <= base || address >= end ? 'outside' : 'across';
  }

  /**
   * Reads, in one step.
   *
   * @returns Null if nothing answered.
   * @context The engine. Sleeps while bus mastering is off.
   */
  *read(segment: Segment): Task<Uint8Array | null> {
    const { address, length } = segment;
    const inside = this.bufferOffset(segment);
    if (inside !== null) {
      return yield* this.epoch.inside(inside.memory.load(inside.offset, length));
    }
    const request = this.fn.machine.dma.read(this.fn, dmaAddr(address), length);
    const { bytes, ok } = yield* this.epoch.onBus(request);
    return ok ? bytes : null;
  }

  /**
   * Writes, in one step. Writes on the bus are posted: nobody says whether they arrived.
   *
   * @context The engine. Sleeps while bus mastering is off.
   */
  *write(address: number, bytes: Uint8Array): Task {
    const inside = this.bufferOffset({ address, length: bytes.length });
    if (inside !== null) {
      yield* this.epoch.inside(inside.memory.store(inside.offset, bytes));
      return;
    }
    const request = this.fn.machine.dma.write(this.fn, dmaAddr(address), bytes);
    yield* this.epoch.onBus(request);
  }

  private bufferOffset(
    segment: Segment,
  ): { memory: ControllerMemory['memory']; offset: number } | null {
    const { base, cmb } = this;
    if (base === null || cmb === null || this.sideOf(segment) !== 'inside') return null;
    return { memory: cmb.memory, offset: segment.address - base };
  }
}
