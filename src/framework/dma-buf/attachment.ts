/**
 * One device's place at a buffer. The importer maps through it; the exporter learns from it who
 * asks.
 *
 * @source drivers/dma-buf/dma-buf.c, v7.2; reference/linux-dma-buf.md A.12 to A.17
 */

import { DmaBufError, type DmaDirection, isDmaBufError } from '../../base/index.ts';
import type { Device, Task } from '../../machine/index.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { AttachOps } from './dma-buf-ops.ts';
import { unwrapTable, wrapTable } from './debug-table.ts';
import { callback, withReservation } from './lock-context.ts';
import type { SgTable } from '../dma/scatterlist.ts';

/** `struct dma_buf_attachment`. `P` is the exporter's state of the buffer. */
export class Attachment<P = unknown> {
  readonly buf: DmaBuf<P>;
  /** The device that will do the DMA. */
  readonly device: Device;
  readonly importerOps: AttachOps | null;
  /** The importer's own. */
  readonly importerPriv: unknown;
  /** Number in the trace. */
  readonly number: number;
  /** The exporter's own. */
  priv: unknown = null;
  private mayUsePeers: boolean;

  constructor(
    buf: DmaBuf<P>,
    device: Device,
    importerOps: AttachOps | null,
    importerPriv: unknown,
  ) {
    this.buf = buf;
    this.device = device;
    this.importerOps = importerOps;
    this.importerPriv = importerPriv;
    this.mayUsePeers = importerOps?.allowPeer2Peer ?? false;
    this.number = buf.kernel.nextAttachment();
  }

  /**
   * True if the importer can use another device's memory. The exporter may take that away at
   * attach, and never give it.
   *
   * DIFFERS: in Linux this is a plain field, and an exporter that sets what the importer did not
   * ask for goes unnoticed; here it is a kernel warning and has no effect.
   */
  get peer2peer(): boolean {
    return this.mayUsePeers;
  }

  set peer2peer(value: false) {
    if (value && !this.mayUsePeers) {
      const text = 'the exporter gives peer-to-peer that the importer did not ask for';
      this.buf.kernel.scheduler.warn('dma_buf_dynamic_attach', text);
    }
    this.mayUsePeers &&= value;
  }

  /** True if the importer can follow moves: it came with operations. */
  get isDynamic(): boolean {
    return this.importerOps !== null;
  }

  /**
   * True if memory can be taken back from this importer.
   *
   * @source `dma_buf_attach_revocable()`
   */
  get isRevocable(): boolean {
    return this.importerOps?.invalidateMappings !== undefined;
  }

  /**
   * Asks that the memory stay where it is. Nothing to do for an exporter that never moves any.
   *
   * @throws {@link DmaBufError} what the exporter says.
   * @context May sleep. The caller holds the reservation. For dynamic importers; others get a
   *   warning.
   * @source `dma_buf_pin()`
   */
  *pin(): Task {
    this.warnIfStatic('dma_buf_pin');
    this.buf.resv.assertHeld('dma_buf_pin');
    const { ops } = this.buf;
    if (ops.pin === undefined) return;
    yield* this.orRecordRefusal('pin', callback(this.buf.resv, 'pin', ops.pin(this)));
    this.record('attachment.pin');
  }

  /**
   * Takes a pin back.
   *
   * @context May sleep. The caller holds the reservation.
   * @source `dma_buf_unpin()`
   */
  *unpin(): Task {
    this.warnIfStatic('dma_buf_unpin');
    this.buf.resv.assertHeld('dma_buf_unpin');
    const { ops } = this.buf;
    if (ops.unpin === undefined) return;
    yield* callback(this.buf.resv, 'unpin', ops.unpin(this));
    this.record('attachment.unpin');
  }

  /**
   * Maps the buffer for this device and returns where the device sees it. A static importer's
   * memory is pinned around the mapping, and moves under way are waited for; a dynamic importer
   * waits for `kernel` fences itself before its device touches anything.
   *
   * @param direction - Which way data flows until the unmap.
   * @returns Pieces in the order of the buffer; lengths add up to its size.
   * @throws {@link DmaBufError} what the exporter says: `EINVAL` no route to the device, `ENODEV`
   *   the memory was withdrawn, `ENOMEM` no address left.
   * @context May sleep. The caller holds the reservation.
   * @source `dma_buf_map_attachment()`
   */
  *mapAttachment(direction: DmaDirection): Task<SgTable> {
    const { buf } = this;
    buf.assertLives('dma_buf_map_attachment');
    buf.resv.assertHeld('dma_buf_map_attachment');
    if (this.pinsOnMap && buf.ops.pin !== undefined) {
      yield* this.orRecordRefusal('mapAttachment', this.pinForMap(buf.ops.pin(this)));
    }
    const table = yield* this.mapPinned(direction);
    buf.kernel.scheduler.record?.({
      kind: 'attachment.map',
      attachment: this.number,
      buffer: buf.number,
      device: this.device.name,
      direction,
      entries: table.entries.map(({ address, length }) => ({ address, length })),
    });
    return table;
  }

  /**
   * Takes a mapping back.
   *
   * @param table - As {@link mapAttachment} gave it.
   * @param direction - As then.
   * @context May sleep. The caller holds the reservation.
   * @source `dma_buf_unmap_attachment()`
   */
  *unmapAttachment(table: SgTable, direction: DmaDirection): Task {
    const { buf } = this;
    buf.assertLives('dma_buf_unmap_attachment');
    buf.resv.assertHeld('dma_buf_unmap_attachment');
    const original = buf.kernel.debugDmaBuf ? unwrapTable(this, table) : table;
    if (original === null) return;
    yield* this.unmapAndUnpin(original, direction);
    buf.kernel.scheduler.record?.({
      kind: 'attachment.unmap',
      attachment: this.number,
      buffer: buf.number,
      device: this.device.name,
    });
  }

  /**
   * As {@link mapAttachment}, taking the reservation for it.
   *
   * @throws {@link DmaBufError} as there.
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_map_attachment_unlocked()`
   */
  mapAttachmentUnlocked(direction: DmaDirection): Task<SgTable> {
    return withReservation(this.buf.resv, this.mapAttachment(direction));
  }

  /**
   * As {@link unmapAttachment}, taking the reservation for it.
   *
   * @context May sleep. The reservation is not locked.
   * @source `dma_buf_unmap_attachment_unlocked()`
   */
  unmapAttachmentUnlocked(table: SgTable, direction: DmaDirection): Task {
    return withReservation(this.buf.resv, this.unmapAttachment(table, direction));
  }

  /**
   * Calls the importer's `invalidateMappings`, if it has one. For the core.
   *
   * @context May sleep. The reservation is held.
   */
  *invalidate(): Task {
    const ops = this.importerOps;
    if (ops?.invalidateMappings === undefined) return;
    const { scheduler } = this.buf.kernel;
    const event = {
      kind: 'attachment.invalidate',
      attachment: this.number,
      buffer: this.buf.number,
    } as const;
    scheduler.record?.({ ...event, phase: 'begin' });
    yield* callback(this.buf.resv, 'invalidate_mappings', ops.invalidateMappings(this));
    scheduler.record?.({ ...event, phase: 'end' });
  }

  /** Puts a refusal into the trace. For the core. */
  recordRefusal(call: string, error: unknown): void {
    if (!isDmaBufError(error)) return;
    const { code, reason, detail } = error;
    this.buf.kernel.scheduler.record?.({
      kind: 'attachment.refuse',
      buffer: this.buf.number,
      device: this.device.name,
      call,
      code,
      reason,
      detail,
    });
  }

  /** The map itself, the wait of a static importer and the copy; takes all back if one fails. */
  private *mapPinned(direction: DmaDirection): Task<SgTable> {
    const { buf } = this;
    let table: SgTable | null = null;
    try {
      table = yield* this.callMap(direction);
      if (!this.isDynamic) {
        yield* buf.resv.waitTimeout('kernel', true, Number.POSITIVE_INFINITY);
      }
      return buf.kernel.debugDmaBuf ? yield* wrapTable(this as Attachment, table) : table;
    } catch (error) {
      if (table !== null) yield* this.unmapAndUnpin(table, direction);
      else if (this.pinsOnMap && buf.ops.unpin !== undefined) yield* buf.ops.unpin(this);
      this.recordRefusal('mapAttachment', error);
      throw error;
    }
  }

  /** The exporter's map. Types say that there is a table; a driver of another origin may not. */
  private *callMap(direction: DmaDirection): Task<SgTable> {
    const { ops, resv } = this.buf;
    const mapping: Task<SgTable | null> = ops.mapDmaBuf(this, direction);
    const table = yield* callback(resv, 'map_dma_buf', mapping);
    if (table !== null) return table;
    throw new DmaBufError('ENOMEM', 'mapAttachment', 'exporter-mapped-nothing');
  }

  private *unmapAndUnpin(table: SgTable, direction: DmaDirection): Task {
    const { ops, resv } = this.buf;
    yield* callback(resv, 'unmap_dma_buf', ops.unmapDmaBuf(this, table, direction));
    if (this.pinsOnMap && ops.unpin !== undefined) yield* ops.unpin(this);
  }

  private get pinsOnMap(): boolean {
    return !this.isDynamic && this.buf.ops.pin !== undefined;
  }

  /** The core's pin around a static importer's mapping. Nothing may be in its way. */
  private *pinForMap(pin: Task): Task {
    try {
      yield* pin;
    } catch (error) {
      if (isDmaBufError(error) && error.code === 'EBUSY') {
        this.buf.kernel.scheduler.warn('dma_buf_map_attachment', 'the pin says EBUSY');
      }
      throw error;
    }
  }

  private *orRecordRefusal(call: string, task: Task): Task {
    try {
      yield* task;
    } catch (error) {
      this.recordRefusal(call, error);
      throw error;
    }
  }

  private warnIfStatic(call: string): void {
    if (this.isDynamic) return;
    this.buf.kernel.scheduler.warn(call, 'the importer is static');
  }

  private record(kind: 'attachment.pin' | 'attachment.unpin'): void {
    const { number: attachment, buf } = this;
    buf.kernel.scheduler.record?.({ kind, attachment, buffer: buf.number });
  }
}

/** A device without a DMA address space: software that plays a card. The importer's mistake. */
export function refuseVirtualDevice(buf: DmaBuf): DmaBufError {
  const { scheduler } = buf.kernel;
  scheduler.warn('dma_buf_dynamic_attach', 'no device');
  const error = new DmaBufError('EINVAL', 'dynamicAttach', 'no-dma-device', {
    detail: {
      refusedBy: 'core',
      class: 'importer-bug',
      why: 'the importer has no device that does DMA: what it calls one hands out CPU pointers',
      advice: [{ change: 'importer', value: '', text: 'map the buffer for the CPU instead' }],
    },
  });
  const { code, call, reason, detail } = error;
  const refusal = { buffer: buf.number, device: '', call, code, reason, detail };
  scheduler.record?.({ kind: 'attachment.refuse', ...refusal });
  return error;
}
