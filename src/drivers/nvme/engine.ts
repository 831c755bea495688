/**
 * The controller's firmware, from one reset to the next: it waits for the host to enable it, serves
 * the queues, and is disabled again. One command at a time.
 *
 * DIFFERS: a real controller has many commands under way and completes them in any order; this one
 * takes the queues in turn and ends a command before it fetches the next. Disabling waits for that
 * end, too.
 *
 * @source NVM Express Base Specification 1.4, sections 4.1, 7.2.3, 7.6.1
 */

import { type PciFunction, type Register, type Task, untilRegisters } from '../../machine/index.ts';
import { AdminCommands, type AdminWorld, queuePlaceProblem } from './admin-commands.ts';
import {
  COMMAND_SIZE,
  COMPLETION_SIZE,
  decodeCommand,
  encodeCompletion,
  type NvmeCommand,
} from './commands.ts';
import type { ControllerMemory } from './controller-memory.ts';
import { Epoch, WasReset } from './engine-step.ts';
import { IoCommands } from './io-commands.ts';
import type { Media } from './media.ts';
import { MemoryPort } from './memory-port.ts';
import { CompletionQueue, QueueTable, SubmissionQueue } from './queues.ts';
import { type RegisterFile, SetRegisters } from './register-file.ts';
import {
  CC_EN,
  CC_FIXED,
  CMBMSC_CRE,
  CMBSTS_CBAI,
  CMBSZ_CQS,
  CMBSZ_SQS,
  CSTS_CFS,
  CSTS_RDY,
  decodeAqa,
} from './registers.ts';
import { isFinal, type StatusName } from './status.ts';
import { Transfers } from './transfers.ts';
import { joinHalves } from './uint64.ts';

/** What the engine drives. */
export interface NvmeHardware {
  readonly fn: PciFunction;
  readonly registers: RegisterFile;
  /** Null: the drive has no controller memory buffer. */
  readonly cmb: ControllerMemory | null;
  readonly media: Media;
  /** Counts resets. */
  readonly resets: Register;
}

/** The registers that every wait looks at: CC, the count of resets, both halves of CMBMSC. */
const CONTROL_COUNT = 4;

/** The engine of one epoch. */
export class NvmeEngine {
  private readonly hardware: NvmeHardware;
  private readonly epoch: Epoch;
  private readonly port: MemoryPort;
  private readonly io: IoCommands;
  private readonly world: AdminWorld;
  /** CMBMSC as the port has it. */
  private memoryControl: readonly [low: number, high: number] = [0, 0];

  /** @param resets - The count of resets that this engine begins after. */
  constructor(hardware: NvmeHardware, resets: number) {
    const { fn, cmb, media, registers } = hardware;
    const epoch = new Epoch(fn, hardware.resets, resets);
    const port = new MemoryPort(fn, cmb, epoch);
    const transfers = new Transfers(port, cmb);
    this.hardware = hardware;
    this.epoch = epoch;
    this.port = port;
    this.io = new IoCommands(media, transfers, epoch);
    this.world = { fn, registers, cmb, port, transfers, epoch };
  }

  /**
   * Runs until the next reset, which ends it with {@link WasReset}.
   *
   * @context An actor of its own, role `device`.
   */
  *run(): Task<never> {
    for (;;) {
      const [cc = 0] = yield* this.until([], (values) => isEnabled(values[0]));
      const queues = yield* this.enable(cc);
      if (queues !== null) yield* this.serve(queues);
      // Enabled with nothing to serve: a fatal error, until the host disables it.
      yield* this.until([], (values) => !isEnabled(values[0]));
      yield* this.epoch.inside(new SetRegisters([this.hardware.registers.csts, 0]));
    }
  }

  /**
   * Waits for `condition` to hold of the control registers and `others`, and follows CMBMSC
   * meanwhile.
   *
   * @returns Their values: CC first, `others` from {@link CONTROL_COUNT} on.
   */
  private *until(
    others: readonly Register[],
    condition: (values: readonly number[]) => boolean,
  ): Task<readonly number[]> {
    const { registers, resets } = this.hardware;
    const { low, high } = registers.cmbmsc;
    for (;;) {
      // Copies: a guard may be asked about an earlier moment, when the engine has gone on.
      const [seenLow, seenHigh] = this.memoryControl;
      const epoch = this.epoch.number;
      const values = yield* untilRegisters(
        [registers.cc, resets, low, high, ...others],
        (now) => now[1] !== epoch || now[2] !== seenLow || now[3] !== seenHigh || condition(now),
      );
      const [, count, newLow = 0, newHigh = 0] = values;
      if (count !== epoch) throw new WasReset('the function was reset');
      if (newLow === seenLow && newHigh === seenHigh) return values;
      yield* this.followMemoryControl(newLow, newHigh);
    }
  }

  /** Opens or shuts the window to the buffer, and shows or hides where the buffer is. */
  private *followMemoryControl(low: number, high: number): Task {
    const { registers, cmb } = this.hardware;
    this.memoryControl = [low, high];
    const fits = this.port.setWindow(low, high);
    const shown = (low & CMBMSC_CRE) === 0 ? null : cmb;
    yield* this.epoch.inside(
      new SetRegisters(
        [registers.cmbloc, shown?.cmbloc ?? 0],
        [registers.cmbsz, shown?.cmbsz ?? 0],
        [registers.cmbsts, fits ? 0 : CMBSTS_CBAI],
      ),
    );
  }

  /** Becomes ready. Null after a fatal error: what the host asks for is not possible. */
  private *enable(cc: number): Task<QueueTable | null> {
    const { registers } = this.hardware;
    const { aqa, asq, acq, csts, tails, heads } = registers;
    const [sizes = 0, sqLow = 0, sqHigh = 0, cqLow = 0, cqHigh = 0] = yield* this.epoch.inside(
      untilRegisters([aqa, asq.low, asq.high, acq.low, acq.high], () => true),
    );
    const entries = decodeAqa(sizes);
    const submission = joinHalves(sqLow, sqHigh);
    const completion = joinHalves(cqLow, cqHigh);
    const sqSegment = { address: submission, length: entries.submission * COMMAND_SIZE };
    const cqSegment = { address: completion, length: entries.completion * COMPLETION_SIZE };
    const isPossible =
      (cc & CC_FIXED) === 0 &&
      entries.submission >= 2 &&
      entries.completion >= 2 &&
      queuePlaceProblem(this.world, sqSegment, CMBSZ_SQS) === null &&
      queuePlaceProblem(this.world, cqSegment, CMBSZ_CQS) === null;
    if (!isPossible) {
      yield* this.epoch.inside(new SetRegisters([csts, CSTS_CFS]));
      return null;
    }
    const [tail, head] = [tails[0] as Register, heads[0] as Register];
    yield* this.epoch.inside(new SetRegisters([csts, CSTS_RDY], [tail, 0], [head, 0]));
    const cq = { id: 0, address: completion, entries: entries.completion, doorbell: head };
    const sq = { id: 0, address: submission, entries: entries.submission, doorbell: tail };
    return new QueueTable(new SubmissionQueue(sq, new CompletionQueue(cq, 0)));
  }

  /** Serves the queues until the host disables the controller, or until a fatal error. */
  private *serve(queues: QueueTable): Task {
    const admin = new AdminCommands(this.world, queues);
    for (;;) {
      const watch = queues.watch();
      const values = yield* this.until(
        watch.doorbells,
        (now) => !isEnabled(now[0]) || watch.pick(now, CONTROL_COUNT) !== null,
      );
      const [cc = 0] = values;
      if (!isEnabled(cc)) return;
      const queue = watch.pick(values, CONTROL_COUNT);
      watch.accept(values, CONTROL_COUNT);
      if (queue === null) continue;
      queues.serve(queue);
      const bytes = yield* this.port.read(queue.entry);
      if (bytes === null) {
        const { csts } = this.hardware.registers;
        yield* this.epoch.inside(new SetRegisters([csts, CSTS_RDY | CSTS_CFS]));
        return;
      }
      queue.advance();
      const command = decodeCommand(bytes);
      yield* this.complete(queue, command, yield* this.execute(queue, command, admin, cc));
    }
  }

  private *execute(
    queue: SubmissionQueue,
    command: NvmeCommand,
    admin: AdminCommands,
    cc: number,
  ): Task<StatusName> {
    // Neither fused operations nor scatter-gather lists.
    if (command.flags !== 0) return 'invalid-field';
    return queue.id === 0 ? yield* admin.execute(command, cc) : yield* this.io.execute(command);
  }

  /** Posts the completion, for which there is room, and raises the queue's interrupt. */
  private *complete(
    { id: sqId, index: sqHead, completion }: SubmissionQueue,
    { cid }: NvmeCommand,
    status: StatusName,
  ): Task {
    const { phase, vector } = completion;
    const doNotRetry = isFinal(status);
    const bytes = encodeCompletion({ sqHead, sqId, cid, phase, status, doNotRetry });
    yield* this.port.write(completion.entry.address, bytes);
    completion.advance();
    if (vector === null) return;
    const handler = yield* this.epoch.onBus(this.hardware.fn.interrupt(vector));
    // What the handler does is the host's doing; a reset cannot take an interrupt back.
    yield* handler();
  }
}

function isEnabled(cc: number | undefined): boolean {
  return cc !== undefined && (cc & CC_EN) !== 0;
}
