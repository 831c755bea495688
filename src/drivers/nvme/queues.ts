/**
 * The controller's side of its queues: what it remembers between two commands. All of it belongs to
 * the engine of one epoch; nobody else sees it, and a reset drops it.
 *
 * @source NVM Express Base Specification 1.4, section 4.1
 */

import type { Register } from '../../machine/index.ts';
import { COMMAND_SIZE, COMPLETION_SIZE } from './commands.ts';
import type { Segment } from './memory-port.ts';

/** What a queue is made from. */
export interface QueueShape {
  readonly id: number;
  /** Where its first entry is. */
  readonly address: number;
  readonly entries: number;
  /** A submission queue's tail, a completion queue's head. */
  readonly doorbell: Register;
}

/** A ring of entries, and the last thing that its doorbell said. */
abstract class Queue {
  readonly id: number;
  readonly entries: number;
  readonly doorbell: Register;
  /** The controller's own index: the head of a submission queue, the tail of a completion queue. */
  index = 0;
  /** The host's index. A doorbell value that is none is ignored, and this stays. */
  rung = 0;
  private readonly address: number;
  private readonly entrySize: number;

  constructor({ id, address, entries, doorbell }: QueueShape, entrySize: number) {
    this.id = id;
    this.address = address;
    this.entries = entries;
    this.doorbell = doorbell;
    this.entrySize = entrySize;
  }

  /** The entry that the controller's index is at. */
  get entry(): Segment {
    return { address: this.address + this.index * this.entrySize, length: this.entrySize };
  }

  /** Moves the controller's index on. True if it came round. */
  advance(): boolean {
    this.index = (this.index + 1) % this.entries;
    return this.index === 0;
  }
}

/** Where completions go. */
export class CompletionQueue extends Queue {
  /** The interrupt to raise for each; null: none. */
  readonly vector: number | null;
  /** The phase of the entries of this round. */
  phase: 0 | 1 = 1;

  constructor(shape: QueueShape, vector: number | null) {
    super(shape, COMPLETION_SIZE);
    this.vector = vector;
  }

  override advance(): boolean {
    const wrapped = super.advance();
    if (wrapped) this.phase = this.phase === 1 ? 0 : 1;
    return wrapped;
  }
}

/** Where commands come from. */
export class SubmissionQueue extends Queue {
  readonly completion: CompletionQueue;

  constructor(shape: QueueShape, completion: CompletionQueue) {
    super(shape, COMMAND_SIZE);
    this.completion = completion;
  }
}

/** The queues of an enabled controller. Number 0 are the admin queues. */
export class QueueTable {
  readonly submission: Map<number, SubmissionQueue> = new Map();
  readonly completion: Map<number, CompletionQueue> = new Map();
  /** The submission queue served last, for round robin. */
  private served = -1;

  constructor(admin: SubmissionQueue) {
    this.submission.set(admin.id, admin);
    this.completion.set(admin.completion.id, admin.completion);
  }

  /** What to wait for, as things are now: the queues in turn, from the one after the last. */
  watch(): QueueWatch {
    const byId = [...this.submission.values()].sort((one, other) => one.id - other.id);
    const next = byId.findIndex(({ id }) => id > this.served);
    const turn = Math.max(next, 0);
    return new QueueWatch([...byId.slice(turn), ...byId.slice(0, turn)]);
  }

  /** Notes which queue is served now. */
  serve(queue: SubmissionQueue): void {
    this.served = queue.id;
  }
}

/** Doorbells of one submission queue and of the completion queue it leads to, when a wait began. */
interface Watched {
  readonly queue: SubmissionQueue;
  readonly head: number;
  readonly tail: number;
  readonly completionTail: number;
  readonly completionHead: number;
}

/**
 * The doorbells of all queues, in the order in which their queues are to be served. A copy of the
 * indices: a step's guard may be asked about any moment of an execution, so what it compares with
 * must not move on.
 */
export class QueueWatch {
  /** Tail and head doorbell of each queue in turn: what {@link pick} wants the values of. */
  readonly doorbells: readonly Register[];
  private readonly watched: readonly Watched[];

  constructor(queues: readonly SubmissionQueue[]) {
    this.doorbells = queues.flatMap(({ doorbell, completion }) => [doorbell, completion.doorbell]);
    this.watched = queues.map((queue) => ({
      queue,
      head: queue.index,
      tail: queue.rung,
      completionTail: queue.completion.index,
      completionHead: queue.completion.rung,
    }));
  }

  /**
   * The first queue with a command and with room for its completion; null if there is none. A full
   * completion queue so holds up its own commands only.
   *
   * @param values - Of {@link doorbells}, from index `from` on.
   */
  pick(values: readonly number[], from: number): SubmissionQueue | null {
    let at = from;
    for (const { queue, head, tail, completionTail, completionHead } of this.watched) {
      const newTail = accepted(values[at], queue.entries, tail);
      const newHead = accepted(values[at + 1], queue.completion.entries, completionHead);
      const isFull = (completionTail + 1) % queue.completion.entries === newHead;
      if (newTail !== head && !isFull) return queue;
      at += 2;
    }
    return null;
  }

  /** Takes the doorbells as they were rung. */
  accept(values: readonly number[], from: number): void {
    let at = from;
    for (const { queue, tail, completionHead } of this.watched) {
      const { completion } = queue;
      queue.rung = accepted(values[at], queue.entries, tail);
      completion.rung = accepted(values[at + 1], completion.entries, completionHead);
      at += 2;
    }
  }
}

/** A doorbell's value if it is an index of the queue, else the one before. */
function accepted(value: number | undefined, entries: number, before: number): number {
  return value !== undefined && value < entries ? value : before;
}
