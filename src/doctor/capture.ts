/**
 * What a capture says of a machine before it is a `MachineSpec`: the functions as drafts, in which
 * null stands for what the source did not show. `assemble.ts` fits them together.
 */

import type {
  Bdf,
  CpuSpec,
  FunctionSpec,
  IommuMode,
  MemorySpec,
  PciType,
} from '../machine/index.ts';

/** LIMIT: functions of one machine. */
export const FUNCTIONS_MAX: number = 65_536;

/** What whoever calls knows beside the capture; used where the capture itself is silent. */
export interface CaptureFacts {
  /** Name of the machine; whatever is not kebab-case in it is replaced. */
  readonly name?: string;
  readonly cpu?: CpuSpec;
  /** The kernel command line. */
  readonly cmdline?: string;
}

/** Virtual functions that a physical one has switched on. */
export interface VirtualFunctions {
  readonly count: number;
  /** Routing id of the first, counted from the physical function's own. */
  readonly offset: number;
  /** From one to the next; means nothing if there is but one. */
  readonly stride: number;
  readonly vendor: number;
  readonly device: number;
}

/** One function as the source shows it. */
export interface FunctionDraft extends Omit<FunctionSpec, 'address' | 'parent' | 'type'> {
  readonly bdf: Bdf;
  /**
   * Address of the bridge above; null on a root bus. `unknown`: the source has bus numbers only.
   */
  readonly parent: string | null | 'unknown';
  /** Null if the source could not see. */
  readonly type: PciType | null;
  /** True if something other than the type says that it is a PCI Express function. */
  readonly isExpress: boolean;
  /**
   * Bus addresses in the registers of its memory BARs, by index; those that are known and not 0.
   */
  readonly busAddresses: ReadonlyMap<number, number>;
  readonly virtualFunctions: VirtualFunctions | null;
}

/** RAM of one node whose place is not known. */
export interface MemorySize {
  readonly node: number;
  /** Bytes. */
  readonly size: number;
}

/** RAM as far as the source tells. */
export interface MemoryEvidence {
  /** Ranges with their place; the nodes are not known. */
  readonly ranges: readonly Omit<MemorySpec, 'node'>[];
  /** Sizes by node. */
  readonly sizes: readonly MemorySize[];
}

/** A whole capture. */
export interface Capture {
  /** For errors and the title. */
  readonly source: string;
  readonly facts: CaptureFacts;
  readonly title: string | null;
  readonly cpu: CpuSpec | null;
  readonly iommu: IommuMode;
  readonly memory: MemoryEvidence;
  readonly functions: readonly FunctionDraft[];
  /** What had to be assumed so far. */
  readonly notes: readonly string[];
}
