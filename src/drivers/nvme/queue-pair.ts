/**
 * The host's side of a pair of queues: puts commands in, rings, takes completions out. It belongs
 * to one task at a time, as in SPDK; nothing here locks.
 *
 * @source SPDK lib/nvme/nvme_pcie_common.c; NVM Express Base Specification 1.4, section 4.1
 */

import { DmaBufError } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import {
  COMMAND_SIZE,
  COMPLETION_SIZE,
  type CommandCompletion,
  decodeCompletion,
  encodeCommand,
  type NvmeCommand,
} from './commands.ts';
import type { ControllerAccess, QueueMemory } from './controller-access.ts';
import { headDoorbell, tailDoorbell } from './registers.ts';

/** What a pair of queues is made of. */
export interface QueuePairLayout {
  /** Entries of each queue, 2 to 64. */
  readonly entries: number;
  /** 64 bytes for each entry. */
  readonly submission: QueueMemory;
  /** 16 bytes for each entry. */
  readonly completion: QueueMemory;
  /** The interrupt to wait for. */
  readonly vector: number;
}

/** A submission queue and the completion queue of the same number. */
export class QueuePair {
  /** Number of both queues; 0 are the admin queues. */
  readonly id: number;
  private readonly access: ControllerAccess;
  private readonly layout: QueuePairLayout;
  private tail = 0;
  /** How far the controller has fetched, as it said last. */
  private fetched = 0;
  private head = 0;
  private phase: 0 | 1 = 1;
  private isInUse = false;

  constructor(access: ControllerAccess, id: number, layout: QueuePairLayout) {
    this.access = access;
    this.id = id;
    this.layout = layout;
  }

  /**
   * Makes all entries of the completion queue old, so that the first round's phase tells new ones.
   * To be done before the controller knows of the queue.
   *
   * @context May sleep.
   */
  *clear(): Task {
    const { completion, entries } = this.layout;
    yield* completion.write(0, new Uint8Array(entries * COMPLETION_SIZE));
  }

  /**
   * Puts a command into the queue and rings the doorbell.
   *
   * @throws {@link DmaBufError} `EAGAIN` the queue is full; `EBUSY` another task is in here.
   * @context May sleep.
   * @source `nvme_pcie_qpair_submit_tracker()`
   */
  *submit(command: NvmeCommand): Task {
    const { entries, submission } = this.layout;
    const next = (this.tail + 1) % entries;
    if (next === this.fetched) {
      throw new DmaBufError('EAGAIN', 'submit', 'submission-queue-full', {
        detail: { id: this.id },
      });
    }
    this.enter('submit');
    try {
      yield* submission.write(this.tail * COMMAND_SIZE, encodeCommand(command));
      this.tail = next;
      yield* this.access.writeRegister(0, tailDoorbell(this.id), next, 4);
    } finally {
      this.isInUse = false;
    }
  }

  /**
   * Takes the next completion, if there is one, and gives its entry back.
   *
   * @returns Null if there is none yet.
   * @throws {@link DmaBufError} `ENODEV` the memory answers all ones: the controller is gone or in
   *   reset; `EBUSY` another task is in here.
   * @context May sleep.
   * @source `nvme_pcie_qpair_process_completions()`
   */
  *poll(): Task<CommandCompletion | null> {
    this.enter('poll');
    try {
      return yield* this.take();
    } finally {
      this.isInUse = false;
    }
  }

  /**
   * Waits for the next completion: looks, and sleeps until the next interrupt while there is none.
   *
   * @throws As {@link poll}.
   * @context May sleep.
   */
  *pollCompletion(): Task<CommandCompletion> {
    for (;;) {
      const completion = yield* this.poll();
      if (completion !== null) return completion;
      yield* this.access.waitForInterrupt(this.layout.vector);
    }
  }

  /**
   * Submits a command and waits for its completion. Nothing else is under way in this pair.
   *
   * @throws {@link DmaBufError} `EIO` the completion is of another command; else as {@link submit}
   *   and {@link poll}.
   * @context May sleep.
   */
  *execute(command: NvmeCommand): Task<CommandCompletion> {
    yield* this.submit(command);
    const completion = yield* this.pollCompletion();
    if (completion.cid === command.cid) return completion;
    const detail = { submitted: command.cid, completed: completion.cid };
    throw new DmaBufError('EIO', 'execute', 'nvme-unexpected-completion', { detail });
  }

  private *take(): Task<CommandCompletion | null> {
    const bytes = yield* this.layout.completion.read(this.head * COMPLETION_SIZE, COMPLETION_SIZE);
    if (bytes.every((byte) => byte === 0xff)) {
      throw new DmaBufError('ENODEV', 'poll', 'nvme-queue-gone', { detail: { id: this.id } });
    }
    const completion = decodeCompletion(bytes);
    if (completion.phase !== this.phase) return null;
    this.fetched = completion.sqHead;
    this.head = (this.head + 1) % this.layout.entries;
    if (this.head === 0) this.phase = this.phase === 1 ? 0 : 1;
    yield* this.access.writeRegister(0, headDoorbell(this.id), this.head, 4);
    return completion;
  }

  private enter(call: string): void {
    if (this.isInUse) {
      throw new DmaBufError('EBUSY', call, 'queue-pair-in-use', { detail: { id: this.id } });
    }
    this.isInUse = true;
  }
}
