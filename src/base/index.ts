/** `peerbuf/base`: the words that every folder shares. */

export {
  ADDRESS_LIMIT,
  type Address,
  addressPlus,
  type BusAddr,
  busAddr,
  type DmaAddr,
  dmaAddr,
  formatAddress,
  type PhysAddr,
  physAddr,
} from './address.ts';
export { AssertionError, assert, assertUnreachable, present } from './assert.ts';
export { DmaBufError, ERRNO, type ErrnoCode, type ErrorContext, isDmaBufError } from './error.ts';
export { InputError } from './input-error.ts';
export { alignDown, alignUp, isPageAligned, PAGE_SIZE } from './page.ts';
export { Prng, SEED_MAX } from './prng.ts';
export {
  type ActorRole,
  type DmaDirection,
  type EventStamp,
  type MappedRange,
  TRACE_SCHEMA,
  type Trace,
  type TraceBody,
  type TraceEvent,
  type TraceKind,
  type TraceSink,
  type TransferResult,
} from './trace.ts';
