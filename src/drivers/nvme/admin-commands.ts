/**
 * The commands of the admin queue: making and deleting I/O queues, and Identify.
 *
 * @source NVM Express Base Specification 1.4, section 5
 */

import { isPageAligned } from '../../base/index.ts';
import type { PciFunction, Task } from '../../machine/index.ts';
import {
  ADMIN_OPCODE,
  CNS_CONTROLLER,
  COMMAND_SIZE,
  COMPLETION_SIZE,
  type NvmeCommand,
  QUEUE_CONTIGUOUS,
  QUEUE_INTERRUPTS,
} from './commands.ts';
import type { ControllerMemory } from './controller-memory.ts';
import type { Epoch } from './engine-step.ts';
import { identifyData } from './identify.ts';
import { isAddressable, type MemoryPort, type Segment } from './memory-port.ts';
import { CompletionQueue, type QueueTable, SubmissionQueue } from './queues.ts';
import { type RegisterFile, SetRegisters } from './register-file.ts';
import {
  CC_ENTRY_SIZES,
  CC_ENTRY_SIZES_MASK,
  CMBSZ_CQS,
  CMBSZ_SQS,
  IO_QUEUES_MAX,
  QUEUE_ENTRIES_MAX,
} from './registers.ts';
import type { StatusName } from './status.ts';
import type { Transfers } from './transfers.ts';

/** What the admin commands work on. */
export interface AdminWorld {
  readonly fn: PciFunction;
  readonly registers: RegisterFile;
  readonly cmb: ControllerMemory | null;
  readonly port: MemoryPort;
  readonly transfers: Transfers;
  readonly epoch: Epoch;
}

/** A queue as a create command asks for it. */
interface WantedQueue {
  readonly id: number;
  readonly entries: number;
  readonly address: number;
  /** Upper half of dword 11: the interrupt vector, or the completion queue. */
  readonly partner: number;
}

/**
 * Why a queue cannot lie there; null if it can. `use` is the `CMBSZ_…` bit that it would need
 * inside the buffer. A queue is wholly inside or wholly outside.
 *
 * @context Any; pure.
 * @source NVMe 1.4, 4.7; 5.3; 5.4
 */
export function queuePlaceProblem(
  world: Pick<AdminWorld, 'port' | 'cmb'>,
  segment: Segment,
  use: number,
): StatusName | null {
  if (!isPageAligned(segment.address)) return 'prp-offset-invalid';
  if (!isAddressable(segment)) return 'invalid-field';
  const side = world.port.sideOf(segment);
  if (side === 'outside') return null;
  return side === 'inside' && world.cmb?.supports(use) === true ? null : 'invalid-use-of-cmb';
}

/** Executes what comes from the admin queue. */
export class AdminCommands {
  private readonly world: AdminWorld;
  private readonly queues: QueueTable;

  constructor(world: AdminWorld, queues: QueueTable) {
    this.world = world;
    this.queues = queues;
  }

  /**
   * Executes one command.
   *
   * @param cc - CC as the engine last saw it.
   * @returns How it ended.
   * @context The engine.
   */
  *execute(command: NvmeCommand, cc: number): Task<StatusName> {
    switch (command.opcode) {
      case ADMIN_OPCODE.createIoCompletionQueue:
        return this.refusal(command, cc) ?? (yield* this.createCompletionQueue(command));
      case ADMIN_OPCODE.createIoSubmissionQueue:
        return this.refusal(command, cc) ?? (yield* this.createSubmissionQueue(command));
      case ADMIN_OPCODE.deleteIoCompletionQueue:
        return this.deleteCompletionQueue(command.cdw10 & 0xffff);
      case ADMIN_OPCODE.deleteIoSubmissionQueue:
        return this.deleteSubmissionQueue(command.cdw10 & 0xffff);
      case ADMIN_OPCODE.identify:
        return yield* this.identify(command);
      default:
        return 'invalid-opcode';
    }
  }

  /** What is wrong with a create command whatever the kind of queue. */
  private refusal(command: NvmeCommand, cc: number): StatusName | null {
    const { id, entries } = wantedQueue(command);
    if (id === 0 || id > IO_QUEUES_MAX) return 'invalid-queue-identifier';
    if (entries < 2 || entries > QUEUE_ENTRIES_MAX) return 'invalid-queue-size';
    // The host must have said in CC how large entries are; one size is supported.
    if ((cc & CC_ENTRY_SIZES_MASK) !== CC_ENTRY_SIZES) return 'invalid-queue-size';
    return (command.cdw11 & QUEUE_CONTIGUOUS) === 0 ? 'invalid-field' : null;
  }

  private *createCompletionQueue(command: NvmeCommand): Task<StatusName> {
    const { id, entries, address, partner: vector } = wantedQueue(command);
    const { registers } = this.world;
    if (this.queues.completion.has(id)) return 'invalid-queue-identifier';
    const hasInterrupts = (command.cdw11 & QUEUE_INTERRUPTS) !== 0;
    if (hasInterrupts && vector > IO_QUEUES_MAX) return 'invalid-interrupt-vector';
    const segment = { address, length: entries * COMPLETION_SIZE };
    const problem = queuePlaceProblem(this.world, segment, CMBSZ_CQS);
    if (problem !== null) return problem;
    const doorbell = registers.heads[id] as RegisterFile['cc'];
    // Whoever rang before there was a queue rang for nothing.
    yield* this.world.epoch.inside(new SetRegisters([doorbell, 0]));
    const shape = { id, address, entries, doorbell };
    this.queues.completion.set(id, new CompletionQueue(shape, hasInterrupts ? vector : null));
    return 'success';
  }

  private *createSubmissionQueue(command: NvmeCommand): Task<StatusName> {
    const { id, entries, address, partner } = wantedQueue(command);
    const { registers } = this.world;
    if (this.queues.submission.has(id)) return 'invalid-queue-identifier';
    if (partner === 0 || partner > IO_QUEUES_MAX) return 'invalid-queue-identifier';
    const completion = this.queues.completion.get(partner);
    if (completion === undefined) return 'completion-queue-invalid';
    const segment = { address, length: entries * COMMAND_SIZE };
    const problem = queuePlaceProblem(this.world, segment, CMBSZ_SQS);
    if (problem !== null) return problem;
    const doorbell = registers.tails[id] as RegisterFile['cc'];
    yield* this.world.epoch.inside(new SetRegisters([doorbell, 0]));
    const shape = { id, address, entries, doorbell };
    this.queues.submission.set(id, new SubmissionQueue(shape, completion));
    return 'success';
  }

  private deleteCompletionQueue(id: number): StatusName {
    const queue = id === 0 ? undefined : this.queues.completion.get(id);
    if (queue === undefined) return 'invalid-queue-identifier';
    for (const { completion } of this.queues.submission.values()) {
      if (completion === queue) return 'invalid-queue-deletion';
    }
    this.queues.completion.delete(id);
    return 'success';
  }

  /** The engine does one command after the other, so none of the queue is under way now. */
  private deleteSubmissionQueue(id: number): StatusName {
    if (id === 0 || !this.queues.submission.delete(id)) return 'invalid-queue-identifier';
    return 'success';
  }

  private *identify(command: NvmeCommand): Task<StatusName> {
    if ((command.cdw10 & 0xff) !== CNS_CONTROLLER) return 'invalid-field';
    const bytes = identifyData(this.world.fn);
    const pointer = yield* this.world.transfers.locateResult(command, bytes.length);
    if (typeof pointer === 'string') return pointer;
    yield* this.world.transfers.deliver(pointer, bytes);
    return 'success';
  }
}

function wantedQueue({ cdw10, cdw11, prp1 }: NvmeCommand): WantedQueue {
  return {
    id: cdw10 & 0xffff,
    entries: (cdw10 >>> 16) + 1,
    address: prp1,
    partner: cdw11 >>> 16,
  };
}
