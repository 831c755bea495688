/**
 * The structs of `/dev/peerbuf-probe`. Each is a multiple of 8 bytes; what is reserved is zero, or
 * the call fails with `EINVAL`.
 *
 * @source docs/probe-abi.md
 */

import { PROBE_NAME_LEN } from './probe.ts';
import { chars, type Struct, s32, struct, u32, u64 } from './struct.ts';

/** `struct probe_version`. */
export interface ProbeVersion {
  readonly version: number;
  readonly reserved: number;
  /** None so far. */
  readonly features: bigint;
}

/** Layout of {@link ProbeVersion}. */
export const probeVersion: Struct<ProbeVersion> = struct({
  version: u32,
  reserved: u32,
  features: u64,
});

/** `struct probe_import`. */
export interface ProbeImport {
  readonly fd: number;
  readonly flags: number;
  /** Told. */
  readonly import: number;
  readonly reserved: number;
}

/** Layout of {@link ProbeImport}. */
export const probeImport: Struct<ProbeImport> = struct({
  fd: s32,
  flags: u32,
  import: u32,
  reserved: u32,
});

/** `struct probe_attach`. */
export interface ProbeAttach {
  readonly import: number;
  /** Bits of `PROBE_ATTACH`. */
  readonly mode: number;
  /** `0000:04:00.0`; `probe`, a platform device; nothing, no device at all. */
  readonly device: string;
  readonly flags: number;
  /** Told. */
  readonly attachment: number;
  /** Told: bits of `PROBE_ATTACHED`. */
  readonly state: number;
  readonly reserved: number;
}

/** Layout of {@link ProbeAttach}. */
export const probeAttach: Struct<ProbeAttach> = struct({
  import: u32,
  mode: u32,
  device: chars(PROBE_NAME_LEN),
  flags: u32,
  attachment: u32,
  state: u32,
  reserved: u32,
});

/** `struct probe_map`. */
export interface ProbeMap {
  readonly attachment: number;
  /** One of `PROBE_DIRECTION`. */
  readonly direction: number;
  /** Where the first {@link capacity} entries go. */
  readonly entries: bigint;
  readonly capacity: number;
  readonly flags: number;
  /** Told. */
  readonly mapping: number;
  /** Told: how many entries there are, also beyond the capacity. */
  readonly count: number;
}

/** Layout of {@link ProbeMap}. */
export const probeMap: Struct<ProbeMap> = struct({
  attachment: u32,
  direction: u32,
  entries: u64,
  capacity: u32,
  flags: u32,
  mapping: u32,
  count: u32,
});

/** `struct probe_entry`: a piece of a mapping. */
export interface ProbeEntry {
  readonly address: bigint;
  readonly length: bigint;
}

/** Layout of {@link ProbeEntry}. */
export const probeEntry: Struct<ProbeEntry> = struct({ address: u64, length: u64 });

/** `struct probe_id`: for calls that only need to know what they are about. */
export interface ProbeId {
  readonly id: number;
  readonly reserved: number;
}

/** Layout of {@link ProbeId}. */
export const probeId: Struct<ProbeId> = struct({ id: u32, reserved: u32 });

/** `struct probe_cpu`. */
export interface ProbeCpu {
  readonly import: number;
  /** One of `PROBE_DIRECTION`. */
  readonly direction: number;
  readonly reserved: bigint;
}

/** Layout of {@link ProbeCpu}. */
export const probeCpu: Struct<ProbeCpu> = struct({ import: u32, direction: u32, reserved: u64 });

/** `struct probe_vmap`. */
export interface ProbeVmap {
  readonly import: number;
  readonly flags: number;
  /** Told. */
  readonly vmap: number;
  /** Told: 0 or `PROBE_VMAP_IOMEM`. */
  readonly state: number;
  /** Told: bytes. */
  readonly size: bigint;
  readonly reserved: bigint;
}

/** Layout of {@link ProbeVmap}. */
export const probeVmap: Struct<ProbeVmap> = struct({
  import: u32,
  flags: u32,
  vmap: u32,
  state: u32,
  size: u64,
  reserved: u64,
});

/** `struct probe_copy`: between a map in the kernel and the program's memory. */
export interface ProbeCopy {
  readonly vmap: number;
  readonly reserved: number;
  readonly offset: bigint;
  readonly length: bigint;
  /** The program's memory. */
  readonly data: bigint;
}

/** Layout of {@link ProbeCopy}. */
export const probeCopy: Struct<ProbeCopy> = struct({
  vmap: u32,
  reserved: u32,
  offset: u64,
  length: u64,
  data: u64,
});

/** `struct probe_events`. */
export interface ProbeEvents {
  /** Where up to {@link capacity} events go, oldest first. */
  readonly events: bigint;
  readonly capacity: number;
  readonly flags: number;
  /** Told: how many were written. They are forgotten. */
  readonly count: number;
  /** Told: how many are left. */
  readonly left: number;
}

/** Layout of {@link ProbeEvents}. */
export const probeEvents: Struct<ProbeEvents> = struct({
  events: u64,
  capacity: u32,
  flags: u32,
  count: u32,
  left: u32,
});

/** `struct probe_event`: an importer was told that its mappings are stale. */
export interface ProbeEventRecord {
  /** From 1; a gap is what was lost. */
  readonly sequence: bigint;
  readonly attachment: number;
  /** Mappings that the callback itself took back. */
  readonly unmapped: number;
}

/** Layout of {@link ProbeEventRecord}. */
export const probeEvent: Struct<ProbeEventRecord> = struct({
  sequence: u64,
  attachment: u32,
  unmapped: u32,
});

/** `struct probe_export`. */
export interface ProbeExport {
  readonly pages: number;
  /** Bits of `PROBE_EXPORT`. */
  readonly flags: number;
  /** `O_CLOEXEC` and an access mode. */
  readonly openFlags: number;
  /** What attach, map and pin fail with: an error number, positive; 0: they do not. */
  readonly attachErrno: number;
  readonly mapErrno: number;
  readonly pinErrno: number;
  /** Told: the descriptor. */
  readonly fd: number;
  /** Told. */
  readonly export: number;
  readonly reserved: bigint;
}

/** Layout of {@link ProbeExport}. */
export const probeExport: Struct<ProbeExport> = struct({
  pages: u32,
  flags: u32,
  openFlags: u32,
  attachErrno: u32,
  mapErrno: u32,
  pinErrno: u32,
  fd: s32,
  export: u32,
  reserved: u64,
});

/** `struct probe_export_info`: what the exporter sees of its buffer. */
export interface ProbeExportInfo {
  readonly export: number;
  readonly flags: number;
  /** Told, as the rest. */
  readonly attachments: number;
  readonly mappings: number;
  readonly pins: number;
  readonly reserved32: number;
  readonly reserved: bigint;
}

/** Layout of {@link ProbeExportInfo}. */
export const probeExportInfo: Struct<ProbeExportInfo> = struct({
  export: u32,
  flags: u32,
  attachments: u32,
  mappings: u32,
  pins: u32,
  reserved32: u32,
  reserved: u64,
});

/** `struct probe_fence_add`. */
export interface ProbeFenceAdd {
  readonly import: number;
  /** One of `PROBE_USAGE`. */
  readonly usage: number;
  readonly flags: number;
  /** Told. */
  readonly fence: number;
  readonly reserved: bigint;
}

/** Layout of {@link ProbeFenceAdd}. */
export const probeFenceAdd: Struct<ProbeFenceAdd> = struct({
  import: u32,
  usage: u32,
  flags: u32,
  fence: u32,
  reserved: u64,
});

/** `struct probe_fence_signal`. */
export interface ProbeFenceSignal {
  readonly fence: number;
  /** 0, or a negative error number. */
  readonly error: number;
  readonly reserved: bigint;
}

/** Layout of {@link ProbeFenceSignal}. */
export const probeFenceSignal: Struct<ProbeFenceSignal> = struct({
  fence: u32,
  error: s32,
  reserved: u64,
});

/** `struct probe_fences`. */
export interface ProbeFences {
  readonly import: number;
  /** One of `PROBE_USAGE`: those up to it. */
  readonly usage: number;
  /** Where the first {@link capacity} go. */
  readonly fences: bigint;
  readonly capacity: number;
  readonly flags: number;
  /** Told: how many there are, also beyond the capacity. */
  readonly count: number;
  readonly reserved: number;
}

/** Layout of {@link ProbeFences}. */
export const probeFences: Struct<ProbeFences> = struct({
  import: u32,
  usage: u32,
  fences: u64,
  capacity: u32,
  flags: u32,
  count: u32,
  reserved: u32,
});

/** `struct probe_fence`: a fence that is not signaled yet. */
export interface ProbeFence {
  readonly context: bigint;
  readonly seqno: bigint;
}

/** Layout of {@link ProbeFence}. */
export const probeFence: Struct<ProbeFence> = struct({ context: u64, seqno: u64 });
