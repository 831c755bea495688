/**
 * A fence for all work up to a point of a timeline: each node stands for a fence of its own and for
 * the node before it.
 *
 * @source drivers/dma-buf/dma-fence-chain.c, v7.2; reference/linux-dma-buf.md B.5
 */

import { DmaBufError } from '../../base/index.ts';
import {
  type Access,
  type Atomic,
  Cell,
  type Look,
  PreemptStep,
  wholeCell,
} from '../../machine/index.ts';
import type { Kernel } from '../kernel.ts';
import { DmaFence, type DmaFenceOps } from './dma-fence.ts';

/** Where a node is on its timeline. */
interface ChainPlace {
  readonly context: number;
  readonly seqno: number;
  /** Number of the node before, if that is of the same context; else 0. */
  readonly prevSeqno: number;
}

/** `struct dma_fence_chain`: one node. */
export class DmaFenceChain extends DmaFence {
  /** The node's own fence. The node owns a reference. */
  readonly fence: DmaFence;
  /** What comes before; the node owns a reference. Signaled ones are taken out by who walks. */
  readonly prev: PrevLink;
  readonly prevSeqno: number;

  private constructor(
    kernel: Kernel,
    prev: DmaFence | null,
    fence: DmaFence,
    { context, seqno, prevSeqno }: ChainPlace,
  ) {
    const origin = { driver: 'dma_fence_chain', timeline: 'unbound', context, seqno };
    super(kernel, origin, { ops: CHAIN_OPS, isSeqno64: true });
    this.fence = fence;
    this.prev = new PrevLink(kernel.scheduler, `${this.name} prev`, prev);
    this.prevSeqno = prevSeqno;
    if (!(fence instanceof DmaFenceChain)) return;
    kernel.scheduler.warn('dma_fence_chain_init', `${fence.name} is a chain itself`);
  }

  override get isContainer(): boolean {
    return true;
  }

  /**
   * Puts a node for `fence` behind `prev`. Takes the caller's references to both over.
   *
   * @param prev - Null: the first node. A node: its timeline goes on, if `seqno` is beyond it.
   * @context Any.
   * @source `dma_fence_chain_init()`
   */
  static *create(
    kernel: Kernel,
    prev: DmaFence | null,
    fence: DmaFence,
    seqno: number,
  ): Atomic<DmaFenceChain> {
    const before = prev instanceof DmaFenceChain ? prev.origin : null;
    if (before !== null && seqno > before.seqno) {
      const { context, seqno: prevSeqno } = before;
      return new DmaFenceChain(kernel, prev, fence, { context, seqno, prevSeqno });
    }
    const context = yield* kernel.fenceContexts.next();
    const valid = Math.max(before?.seqno ?? 0, seqno);
    return new DmaFenceChain(kernel, prev, fence, { context, seqno: valid, prevSeqno: 0 });
  }
}

/**
 * The fence before this one in a chain, with a reference; the reference to this one is dropped.
 * Signaled nodes on the way are taken out of the chain.
 *
 * @returns Null: there is none, or `fence` is no chain.
 * @context Any.
 * @source `dma_fence_chain_walk()`
 */
export function* chainWalk(fence: DmaFence): Atomic<DmaFence | null> {
  if (!(fence instanceof DmaFenceChain)) {
    yield* fence.put();
    return null;
  }
  for (;;) {
    const prev = yield* fence.prev.get();
    if (prev === null || !(yield* own(prev).isSignaled())) {
      yield* fence.put();
      return prev;
    }
    const replacement = prev instanceof DmaFenceChain ? yield* prev.prev.get() : null;
    if (yield* fence.prev.exchange(prev, replacement)) yield* prev.put();
    else if (replacement !== null) yield* replacement.put();
    yield* prev.put();
  }
}

/** A node's own fence; any other fence itself. */
function own(fence: DmaFence): DmaFence {
  return fence instanceof DmaFenceChain ? fence.fence : fence;
}

/**
 * The node that stands for point `seqno` of a timeline. Takes the caller's reference to `fence`
 * over.
 *
 * @param seqno - 0: the head itself.
 * @returns The node, with a reference. It may stand for an earlier point, and null is possible:
 *   what is signaled may have been taken out.
 * @throws {@link DmaBufError} `EINVAL` `fence` is no chain, or ends before that point; the caller
 *   keeps its reference.
 * @context Any.
 * @source `dma_fence_chain_find_seqno()`
 */
export function* chainFindSeqno(fence: DmaFence, seqno: number): Atomic<DmaFence | null> {
  if (seqno === 0) return fence;
  if (!(fence instanceof DmaFenceChain) || fence.origin.seqno < seqno) {
    throw new DmaBufError('EINVAL', 'chainFindSeqno', 'no-such-point-on-the-timeline');
  }
  yield* fence.get();
  let at: DmaFence | null = fence;
  while (at !== null) {
    const isOther = at.origin.context !== fence.origin.context;
    if (isOther || !(at instanceof DmaFenceChain) || at.prevSeqno < seqno) break;
    at = yield* chainWalk(at);
  }
  yield* fence.put();
  return at;
}

const CHAIN_OPS: DmaFenceOps = {
  *enableSignaling(fence): Atomic<boolean> {
    const head = fence as DmaFenceChain;
    yield* head.get();
    yield* head.get();
    for (let at: DmaFence | null = head; at !== null; at = yield* chainWalk(at)) {
      const next = own(at);
      yield* next.get();
      if (yield* next.addCallback((signaled) => goOn(head, signaled))) {
        // The reference to the head is the callback's now.
        yield* at.put();
        return true;
      }
      yield* next.put();
    }
    yield* head.put();
    return false;
  },

  *signaled(fence): Atomic<boolean> {
    yield* fence.get();
    for (let at: DmaFence | null = fence; at !== null; at = yield* chainWalk(at)) {
      if (yield* own(at).isSignaled()) continue;
      yield* at.put();
      return false;
    }
    return true;
  },

  *setDeadline(fence, deadlineNs): Atomic {
    yield* fence.get();
    for (let at: DmaFence | null = fence; at !== null; at = yield* chainWalk(at)) {
      yield* own(at).setDeadline(deadlineNs);
    }
  },

  /** Takes the nodes before apart one after the other, so that a long chain needs no deep stack. */
  *release(fence): Atomic {
    const chain = fence as DmaFenceChain;
    for (;;) {
      const prev = chain.prev.value;
      if (!(prev instanceof DmaFenceChain) || prev.refs.value > 1) break;
      yield* chain.prev.exchange(prev, prev.prev.value);
      yield* prev.prev.exchange(prev.prev.value, null);
      yield* prev.put();
    }
    const last = chain.prev.value;
    if (last !== null) yield* last.put();
    yield* chain.fence.put();
  },
};

/** The fence that a chain waited for is signaled: on to the next, outside its lock. */
function* goOn(head: DmaFenceChain, signaled: DmaFence): Atomic {
  const { irqWork, scheduler } = head.kernel;
  function* work(): Atomic {
    const { enableSignaling } = CHAIN_OPS;
    if (enableSignaling === undefined || !(yield* enableSignaling(head))) yield* head.signal();
    yield* head.put();
  }
  yield* irqWork.queue(scheduler.current, work);
  yield* signaled.put();
}

/** A node's pointer to what comes before. */
export class PrevLink extends Cell<DmaFence | null> {
  /** A step that follows the link and takes a reference. `dma_fence_chain_get_prev()` */
  get(): PreemptStep<DmaFence | null> {
    return new GetPrev(this);
  }

  /**
   * A step that replaces `old`, if it is still there. True if it did.
   *
   * @param next - Its reference is the link's then.
   */
  exchange(old: DmaFence | null, next: DmaFence | null): PreemptStep<boolean> {
    return new ExchangePrev(this, old, next);
  }
}

class GetPrev extends PreemptStep<DmaFence | null> {
  readonly cell: PrevLink;

  constructor(cell: PrevLink) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'follow';
  }

  override accesses(look: Look): readonly Access[] {
    const prev = look<DmaFence | null>(this.cell);
    const own = wholeCell(this.cell, 'R');
    return prev === null ? [own] : [own, wholeCell(prev.refs, 'G')];
  }

  apply(): DmaFence | null {
    // The link owns a reference, so the count is above zero.
    return this.cell.value?.hold() ?? null;
  }
}

class ExchangePrev extends PreemptStep<boolean> {
  readonly cell: PrevLink;
  private readonly old: DmaFence | null;
  private readonly replacement: DmaFence | null;

  constructor(cell: PrevLink, old: DmaFence | null, next: DmaFence | null) {
    super();
    this.cell = cell;
    this.old = old;
    this.replacement = next;
  }

  get verb(): string {
    return 'replace';
  }

  override accesses(look: Look): readonly Access[] {
    return [wholeCell(this.cell, look<DmaFence | null>(this.cell) === this.old ? 'W' : 'R')];
  }

  apply(): boolean {
    if (this.cell.value !== this.old) return false;
    this.cell.value = this.replacement;
    return true;
  }
}
