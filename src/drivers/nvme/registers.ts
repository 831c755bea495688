/**
 * Where an NVMe controller's registers are and what their bits mean: plain numbers, for the
 * controller and for the driver alike.
 *
 * Left out: INTMS and INTMC, which serve pin and MSI interrupts only (this controller has MSI-X),
 * NSSR, the boot partition and the persistent memory region. They read 0.
 *
 * @context Any: everything here is pure.
 * @source NVM Express Base Specification 1.4, section 3.1
 */

/** Offsets in BAR0. @source NVMe 1.4, 3.1 */
export const REGISTER = {
  /** Controller Capabilities, 64 bits. 3.1.1 */
  cap: 0x00,
  /** Version. 3.1.2 */
  vs: 0x08,
  /** Controller Configuration. 3.1.5 */
  cc: 0x14,
  /** Controller Status. 3.1.6 */
  csts: 0x1c,
  /** Admin Queue Attributes. 3.1.8 */
  aqa: 0x24,
  /** Admin Submission Queue Base Address, 64 bits. 3.1.9 */
  asq: 0x28,
  /** Admin Completion Queue Base Address, 64 bits. 3.1.10 */
  acq: 0x30,
  /** Controller Memory Buffer Location. 3.1.11 */
  cmbloc: 0x38,
  /** Controller Memory Buffer Size. 3.1.12 */
  cmbsz: 0x3c,
  /** Controller Memory Buffer Memory Space Control, 64 bits. 3.1.16 */
  cmbmsc: 0x50,
  /** Controller Memory Buffer Status. 3.1.17 */
  cmbsts: 0x58,
} as const;

/** Bytes of the page of registers, and of the page of doorbells behind it. */
export const REGISTER_PAGE_SIZE = 0x1000;

/** VS: version 1.4.0. */
export const VERSION_1_4 = 0x0001_0400;

/** LIMIT: entries of a queue, CAP.MQES + 1: one page of submission queue entries. */
export const QUEUE_ENTRIES_MAX = 64;

/** LIMIT: I/O queue pairs; each costs every run two register cells. */
export const IO_QUEUES_MAX = 8;

/** CC: enable. */
export const CC_EN = 0x1;
/** CC: command set, page size and arbitration; only 0 is valid: NVM, 4 KiB, round robin. */
export const CC_FIXED: number = 0x70 | 0x780 | 0x3800;
/** CC: sizes of I/O queue entries as powers of two, 64 and 16 bytes. */
export const CC_ENTRY_SIZES: number = (6 << 16) | (4 << 20);
/** CC: the bits of those sizes. */
export const CC_ENTRY_SIZES_MASK = 0x00ff_0000;

/** CSTS: ready. */
export const CSTS_RDY = 0x1;
/** CSTS: a fatal error; only a reset helps. */
export const CSTS_CFS = 0x2;

/** CMBMSC: CMBLOC and CMBSZ show what is there. */
export const CMBMSC_CRE = 0x1;
/** CMBMSC: addresses from CBA on mean the controller memory buffer. */
export const CMBMSC_CMSE = 0x2;
/** CMBSTS: the controller base address cannot be used. */
export const CMBSTS_CBAI = 0x1;

/** CMBSZ: submission queues may be in the buffer. */
export const CMBSZ_SQS = 0x1;
/** CMBSZ: completion queues may. */
export const CMBSZ_CQS = 0x2;
/** CMBSZ: PRP lists may. */
export const CMBSZ_LISTS = 0x4;
/** CMBSZ: data of commands that read from the drive may. */
export const CMBSZ_RDS = 0x8;
/** CMBSZ: data of commands that write to the drive may. */
export const CMBSZ_WDS = 0x10;

/** CMBLOC: one command's data may be partly in the buffer (CDPMLS). */
export const CMBLOC_MIXED_DATA = 0x20;
/** CMBLOC: data may be in the buffer though the command is not (CDPCILS). */
export const CMBLOC_INDEPENDENT_DATA = 0x40;

/** CAP, upper half: there is a controller memory buffer (CMBS, bit 57). */
export const CAP_HIGH_CMBS: number = 1 << 25;
const CAP_LOW_CQR = 1 << 16;
const CAP_LOW_TO_SHIFT = 24;
const CAP_HIGH_CSS_NVM = 1 << 5;

/** Unit of CAP.TO. */
const TIMEOUT_UNIT_NS = 500_000_000;

/**
 * The two halves of CAP: contiguous queues only, doorbells 4 bytes apart, 4 KiB pages, half a
 * second to become ready.
 *
 * @source NVMe 1.4, 3.1.1
 */
export function encodeCap(hasCmb: boolean): { readonly low: number; readonly high: number } {
  return {
    low: (QUEUE_ENTRIES_MAX - 1) | CAP_LOW_CQR | (1 << CAP_LOW_TO_SHIFT),
    high: CAP_HIGH_CSS_NVM | (hasCmb ? CAP_HIGH_CMBS : 0),
  };
}

/** Nanoseconds that CAP's lower half gives it to become ready. @source NVMe 1.4, 3.1.1 */
export function readyTimeoutNs(capLow: number): number {
  return (capLow >>> CAP_LOW_TO_SHIFT) * TIMEOUT_UNIT_NS;
}

/** Offset in BAR0 of a submission queue's tail doorbell. @source NVMe 1.4, 3.1.24 */
export function tailDoorbell(queue: number): number {
  return REGISTER_PAGE_SIZE + 8 * queue;
}

/** Offset in BAR0 of a completion queue's head doorbell. @source NVMe 1.4, 3.1.25 */
export function headDoorbell(queue: number): number {
  return REGISTER_PAGE_SIZE + 8 * queue + 4;
}

/** AQA for admin queues of so many entries. @source NVMe 1.4, 3.1.8 */
export function encodeAqa(submissionEntries: number, completionEntries: number): number {
  return (submissionEntries - 1) | ((completionEntries - 1) << 16);
}

/** Entries of the admin queues. @source NVMe 1.4, 3.1.8 */
export function decodeAqa(aqa: number): {
  readonly submission: number;
  readonly completion: number;
} {
  return { submission: (aqa & 0xfff) + 1, completion: ((aqa >>> 16) & 0xfff) + 1 };
}

/** Where a controller memory buffer is. Offset and size are bytes. */
export interface CmbPlace {
  /** The BAR that holds it. */
  readonly bar: number;
  readonly offset: number;
  readonly size: number;
}

/** Size units of CMBSZ: 4 KiB times 16 to this power, up to 64 GiB. */
const SIZE_UNIT_POWER_MAX = 6;

/** LIMIT: units that fit the 20 bits of CMBSZ.SZ and CMBLOC.OFST. */
const UNITS_MAX: number = 2 ** 20 - 1;

/**
 * CMBLOC and CMBSZ for a buffer at `place`, in the smallest unit that can tell its size.
 *
 * @param locationFlags - `CMBLOC_…` bits.
 * @param sizeFlags - `CMBSZ_…` bits.
 * @returns Null if the registers cannot say where it is: more than 2^20-1 of the largest units.
 * @source NVMe 1.4, 3.1.11 and 3.1.12
 */
export function encodeCmbPlace(
  place: CmbPlace,
  locationFlags: number,
  sizeFlags: number,
): { readonly cmbloc: number; readonly cmbsz: number } | null {
  for (let power = 0; power <= SIZE_UNIT_POWER_MAX; power += 1) {
    const unit = sizeUnit(power);
    const units = Math.floor(place.size / unit);
    if (units > UNITS_MAX || place.offset % unit !== 0) continue;
    return {
      cmbloc: unsigned(((place.offset / unit) << 12) | locationFlags | place.bar),
      cmbsz: unsigned((units << 12) | (power << 8) | sizeFlags),
    };
  }
  return null;
}

/** Where CMBLOC and CMBSZ say the buffer is; null: none, or not yet. @source NVMe 1.4, 3.1.11 */
export function decodeCmbPlace(cmbloc: number, cmbsz: number): CmbPlace | null {
  const units = cmbsz >>> 12;
  if (units === 0) return null;
  const unit = sizeUnit((cmbsz >>> 8) & 0xf);
  return { bar: cmbloc & 0x7, offset: (cmbloc >>> 12) * unit, size: units * unit };
}

function sizeUnit(power: number): number {
  return 4096 * 16 ** power;
}

function unsigned(value: number): number {
  return value >>> 0;
}
