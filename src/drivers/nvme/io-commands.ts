/**
 * The commands of I/O queues: Read, Write, Flush.
 *
 * @source NVM Express Base Specification 1.4, section 6
 */

import type { Task } from '../../machine/index.ts';
import {
  BLOCK_SIZE,
  IO_OPCODE,
  NAMESPACE_ID,
  type NvmeCommand,
  transferRange,
} from './commands.ts';
import type { Epoch } from './engine-step.ts';
import { TRANSFER_SIZE_MAX } from './identify.ts';
import type { Media } from './media.ts';
import type { StatusName } from './status.ts';
import type { Transfers } from './transfers.ts';

/** Every namespace at once, for Flush. */
const ALL_NAMESPACES = 0xffff_ffff;

/** Executes what comes from I/O queues. */
export class IoCommands {
  private readonly media: Media;
  private readonly transfers: Transfers;
  private readonly epoch: Epoch;

  constructor(media: Media, transfers: Transfers, epoch: Epoch) {
    this.media = media;
    this.transfers = transfers;
    this.epoch = epoch;
  }

  /**
   * Executes one command.
   *
   * @returns How it ended.
   * @context The engine.
   */
  *execute(command: NvmeCommand): Task<StatusName> {
    const { opcode, nsid } = command;
    switch (opcode) {
      case IO_OPCODE.flush:
        // Without a volatile cache everything written is on the media already.
        return nsid === NAMESPACE_ID || nsid === ALL_NAMESPACES ? 'success' : 'invalid-namespace';
      case IO_OPCODE.write:
        return this.refusal(command) ?? (yield* this.write(command));
      case IO_OPCODE.read:
        return this.refusal(command) ?? (yield* this.read(command));
      default:
        return 'invalid-opcode';
    }
  }

  private refusal(command: NvmeCommand): StatusName | null {
    const { lba, blocks } = transferRange(command);
    if (command.nsid !== NAMESPACE_ID) return 'invalid-namespace';
    if (blocks * BLOCK_SIZE > TRANSFER_SIZE_MAX) return 'invalid-field';
    return this.media.holds(lba, blocks) ? null : 'lba-out-of-range';
  }

  /** All data is fetched before any is stored: the blocks are those of before or those of after. */
  private *write(command: NvmeCommand): Task<StatusName> {
    const { lba, blocks } = transferRange(command);
    const bytes = yield* this.transfers.fetch(command, blocks * BLOCK_SIZE);
    if (typeof bytes === 'string') return bytes;
    yield* this.epoch.inside(this.media.write(lba, bytes));
    return 'success';
  }

  private *read(command: NvmeCommand): Task<StatusName> {
    const { lba, blocks } = transferRange(command);
    const pointer = yield* this.transfers.locateResult(command, blocks * BLOCK_SIZE);
    if (typeof pointer === 'string') return pointer;
    const bytes = yield* this.epoch.inside(this.media.read(lba, blocks));
    yield* this.transfers.deliver(pointer, bytes);
    return 'success';
  }
}
