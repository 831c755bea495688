/**
 * The hardware behind one or more queues: it takes a buffer of each, moves bytes, and says that it
 * is done. A capture device has one queue, a converter two.
 */

import {
  type Access,
  type Atomic,
  Cell,
  type Look,
  PreemptStep,
  type Scheduler,
  SleepStep,
  type Task,
  wholeCell,
} from '../../machine/index.ts';
import type { Vb2Buffer } from './buffer.ts';

/** What waits for the hardware, by type of queue. */
interface EngineState {
  readonly running: readonly number[];
  readonly queued: readonly Vb2Buffer[];
  /** What it works on; empty between two jobs. */
  readonly active: readonly Vb2Buffer[];
  /** Jobs done since the hardware was switched on. */
  readonly sequence: number;
}

/** One piece of work: a buffer of each queue, in the order of the queues. */
export interface EngineJob {
  readonly buffers: readonly Vb2Buffer[];
  /** Number of the frame, from 0. */
  readonly sequence: number;
}

/** Does a job. False: it failed. */
export type EngineWork = (job: EngineJob) => Task<boolean>;

/** Tells a queue that its buffer is done. */
export type EngineDone = (buffer: Vb2Buffer, ok: boolean, sequence: number) => Atomic;

/** The state of the hardware. */
export class VideoEngine extends Cell<EngineState> {
  /** Types of its queues. */
  readonly types: readonly number[];

  constructor(scheduler: Scheduler, name: string, types: readonly number[]) {
    super(scheduler, name, { running: [], queued: [], active: [], sequence: 0 });
    this.types = types;
  }

  /** A step that switches a queue on. */
  start(type: number): PreemptStep<void> {
    return new Start(this, type);
  }

  /** A step that hands a buffer over. */
  give(buffer: Vb2Buffer): PreemptStep<void> {
    return new Give(this, buffer);
  }

  /** A step that switches a queue off; its buffers that were not begun come back. */
  halt(type: number): PreemptStep<readonly Vb2Buffer[]> {
    return new Halt(this, type);
  }

  /** Waits until no buffer of the queue is being worked on. */
  untilIdle(type: number): SleepStep<void> {
    return new UntilIdle(this, type);
  }

  /**
   * The hardware's life.
   *
   * @param jobNs - Virtual nanoseconds that a job takes.
   * @context An actor of its own, role `device`, a daemon.
   */
  *run(scheduler: Scheduler, jobNs: number, work: EngineWork, done: EngineDone): Task {
    for (;;) {
      const job = yield* new TakeJob(this);
      yield* scheduler.sleep(jobNs);
      const ok = yield* work(job);
      for (const buffer of job.buffers) yield* done(buffer, ok, job.sequence);
      yield* new EndJob(this);
    }
  }
}

abstract class EngineStep<R> extends PreemptStep<R> {
  readonly cell: VideoEngine;

  constructor(cell: VideoEngine) {
    super();
    this.cell = cell;
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }
}

class Start extends EngineStep<void> {
  private readonly type: number;

  constructor(cell: VideoEngine, type: number) {
    super(cell);
    this.type = type;
  }

  get verb(): string {
    return 'start';
  }

  apply(): void {
    const { value } = this.cell;
    const running = [...value.running, this.type];
    this.cell.value = { ...value, running, sequence: 0 };
  }
}

class Give extends EngineStep<void> {
  private readonly buffer: Vb2Buffer;

  constructor(cell: VideoEngine, buffer: Vb2Buffer) {
    super(cell);
    this.buffer = buffer;
  }

  get verb(): string {
    return 'queue to hardware';
  }

  apply(): void {
    const { value } = this.cell;
    this.cell.value = { ...value, queued: [...value.queued, this.buffer] };
  }
}

class Halt extends EngineStep<readonly Vb2Buffer[]> {
  private readonly type: number;

  constructor(cell: VideoEngine, type: number) {
    super(cell);
    this.type = type;
  }

  get verb(): string {
    return 'stop';
  }

  apply(): readonly Vb2Buffer[] {
    const { value } = this.cell;
    const isOwn = ({ queueType }: Vb2Buffer): boolean => queueType === this.type;
    this.cell.value = {
      ...value,
      running: value.running.filter((type) => type !== this.type),
      queued: value.queued.filter((buffer) => !isOwn(buffer)),
    };
    return value.queued.filter(isOwn);
  }
}

class EndJob extends EngineStep<void> {
  get verb(): string {
    return 'end job';
  }

  apply(): void {
    const { value } = this.cell;
    this.cell.value = { ...value, active: [], sequence: value.sequence + 1 };
  }
}

class UntilIdle extends SleepStep<void> {
  readonly cell: VideoEngine;
  private readonly type: number;

  constructor(cell: VideoEngine, type: number) {
    super();
    this.cell = cell;
    this.type = type;
  }

  get verb(): string {
    return 'wait for the hardware of';
  }

  override guard(look: Look): boolean {
    return look(this.cell).active.every(({ queueType }) => queueType !== this.type);
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): void {}
}

class TakeJob extends SleepStep<EngineJob> {
  readonly cell: VideoEngine;

  constructor(cell: VideoEngine) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'take a job';
  }

  override guard(look: Look): boolean {
    const { running, queued, active } = look(this.cell);
    if (active.length > 0) return false;
    return this.cell.types.every((type) => {
      return running.includes(type) && queued.some(({ queueType }) => queueType === type);
    });
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): EngineJob {
    const { cell } = this;
    const { queued, sequence } = cell.value;
    const active = cell.types.flatMap((type) => {
      const first = queued.find(({ queueType }) => queueType === type);
      return first === undefined ? [] : [first];
    });
    const rest = queued.filter((buffer) => !active.includes(buffer));
    cell.value = { ...cell.value, queued: rest, active };
    return { buffers: active, sequence };
  }
}
