/**
 * The controller memory buffer: memory on the drive behind one of its BARs, in which a host, or a
 * peer that was lent it, may put queues and data. The controller reaches it without the bus.
 *
 * @source NVM Express Base Specification 1.4, section 4.7
 */

import { PAGE_SIZE, present } from '../../base/index.ts';
import { DeviceMemory, type PciFunction } from '../../machine/index.ts';
import {
  CMBLOC_INDEPENDENT_DATA,
  CMBLOC_MIXED_DATA,
  CMBSZ_CQS,
  CMBSZ_LISTS,
  CMBSZ_RDS,
  CMBSZ_SQS,
  CMBSZ_WDS,
  type CmbPlace,
  encodeCmbPlace,
  REGISTER_PAGE_SIZE,
} from './registers.ts';

/** What a drive lets one put into its buffer; all of it, where nothing is said. */
export interface CmbOptions {
  readonly submissionQueues?: boolean;
  readonly completionQueues?: boolean;
  /** PRP lists; only where submission queues may be. */
  readonly lists?: boolean;
  /** Data of commands that read from the drive. */
  readonly readData?: boolean;
  /** Data of commands that write to the drive. */
  readonly writeData?: boolean;
  /** Data of one command partly inside and partly outside. */
  readonly mixedData?: boolean;
}

/** The buffer of one controller. */
export class ControllerMemory {
  readonly place: CmbPlace;
  readonly memory: DeviceMemory;
  /** What CMBLOC and CMBSZ show once the host wants to see them. */
  readonly cmbloc: number;
  readonly cmbsz: number;
  /** True if one command's data may be partly outside. */
  readonly mixedData: boolean;

  constructor(fn: PciFunction, place: CmbPlace, options: CmbOptions) {
    const { mixedData = true } = options;
    const locationFlags = CMBLOC_INDEPENDENT_DATA | (mixedData ? CMBLOC_MIXED_DATA : 0);
    const registers = present(
      encodeCmbPlace(place, locationFlags, sizeFlags(options)),
      `CMBSZ for ${place.size} bytes`,
    );
    this.place = place;
    this.memory = new DeviceMemory(fn.machine.scheduler, `${fn.name} CMB`, place.size);
    this.cmbloc = registers.cmbloc;
    this.cmbsz = registers.cmbsz;
    this.mixedData = mixedData;
  }

  /** True if the buffer may be used so; `use` is a `CMBSZ_…` bit. */
  supports(use: number): boolean {
    return (this.cmbsz & use) !== 0;
  }
}

/**
 * Where a function has room for a buffer: the largest memory BAR other than BAR0, or else what BAR0
 * has behind registers and doorbells; null if it has nothing.
 *
 * @context Any; pure.
 */
export function roomForCmb(fn: PciFunction): CmbPlace | null {
  let largest: CmbPlace | null = null;
  for (const { spec } of fn.node.memoryBars) {
    if (spec.index === 0 || spec.size < PAGE_SIZE) continue;
    if (largest !== null && spec.size <= largest.size) continue;
    largest = { bar: spec.index, offset: 0, size: spec.size };
  }
  if (largest !== null) return largest;
  const offset = 2 * REGISTER_PAGE_SIZE;
  const size = fn.barSize(0) - offset;
  return size >= PAGE_SIZE ? { bar: 0, offset, size } : null;
}

function sizeFlags(options: CmbOptions): number {
  const {
    submissionQueues = true,
    completionQueues = true,
    lists = true,
    readData = true,
    writeData = true,
  } = options;
  return (
    (submissionQueues ? CMBSZ_SQS : 0) |
    (completionQueues ? CMBSZ_CQS : 0) |
    (lists && submissionQueues ? CMBSZ_LISTS : 0) |
    (readData ? CMBSZ_RDS : 0) |
    (writeData ? CMBSZ_WDS : 0)
  );
}
