/**
 * An RDMA card with its driver: processes register windows of dma-bufs as memory regions, and a
 * peer beyond the wire reads and writes them. When an exporter takes memory back, the region's
 * translation goes first, accesses under way are covered by a fence, and the mapping goes last; the
 * next access brings the region in again.
 *
 * Not modelled: protection domains, atomics, local work requests on regions, completion queues,
 * implicit on-demand regions, prefetching ("advise") and re-registration.
 *
 * LOCKING: who waits for whom, from the outside in. An exporter that revokes holds its own lock and
 * the reservation while it waits for the fence; then its own lock while it waits for the unmaps.
 * The fence is signaled by an engine, which takes no lock and, once an access has begun, waits for
 * nothing. The unmaps are the worker's; it takes the reservation, which the exporter has left by
 * then, and under it waits only for KERNEL fences and for accesses to end, never for another lock.
 * Who deregisters waits for engines and worker with no lock in his hand. So no circle closes.
 *
 * @source drivers/infiniband/core/uverbs_std_types_mr.c, drivers/infiniband/hw/mlx5/{mr,odp}.c,
 *   v7.2; reference/linux-dma-buf.md F.1, A.17
 */

import { assert, DmaBufError, isDmaBufError, present } from '../../base/index.ts';
import {
  type Attachment,
  type AttachOps,
  type DmaFence,
  type DmaResv,
  type Kernel,
  type Process,
  WorkQueue,
} from '../../framework/index.ts';
import {
  type Atomic,
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  type Device,
  type PciFunction,
  type PreemptStep,
  Shared,
  type SleepStep,
  type Task,
  type WirePort,
} from '../../machine/index.ts';
import { coverAccesses } from './cover-accesses.ts';
import { type EngineEvents, RdmaEngine } from './engine.ts';
import { KeyTable } from './key-table.ts';
import {
  checkRegDmabufMr,
  MemoryRegion,
  type MrMode,
  type RegDmabufMr,
  translate,
} from './memory-region.ts';
import { MessageQueue } from './message-queue.ts';
import type { RdmaPacket } from './packets.ts';
import { RegionGate } from './region-gate.ts';
import { UmemDmabuf, type UmemWindow } from './umem-dmabuf.ts';

/** LIMIT: the largest path MTU of InfiniBand, in bytes. */
export const PATH_MTU_MAX = 4096;

/** What kind of card it is. */
export interface RdmaNicOptions {
  /** What its actors are called after. Default `nic`; give each card of a machine its own. */
  readonly name?: string;
  /** Bytes that it moves in one request on the bus at most. Default and maximum
   *  {@link PATH_MTU_MAX}. */
  readonly pathMtu?: number;
  /** False for a driver without `reg_user_mr_dmabuf` (rxe, siw, and older cards). Default true. */
  readonly hasRegUserMrDmabuf?: boolean;
  /** True for software that plays a card: it has no device that could do DMA. Default false. */
  readonly usesVirtDma?: boolean;
}

type FaultAnswer = 'pending' | 'mapped' | 'refused';

/** A card and its driver. */
export class RdmaNic implements EngineEvents {
  readonly kernel: Kernel;
  readonly fn: PciFunction;
  private readonly name: string;
  private readonly pathMtu: number;
  private readonly ports: WirePort<RdmaPacket>[] = [];
  private readonly hasRegUserMrDmabuf: boolean;
  /** The device that does the DMA; null if none can. */
  private readonly dmaDevice: Device | null;
  private readonly keys: KeyTable;
  private readonly inbox: MessageQueue;
  /** Brings regions in and unmaps them, in order. */
  private readonly worker: WorkQueue;
  /** What an exporter reaches of an on-demand region. */
  private readonly onDemandOps: AttachOps;

  /**
   * @param port - This machine's end of the wire.
   * @context At boot: the driver binds to the function and an engine starts.
   */
  constructor(
    kernel: Kernel,
    fn: PciFunction,
    port: WirePort<RdmaPacket>,
    options: RdmaNicOptions = {},
  ) {
    const { name = 'nic', pathMtu = PATH_MTU_MAX } = options;
    const { scheduler } = kernel;
    assert(
      Number.isInteger(pathMtu) && pathMtu > 0 && pathMtu <= PATH_MTU_MAX,
      `a path MTU is 1 to ${PATH_MTU_MAX} bytes: ${pathMtu}`,
    );
    this.kernel = kernel;
    this.fn = fn;
    this.name = name;
    this.pathMtu = pathMtu;
    this.hasRegUserMrDmabuf = options.hasRegUserMrDmabuf ?? true;
    this.dmaDevice = options.usesVirtDma === true ? null : fn;
    this.keys = new KeyTable(scheduler, `${name} keys`);
    this.inbox = new MessageQueue(scheduler, `${name} inbox`, []);
    this.onDemandOps = {
      allowPeer2Peer: true,
      invalidateMappings: (attachment) => this.invalidate(attachment),
    };
    // pci_enable_device() and pci_set_master(), as at probe.
    fn.command.value |= COMMAND_MEMORY | COMMAND_BUS_MASTER;
    this.worker = new WorkQueue(scheduler, `kworker/${name}`);
    this.connect(port);
  }

  /**
   * A further connection: a queue pair with an engine of its own, which works beside the others.
   * Messages that come by it go to the same receive queue.
   *
   * @param port - This machine's end of the wire.
   * @context At boot: an engine starts.
   * @source `ib_create_qp()`, `ib_create_srq()`
   */
  connect(port: WirePort<RdmaPacket>): void {
    const { kernel, fn, keys, inbox, pathMtu, ports } = this;
    ports.push(port);
    const engine = new RdmaEngine({ fn, port, keys, inbox, pathMtu }, this);
    const name = ports.length === 1 ? `${this.name} engine` : `${this.name} engine ${ports.length}`;
    kernel.scheduler.spawn(engine.run(), { name, role: 'device', daemon: true });
  }

  /**
   * Registers a window of a dma-buf. A region `on-demand` is mapped right away, so that a card
   * which cannot reach the memory is told here and not at its first access.
   *
   * @returns The region. Its key works until it is deregistered.
   * @throws {@link DmaBufError} in this order: `EOPNOTSUPP` the driver cannot; `EINVAL` offset and
   *   iova lie differently in their pages, or the iova's range overflows; `EINVAL` access flags;
   *   what {@link UmemDmabuf.get} says, the exporter's refusals among it; what the map says:
   *   `EINVAL` no route, with its explanation in `detail`, `ENODEV` the memory is withdrawn.
   * @context May sleep; no lock held.
   * @source `ib_uverbs_reg_dmabuf_mr()`, `mlx5_ib_reg_user_mr_dmabuf()`
   */
  *regDmabufMr(process: Process, request: RegDmabufMr): Task<MemoryRegion> {
    return yield* process.syscall(this.register(process, request));
  }

  /**
   * Deregisters a region: its key is gone at once, accesses under way end, then it is unmapped and
   * the buffer dropped.
   *
   * @throws {@link DmaBufError} `ENOENT` the region is not registered, or not by this process.
   * @context May sleep; no lock held.
   * @source `ib_dereg_mr_user()`
   */
  *deregMr(process: Process, region: MemoryRegion): Task {
    yield* process.syscall(this.deregister(process, region));
  }

  /**
   * Deregisters everything that a process registered, oldest first: what closing its descriptor of
   * the card does. A process that exits does this before its descriptors of buffers are closed, or
   * after.
   *
   * @context May sleep; no lock held. No other thread of the process registers any more.
   * @source `ib_uverbs_close()`
   */
  *closeContext(process: Process): Task {
    yield* process.syscall(this.closeRegions(process));
  }

  /**
   * A step that sends a message to the peer's program, by the first connection.
   *
   * @context Any.
   * @source `ib_post_send()`
   */
  postSend(bytes: Uint8Array): PreemptStep<void> {
    const port = present(this.ports[0], 'the first connection');
    return port.send({ kind: 'send', payload: bytes.slice() });
  }

  /**
   * A step that waits for a message of the peer's program.
   *
   * @context May sleep.
   * @source `ib_poll_cq()`
   */
  receiveMessage(): SleepStep<Uint8Array> {
    return this.inbox.take();
  }

  /**
   * The engine met a region that is not there. Leaves it to the worker and waits.
   *
   * @context The engine, between two accesses.
   * @source `mlx5_ib_eqe_pf_action()`
   */
  *pageFault(region: MemoryRegion): Task<boolean> {
    const answer = new Shared<FaultAnswer>(this.kernel.scheduler, 'page fault', 'pending');
    yield* this.worker.queue(() => this.resolveFault(region, answer));
    return (yield* answer.until(isAnswered)) === 'mapped';
  }

  /**
   * The accesses that a fence stands for are over. The mapping is the worker's to take back: here
   * is no place to wait for the reservation, whose holder may be waiting for this very fence.
   *
   * @context The engine; does not sleep.
   * @source reference/linux-dma-buf.md B.1.1
   */
  *drained(region: MemoryRegion, fence: DmaFence): Atomic {
    yield* fence.signal();
    yield* fence.put();
    yield* this.worker.queue(() => this.unmapDrained(region));
  }

  /**
   * An exporter takes the memory of an on-demand region back. While accesses are under way the
   * mapping stays, and the worker unmaps after them.
   *
   * @context May sleep. The reservation is locked.
   * @source `mlx5_ib_dmabuf_invalidate_cb()`
   */
  protected *invalidate({ importerPriv }: Attachment): Task {
    const umem = importerPriv as UmemDmabuf<RegionGate>;
    if (yield* this.stop(umem.priv, umem.resv)) yield* umem.unmapPages();
  }

  /**
   * Lets no access begin any more, and covers those under way by a fence.
   *
   * DIFFERS: the drivers named above wait in the callback until the card has forgotten the region;
   * a fence lets the exporter wait when and if it wants to.
   *
   * @returns True if none is under way: unmapping is the caller's. Else it is the worker's.
   * @context May sleep. The reservation is locked.
   * @source reference/linux-dma-buf.md A.17
   */
  protected *stop(gate: RegionGate, resv: DmaResv): Task<boolean> {
    const { isIdle, fence } = yield* gate.close();
    // The engine drops its reference when it has signaled, perhaps before the fence is added.
    if (fence !== null) yield* coverAccesses(fence.hold(), resv);
    return isIdle;
  }

  private *register(process: Process, request: RegDmabufMr): Task<MemoryRegion> {
    const { fd, offset, length, iova, access, mode = 'on-demand' } = request;
    if (!this.hasRegUserMrDmabuf) {
      throw new DmaBufError('EOPNOTSUPP', 'regDmabufMr', 'driver-registers-no-dma-bufs');
    }
    checkRegDmabufMr(request);
    const fenceContext = yield* this.kernel.fenceContexts.next();
    const gate = new RegionGate(this.kernel, fenceContext, mode === 'on-demand');
    try {
      const umem = yield* this.getUmem(mode, { process, fd, offset, size: length }, gate, iova);
      const rkey = yield* this.keys.allocate();
      const region = new MemoryRegion(rkey, process, { iova, access, mode }, umem);
      yield* this.keys.insert(region);
      return region;
    } catch (error) {
      yield* gate.memory.free();
      throw error;
    }
  }

  /** The memory, mapped and known to the hardware; only the key is missing. */
  private *getUmem(
    mode: MrMode,
    window: UmemWindow,
    gate: RegionGate,
    iova: number,
  ): Task<UmemDmabuf<RegionGate>> {
    const device = this.dmaDevice;
    if (mode === 'on-demand') {
      const umem = yield* UmemDmabuf.get(device, window, this.onDemandOps, gate);
      return yield* this.bringInFirst(umem, iova);
    }
    if (mode === 'pinned') {
      const umem = yield* UmemDmabuf.getPinned(device, window, gate);
      yield* gate.open(translate(iova, yield* umem.mappedEntries()));
      return umem;
    }
    const umem = yield* UmemDmabuf.getPinnedRevocableAndLock(device, window, gate);
    yield* umem.setRevokeLocked(() => this.stop(gate, umem.resv));
    yield* gate.open(translate(iova, yield* umem.mappedEntries()));
    yield* umem.resv.unlock();
    return umem;
  }

  private *bringInFirst(umem: UmemDmabuf<RegionGate>, iova: number): Task<UmemDmabuf<RegionGate>> {
    yield* umem.resv.lock();
    try {
      yield* this.bringIn(umem, iova);
    } catch (error) {
      yield* umem.resv.unlock();
      yield* umem.release();
      throw error;
    }
    yield* umem.resv.unlock();
    return umem;
  }

  /**
   * Maps a region and tells the hardware; nothing to do if another fault of the region was faster.
   *
   * LOCKING: the caller holds the reservation, so nobody invalidates before the hardware knows.
   * What was mapped before an invalidation is stale: it goes first, when the last access to it has
   * ended, and the work that was ordered to unmap it will find the gate open.
   *
   * @source `pagefault_dmabuf_mr()`
   */
  private *bringIn(umem: UmemDmabuf<RegionGate>, iova: number): Task {
    const { priv: gate } = umem;
    if (yield* gate.isOpen()) return;
    yield* gate.untilIdle();
    yield* umem.unmapPages();
    yield* gate.open(translate(iova, yield* umem.mapPages()));
  }

  /** Work: a page fault. */
  private *resolveFault(region: MemoryRegion, answer: Shared<FaultAnswer>): Task {
    const { umem, gate, iova } = region;
    yield* umem.resv.lock();
    const isMapped = yield* this.tryBringIn(umem, iova);
    yield* umem.resv.unlock();
    yield* gate.workDone();
    yield* answer.write(isMapped ? 'mapped' : 'refused');
  }

  /** A refusal becomes the refusal of the access; why is in the trace. */
  private *tryBringIn(umem: UmemDmabuf<RegionGate>, iova: number): Task<boolean> {
    try {
      yield* this.bringIn(umem, iova);
      return true;
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      return false;
    }
  }

  /** Work: unmaps what was in use when it was invalidated, unless a page fault was faster. */
  private *unmapDrained({ umem, gate }: MemoryRegion): Task {
    yield* umem.resv.lock();
    if (!(yield* gate.isOpen())) yield* umem.letGo();
    yield* umem.resv.unlock();
    yield* gate.workDone();
  }

  private *deregister(process: Process, region: MemoryRegion): Task {
    const isOwn = region.process === process;
    if (!isOwn || !(yield* this.keys.remove(region))) {
      throw new DmaBufError('ENOENT', 'deregMr', 'mr-is-not-registered', {
        detail: { rkey: region.rkey, process: process.name },
      });
    }
    yield* this.destroy(region);
  }

  private *closeRegions(process: Process): Task {
    for (const region of yield* this.keys.regionsOf(process)) {
      if (yield* this.keys.remove(region)) yield* this.destroy(region);
    }
  }

  /**
   * LOCKING: the key is gone, so no access begins and no page fault comes; when those under way are
   * over, nobody but the exporter knows the region, and it forgets it at the detach.
   */
  private *destroy({ gate, umem }: MemoryRegion): Task {
    yield* gate.untilQuiet();
    yield* umem.release();
    yield* gate.memory.free();
  }
}

function isAnswered(answer: FaultAnswer): boolean {
  return answer !== 'pending';
}
