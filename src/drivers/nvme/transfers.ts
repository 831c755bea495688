/**
 * Moving a command's data, page by page: each page is a step, so a reset can come between two of
 * them.
 *
 * @source NVM Express Base Specification 1.4, sections 4.3 and 4.7
 */

import type { Task } from '../../machine/index.ts';
import type { NvmeCommand } from './commands.ts';
import type { ControllerMemory } from './controller-memory.ts';
import type { MemoryPort } from './memory-port.ts';
import { type DataPointer, readDataPointer } from './prp.ts';
import { CMBSZ_LISTS, CMBSZ_RDS, CMBSZ_WDS } from './registers.ts';
import type { StatusName } from './status.ts';

/** The data side of the engine. */
export class Transfers {
  private readonly port: MemoryPort;
  private readonly cmb: ControllerMemory | null;

  constructor(port: MemoryPort, cmb: ControllerMemory | null) {
    this.port = port;
    this.cmb = cmb;
  }

  /**
   * Fetches the `length` bytes that a command hands to the controller.
   *
   * @returns A status if that was not possible.
   * @context The engine.
   */
  *fetch(command: NvmeCommand, length: number): Task<Uint8Array | StatusName> {
    const pointer = yield* this.locate(command, length, CMBSZ_WDS);
    if (typeof pointer === 'string') return pointer;
    const bytes = new Uint8Array(length);
    let done = 0;
    for (const segment of pointer.data) {
      const page = yield* this.port.read(segment);
      if (page === null) return 'data-transfer-error';
      bytes.set(page, done);
      done += page.length;
    }
    return bytes;
  }

  /**
   * Finds where the `length` bytes go that a command wants from the controller.
   *
   * @returns A status if its data pointer is wrong.
   * @context The engine.
   */
  *locateResult(command: NvmeCommand, length: number): Task<DataPointer | StatusName> {
    return yield* this.locate(command, length, CMBSZ_RDS);
  }

  /**
   * Hands over bytes. Whether they arrived is not known: writes are posted.
   *
   * @context The engine.
   */
  *deliver({ data }: DataPointer, bytes: Uint8Array): Task {
    let done = 0;
    for (const { address, length } of data) {
      yield* this.port.write(address, bytes.subarray(done, done + length));
      done += length;
    }
  }

  private *locate(
    command: NvmeCommand,
    length: number,
    use: number,
  ): Task<DataPointer | StatusName> {
    const pointer = yield* readDataPointer(this.port, command, length);
    if (typeof pointer === 'string') return pointer;
    return this.isAllowed(pointer, use) ? pointer : 'invalid-use-of-cmb';
  }

  /** True if the buffer may be used as the pointer does. */
  private isAllowed({ data, lists }: DataPointer, use: number): boolean {
    const { cmb, port } = this;
    if (cmb === null) return true;
    const dataSides = new Set(data.map((segment) => port.sideOf(segment)));
    const listSides = new Set(lists.map((segment) => port.sideOf(segment)));
    if (dataSides.has('across') || listSides.has('across')) return false;
    if (dataSides.has('inside') && !cmb.supports(use)) return false;
    if (listSides.has('inside') && !cmb.supports(CMBSZ_LISTS)) return false;
    return cmb.mixedData || new Set([...dataSides, ...listSides]).size <= 1;
  }
}
