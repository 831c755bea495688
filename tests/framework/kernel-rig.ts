/**
 * A kernel on a machine to try buffers on: an exporter and an importer that do what a test wants
 * and write down what was asked of them.
 */

import { expect } from 'vitest';
import {
  type DmaBufError,
  type DmaDirection,
  dmaAddr,
  type TraceEvent,
  type TraceKind,
} from '../../src/base/index.ts';
import { RoundRobinStrategy } from '../../src/explorer/index.ts';
import {
  type Attachment,
  type AttachOps,
  DmaBuf,
  type DmaBufOps,
  type DmaResv,
  Kernel,
  type KernelOptions,
  Process,
  type SgTable,
} from '../../src/framework/index.ts';
import type { Actor, MachineSpec, Outcome, Strategy, Task } from '../../src/machine/index.ts';
import { FabricRig } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';

/** What a fake exporter may be told to do. */
export interface ExporterOptions {
  /** With pin and unpin. */
  readonly isDynamic?: boolean;
  /** Runs in the attach callback. */
  readonly onAttach?: (buf: DmaBuf<FakeExporter>, attachment: Attachment<FakeExporter>) => Task;
  readonly onRelease?: (buf: DmaBuf<FakeExporter>) => Task;
  readonly pinError?: DmaBufError;
  readonly mapError?: DmaBufError;
}

/** An exporter of no memory at all: every mapping is one page at an address of its own. */
export class FakeExporter {
  /** What was asked, in order: `attach 0000:03:00.0`, `map bidirectional`. */
  readonly calls: string[] = [];
  /** Pins not taken back. */
  pins = 0;
  /** Tables not taken back. */
  readonly tables: SgTable[] = [];
  readonly options: ExporterOptions;

  constructor(options: ExporterOptions = {}) {
    this.options = options;
  }

  get ops(): DmaBufOps<FakeExporter> {
    return this.options.isDynamic === true ? { ...STATIC_OPS, ...PIN_OPS } : STATIC_OPS;
  }
}

const STATIC_OPS: DmaBufOps<FakeExporter> = {
  *attach(buf, attachment): Task {
    buf.priv.calls.push(`attach ${attachment.device.name}${lockNote(buf.resv)}`);
    const { onAttach } = buf.priv.options;
    if (onAttach !== undefined) yield* onAttach(buf, attachment);
  },

  *detach(buf, attachment): Task {
    buf.priv.calls.push(`detach ${attachment.device.name}${lockNote(buf.resv)}`);
  },

  *mapDmaBuf({ buf }, direction: DmaDirection): Task<SgTable> {
    const { priv } = buf;
    priv.calls.push(`map ${direction}${lockNote(buf.resv)}`);
    if (priv.options.mapError !== undefined) throw priv.options.mapError;
    const address = dmaAddr(0x1000 * priv.calls.length);
    const table: SgTable = { entries: [{ address, length: buf.size }] };
    priv.tables.push(table);
    return table;
  },

  *unmapDmaBuf({ buf }, table: SgTable, direction: DmaDirection): Task {
    const { calls, tables } = buf.priv;
    calls.push(`unmap ${direction}${lockNote(buf.resv)}`);
    const at = tables.indexOf(table);
    if (at < 0) expect.fail('an unmapped table is one that was handed out');
    tables.splice(at, 1);
  },

  *release(buf): Task {
    buf.priv.calls.push(`release${lockNote(buf.resv)}`);
    const { onRelease } = buf.priv.options;
    if (onRelease !== undefined) yield* onRelease(buf);
  },
};

const PIN_OPS: Pick<DmaBufOps<FakeExporter>, 'pin' | 'unpin'> = {
  *pin({ buf }): Task {
    buf.priv.calls.push(`pin${lockNote(buf.resv)}`);
    if (buf.priv.options.pinError !== undefined) throw buf.priv.options.pinError;
    buf.priv.pins += 1;
  },

  *unpin({ buf }): Task {
    buf.priv.calls.push(`unpin${lockNote(buf.resv)}`);
    buf.priv.pins -= 1;
  },
};

/** ` locked` while somebody holds the reservation. */
function lockNote(resv: DmaResv): string {
  return resv.lockCell.value.owner === null ? '' : ' locked';
}

/** A kernel on a machine whose devices are memory. */
export class KernelRig extends FabricRig {
  readonly kernel: Kernel;
  readonly process: Process;

  constructor(spec: MachineSpec = wideMachine(), options: KernelOptions = {}) {
    super(spec);
    this.kernel = new Kernel(this.machine, options);
    this.process = new Process(this.kernel, 'app');
  }

  /** Exports a buffer of one page, or more. */
  *export(exporter = new FakeExporter(), size = 4096): Task<DmaBuf<FakeExporter>> {
    const { ops } = exporter;
    return yield* DmaBuf.export(this.kernel, { exporterName: 'fake', ops, size, priv: exporter });
  }

  /** Spawns a thread of user mode. */
  user(task: Task<unknown>, name = 'thread'): Actor {
    return this.scheduler.spawn(task, { name, role: 'user' });
  }

  /** Spawns a kernel thread. */
  kthread(task: Task<unknown>, name = 'kthread'): Actor {
    return this.scheduler.spawn(task, { name, role: 'kernel' });
  }

  /** Runs everybody. */
  run(strategy: Strategy = new RoundRobinStrategy()): Outcome {
    return this.scheduler.run(strategy);
  }

  /** What the kernel warned of. */
  get warnings(): readonly string[] {
    return this.scheduler.findings.filter(({ kind }) => kind === 'warn').map(({ title }) => title);
  }

  /** The kinds of events, in order, of those asked for. */
  kinds(...kinds: readonly TraceKind[]): readonly TraceKind[] {
    return this.events(...kinds).map(({ kind }) => kind);
  }

  /** Events of some kinds, in order. */
  events(...kinds: readonly TraceKind[]): readonly TraceEvent[] {
    return this.trace.filter(({ kind }) => kinds.includes(kind));
  }
}

/** An importer that can follow moves, and accepts the memory of other devices. */
export const PEER_OPS: AttachOps = { allowPeer2Peer: true, *invalidateMappings(): Task {} };

/** Does something with the reservation locked. */
export function* locked<T>(resv: DmaResv, body: Task<T>): Task<T> {
  yield* resv.lock();
  try {
    return yield* body;
  } finally {
    yield* resv.unlock();
  }
}

/** Goes through a list of actors by name, a step each; then everybody in turn. */
export class ScriptedStrategy implements Strategy {
  readonly name = 'script';
  private readonly script: string[];
  private readonly rest = new RoundRobinStrategy();

  constructor(script: readonly string[]) {
    this.script = [...script];
  }

  pick(enabled: readonly Actor[], last: Actor | null): number {
    const wanted = this.script.shift();
    if (wanted === undefined) return this.rest.pick(enabled, last);
    const at = enabled.findIndex(({ name }) => name === wanted);
    return at < 0 ? expect.fail(`${wanted} cannot go`) : at;
  }
}
