/** A machine and one device on it, to map things for. */

import { physAddr } from '../../src/base/index.ts';
import { type PageList, pageList } from '../../src/framework/index.ts';
import type { MachineSpec, PciFunction } from '../../src/machine/index.ts';
import { oneStep } from '../machine/fabric-rig.ts';
import { KernelRig } from './kernel-rig.ts';

/** Bytes of a page. */
export const PAGE = 4096;
/** RAM that nobody has. */
export const BASE = 0x20_0000;
/** RAM beyond 32 bits. */
export const HIGH = 2 ** 32;

/** A kernel, and the CPU's own accesses. */
export class DmaRig extends KernelRig {
  readonly card: PciFunction;

  constructor(spec: MachineSpec, address = '0a:00.0') {
    super(spec);
    this.card = this.at(address);
  }

  /** The CPU stores to RAM. */
  store(phys: number, bytes: readonly number[]): void {
    this.do(oneStep(this.machine.cpu.store(physAddr(phys), Uint8Array.from(bytes))));
  }

  /** The CPU loads from RAM. */
  load(phys: number, length: number): readonly number[] {
    return [...this.do(oneStep(this.machine.cpu.load(physAddr(phys), length)))];
  }

  /** What the device's domain holds. */
  get table(): readonly { readonly iova: number; readonly size: number }[] {
    return this.card.domain.value?.value ?? [];
  }

  /** Cache maintenance so far. */
  get maintenance(): number {
    return this.events('cache.clean', 'cache.invalidate').length;
  }
}

/** Pages at some places. */
export function pagesAt(...ranges: readonly (readonly [phys: number, pages: number])[]): PageList {
  return pageList(ranges.map(([phys, count]) => ({ phys: physAddr(phys), size: count * PAGE })));
}
