/**
 * A device owned by user space through VFIO, and importers of its memory that behave as a test
 * wants: they give memory back at once, late, or never.
 */

import type { DmaBufError } from '../../src/base/index.ts';
import { VfioPciDevice, type VfioRegionDmaRange } from '../../src/drivers/index.ts';
import type { VfioDmaBuf } from '../../src/drivers/vfio-pci/vfio-dma-buf.ts';
import {
  type Attachment,
  type AttachOps,
  DmaBuf,
  DmaFence,
  type SgTable,
} from '../../src/framework/index.ts';
import { type MachineSpec, type PciFunction, Shared, type Task } from '../../src/machine/index.ts';
import { KernelRig, locked } from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';

/** The device that VFIO owns, unless told otherwise. */
export const OWNED = '04:00.0';
/** Devices below the same switch. */
export const [PEER, OTHER_PEER] = ['03:00.0', '07:00.0'] as const;
/** A device on another root port of a machine that is not trusted. */
export const FAR = '0a:00.0';
/** The BAR with memory. */
export const BAR = 2;
const PAGE = 4096;

/** A machine with a device that is owned through VFIO. */
export class VfioRig extends KernelRig {
  readonly vdev: VfioPciDevice;
  readonly owned: PciFunction;

  constructor(spec: MachineSpec = wideMachine(), owned = OWNED) {
    super(spec);
    this.owned = this.at(owned);
    this.vdev = new VfioPciDevice(this.kernel, this.owned);
  }

  /** Opens the device and exports ranges of BAR2: from page, pages. */
  *open(...ranges: readonly (readonly [number, number])[]): Task<DmaBuf> {
    yield* this.vdev.open();
    return yield* this.exportPages(...ranges);
  }

  /** Exports ranges of BAR2: from page, pages. Only the descriptor holds the buffer. */
  *exportPages(...ranges: readonly (readonly [number, number])[]): Task<DmaBuf> {
    const bytes = ranges.map(([page, pages]) => ({ offset: page * PAGE, length: pages * PAGE }));
    const fd = yield* this.exportBytes(bytes);
    const buf = yield* DmaBuf.get(this.process, fd);
    yield* buf.put();
    return buf;
  }

  /** Exports ranges of BAR2 and gives back the descriptor. */
  *exportBytes(ranges: readonly VfioRegionDmaRange[]): Task<number> {
    return yield* this.vdev.featureDmaBuf(this.process, { regionIndex: BAR, ranges });
  }

  /** Switches memory decoding on or off, as a guest does through configuration space. */
  *setMemory(isOn: boolean): Task {
    yield* this.vdev.writeCommand(this.process, isOn ? 6 : 4);
  }

  /** True while access to the buffer is taken back. */
  isRevoked(buf: DmaBuf): boolean {
    return (buf as DmaBuf<VfioDmaBuf>).priv.revoked.value;
  }
}

/** When an importer unmaps after it was told. */
export type Habit = 'at-once' | 'late' | 'never';

/** An importer of one buffer, for one device. */
export class FakeImporter {
  readonly rig: KernelRig;
  readonly device: PciFunction;
  readonly ops: AttachOps;
  /** How often it was told that its mappings are stale. */
  invalidations = 0;
  /** True once it was told, until it mapped anew. */
  readonly stale: Shared<boolean>;
  attachment: Attachment | null = null;
  readonly tables: SgTable[] = [];
  /** Covers accesses that could not be stopped at once. */
  fence: DmaFence | null = null;
  private readonly habit: Habit;

  constructor(rig: KernelRig, device: PciFunction, habit: Habit = 'at-once') {
    this.rig = rig;
    this.device = device;
    this.habit = habit;
    this.stale = new Shared(rig.scheduler, `stale of ${device.name}`, false);
    this.ops = {
      allowPeer2Peer: true,
      invalidateMappings: (attachment) => this.hear(attachment),
    };
  }

  /** Attaches to a buffer. */
  *attach(buf: DmaBuf): Task {
    this.attachment = yield* buf.dynamicAttach(this.device, this.ops);
  }

  /** Attaches and maps. */
  *import(buf: DmaBuf): Task {
    yield* this.attach(buf);
    yield* this.map();
  }

  /** Maps once more. */
  *map(): Task {
    const { attachment } = this;
    if (attachment === null) return;
    const table = yield* locked(attachment.buf.resv, this.mapLocked(attachment));
    this.tables.push(table);
  }

  /** What a map that must fail fails with. */
  *mapRefused(): Task<DmaBufError> {
    return yield* refused(this.map());
  }

  /** Unmaps everything. */
  *unmap(): Task {
    const { attachment } = this;
    if (attachment !== null) yield* locked(attachment.buf.resv, this.unmapLocked(attachment));
  }

  /** Unmaps and leaves. */
  *leave(): Task {
    yield* this.unmap();
    const { attachment } = this;
    if (attachment !== null) yield* attachment.buf.detach(attachment);
    this.attachment = null;
  }

  /** The thread of an importer that is late: finishes its work, then unmaps. */
  *finishLate(workNs: number, unmapNs: number, log: string[] = []): Task {
    yield* this.stale.until((isStale) => isStale);
    yield* this.rig.scheduler.sleep(workNs);
    log.push('work is done');
    if (this.fence !== null) yield* this.fence.signal();
    yield* this.rig.scheduler.sleep(unmapNs);
    log.push('unmaps');
    yield* this.unmap();
  }

  private *mapLocked(attachment: Attachment): Task<SgTable> {
    const table = yield* attachment.mapAttachment('bidirectional');
    yield* this.stale.write(false);
    return table;
  }

  private *unmapLocked(attachment: Attachment): Task {
    for (const table of this.tables.splice(0)) {
      yield* attachment.unmapAttachment(table, 'bidirectional');
    }
  }

  private *hear(attachment: Attachment): Task {
    this.invalidations += 1;
    if (this.habit === 'late' && this.tables.length > 0) yield* this.coverWork(attachment);
    yield* this.stale.write(true);
    if (this.habit === 'at-once') yield* this.unmapLocked(attachment);
  }

  private *coverWork({ buf }: Attachment): Task {
    const origin = { driver: 'fake', timeline: this.device.name, context: 1, seqno: 1 };
    this.fence = new DmaFence(this.rig.kernel, origin);
    yield* buf.resv.reserveFences(1);
    yield* buf.resv.addFence(this.fence, 'bookkeep');
  }
}
