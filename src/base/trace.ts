/**
 * What happened: one discriminated union of events. The machine and the framework write it (drivers
 * never do), and so will the reader of real kernel traces; checker, studio and command line read
 * it. Events are plain data with ids, so a trace survives a file.
 *
 * Objects are named by number (`buffer: 3` is the third dma-buf of the run) and devices by their
 * name. Addresses are numbers of the kind that the field says.
 */

/** Version of the event format; a change of meaning changes the number. */
export const TRACE_SCHEMA = 'peerbuf.trace/1';

/** What an actor stands for. */
export type ActorRole = 'user' | 'kernel' | 'device' | 'remote';

/** Which way data flows, seen from memory. */
export type DmaDirection = 'bidirectional' | 'to-device' | 'from-device';

/** How a transfer ended. */
export type TransferResult = 'done' | 'fault';

/** The fields that every event has; the scheduler fills them in. */
export interface EventStamp {
  /** Position in the trace, from 0. */
  readonly seq: number;
  /** Steps taken before the event. */
  readonly step: number;
  /** Virtual time in nanoseconds. */
  readonly t: number;
  /** The actor whose code caused it; `''` for the machine itself. */
  readonly task: string;
}

/** The run as a whole. */
export type RunEvent =
  | {
      readonly kind: 'run.begin';
      readonly schema: typeof TRACE_SCHEMA;
      readonly scenario: string;
      readonly machine: string;
      readonly strategy: string;
    }
  | {
      readonly kind: 'run.end';
      readonly status: string;
      readonly steps: number;
      readonly findings: number;
    }
  | { readonly kind: 'clock.advance'; readonly to: number }
  | { readonly kind: 'story.note'; readonly text: string }
  | { readonly kind: 'story.fail'; readonly text: string };

/** Actors. */
export type TaskEvent =
  | {
      readonly kind: 'task.spawn';
      readonly child: string;
      readonly role: ActorRole;
      readonly daemon: boolean;
    }
  | { readonly kind: 'task.block'; readonly on: string; readonly verb: string }
  | { readonly kind: 'task.end'; readonly failed: string | null };

/** Locks of every sort. `lock` is the class (where it was made), `id` the object. */
export type LockEvent =
  | {
      readonly kind: 'lock.acquire';
      readonly lock: string;
      readonly id: number;
      readonly mode: 'exclusive' | 'shared';
      /** Stamp of the acquire context, for reservation locks taken under one. */
      readonly ctx?: number;
    }
  | { readonly kind: 'lock.release'; readonly lock: string; readonly id: number }
  | {
      readonly kind: 'lock.backoff';
      readonly lock: string;
      readonly id: number;
      readonly code: 'EDEADLK' | 'EALREADY';
      readonly ctx: number;
    };

/** Buffers and descriptors. */
export type BufferEvent =
  | {
      readonly kind: 'buffer.export';
      readonly buffer: number;
      readonly exporter: string;
      readonly size: number;
    }
  | {
      readonly kind: 'buffer.fd';
      readonly buffer: number;
      readonly process: string;
      readonly fd: number;
    }
  | { readonly kind: 'buffer.get'; readonly buffer: number }
  | { readonly kind: 'buffer.try-get'; readonly buffer: number; readonly ok: boolean }
  | { readonly kind: 'buffer.put'; readonly buffer: number; readonly last: boolean }
  | {
      readonly kind: 'buffer.release';
      readonly buffer: number;
      readonly phase: 'begin' | 'end';
    }
  | {
      readonly kind: 'buffer.invalidate';
      readonly buffer: number;
      readonly phase: 'begin' | 'end';
    }
  | { readonly kind: 'fd.close'; readonly process: string; readonly fd: number };

/** The CPU at a buffer. */
export type CpuAccessEvent =
  | { readonly kind: 'buffer.name'; readonly buffer: number; readonly name: string }
  | {
      readonly kind: 'buffer.begin-cpu-access' | 'buffer.end-cpu-access';
      readonly buffer: number;
      readonly direction: DmaDirection;
    }
  | {
      readonly kind: 'buffer.mmap';
      readonly buffer: number;
      readonly pages: number;
      /** True for another driver's mmap that was passed on to the buffer. */
      readonly forwarded: boolean;
    }
  | {
      readonly kind: 'buffer.vmap' | 'buffer.vunmap';
      readonly buffer: number;
      /** Users of the kernel's map afterwards. */
      readonly mappings: number;
    };

/** One piece of a mapping as its device sees it. */
export interface MappedRange {
  /** In the DMA address space of the attachment's device. */
  readonly address: number;
  /** Bytes. */
  readonly length: number;
}

/** Attachments. */
export type AttachmentEvent =
  | {
      readonly kind: 'attachment.attach';
      readonly attachment: number;
      readonly buffer: number;
      readonly device: string;
      readonly dynamic: boolean;
      readonly peer2peer: boolean;
    }
  | {
      readonly kind: 'attachment.refuse';
      readonly buffer: number;
      readonly device: string;
      readonly call: string;
      readonly code: string;
      readonly reason: string;
      readonly detail: Readonly<Record<string, unknown>>;
    }
  | { readonly kind: 'attachment.detach'; readonly attachment: number; readonly buffer: number }
  | { readonly kind: 'attachment.pin'; readonly attachment: number; readonly buffer: number }
  | { readonly kind: 'attachment.unpin'; readonly attachment: number; readonly buffer: number }
  | {
      readonly kind: 'attachment.map';
      readonly attachment: number;
      readonly buffer: number;
      readonly device: string;
      readonly direction: DmaDirection;
      readonly entries: readonly MappedRange[];
    }
  | {
      readonly kind: 'attachment.unmap';
      readonly attachment: number;
      readonly buffer: number;
      readonly device: string;
    }
  | {
      readonly kind: 'attachment.invalidate';
      readonly attachment: number;
      readonly buffer: number;
      readonly phase: 'begin' | 'end';
    };

/** Fences and reservations. */
export type FenceEvent =
  | {
      readonly kind: 'fence.init';
      readonly fence: number;
      readonly context: number;
      readonly seqno: number;
      readonly driver: string;
      readonly timeline: string;
    }
  | { readonly kind: 'fence.signal'; readonly fence: number; readonly error: number }
  | { readonly kind: 'fence.wait'; readonly fence: number; readonly phase: 'begin' | 'end' }
  | {
      readonly kind: 'resv.add-fence';
      readonly resv: number;
      readonly fence: number;
      readonly usage: string;
    };

/** Bytes that move, and bytes that do not arrive. */
export type TransferEvent =
  | {
      readonly kind: 'dma.read' | 'dma.write';
      readonly device: string;
      /** The address in the device's request. */
      readonly address: number;
      readonly length: number;
      /** Where it landed: `node0+0x1000`, `0000:41:00.0 BAR2+0x2000`; or why it did not. */
      readonly target: string;
      /** The ports it passed, `root-complex` and `iommu` among them. */
      readonly route: readonly string[];
      readonly result: TransferResult;
    }
  | {
      readonly kind: 'mmio.read' | 'mmio.write';
      readonly target: string;
      readonly length: number;
      readonly result: TransferResult;
    }
  | {
      readonly kind: 'pci.fault';
      readonly device: string;
      readonly address: number;
      readonly access: 'read' | 'write';
      /** The function or port that refused. */
      readonly at: string;
      readonly why: string;
    }
  | {
      readonly kind: 'iommu.map' | 'iommu.unmap';
      readonly domain: string;
      readonly iova: number;
      readonly phys: number;
      readonly size: number;
    }
  | {
      readonly kind: 'iommu.fault';
      readonly device: string;
      readonly address: number;
      readonly access: 'read' | 'write';
      readonly why: string;
    }
  | {
      readonly kind: 'cache.clean' | 'cache.invalidate';
      readonly phys: number;
      readonly size: number;
    }
  | {
      /** Somebody read bytes that another has changed since: a sync was forgotten. */
      readonly kind: 'cache.stale';
      /** A device, or `cpu`. */
      readonly reader: string;
      readonly phys: number;
      /** Bytes that are not as they should be. */
      readonly size: number;
    };

/** Devices and the wire. */
export type DeviceEvent =
  | { readonly kind: 'device.reset'; readonly device: string; readonly phase: 'begin' | 'end' }
  | {
      readonly kind: 'device.command';
      readonly device: string;
      readonly memory: boolean;
      readonly busMaster: boolean;
    }
  | { readonly kind: 'irq.raise'; readonly device: string; readonly vector: number }
  | {
      readonly kind: 'wire.send' | 'wire.receive';
      readonly wire: string;
      readonly packet: string;
      readonly length: number;
    };

/** What the kernel prints when somebody broke a rule. */
export type KernelEvent =
  | { readonly kind: 'kernel.warn'; readonly call: string; readonly text: string }
  | { readonly kind: 'kernel.oops'; readonly text: string };

/** An event without its stamp: what the code that saw it knows. */
export type TraceBody =
  | RunEvent
  | TaskEvent
  | LockEvent
  | BufferEvent
  | CpuAccessEvent
  | AttachmentEvent
  | FenceEvent
  | TransferEvent
  | DeviceEvent
  | KernelEvent;

/** One event of a trace. */
export type TraceEvent = TraceBody & EventStamp;

/** The name of an event kind. */
export type TraceKind = TraceBody['kind'];

/** A whole trace, in order. */
export type Trace = readonly TraceEvent[];

/** Takes events as they happen. While there is none, recording costs one test. */
export type TraceSink = (event: TraceEvent) => void;
