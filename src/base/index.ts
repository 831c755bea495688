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
  type UserAddr,
  userAddr,
} from './address.ts';
export { AssertionError, assert, assertUnreachable, present } from './assert.ts';
export { DmaBufError, ERRNO, type ErrnoCode, type ErrorContext, isDmaBufError } from './error.ts';
export { InputError, isInputError } from './input-error.ts';
export { alignDown, alignUp, isPageAligned, PAGE_SIZE } from './page.ts';
export type {
  PerfettoArgs,
  PerfettoAsync,
  PerfettoCounter,
  PerfettoEvent,
  PerfettoFlow,
  PerfettoInstant,
  PerfettoMetadata,
  PerfettoPlace,
  PerfettoSlice,
  PerfettoThread,
  PerfettoTrace,
} from './perfetto-event.ts';
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
export {
  parseTrace,
  TRACE_EVENTS_MAX,
  TRACE_LINE_CHARACTERS_MAX,
  TRACE_NESTING_MAX,
  TRACE_TEXT_CHARACTERS_MAX,
  traceLine,
  traceToJsonLines,
} from './trace-json.ts';
export { perfettoToJson, traceToPerfetto } from './trace-perfetto.ts';
export { describeEvent, formatSize, isMilestone } from './trace-text.ts';
