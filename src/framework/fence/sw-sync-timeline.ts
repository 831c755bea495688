/**
 * A timeline that a program drives, and the points on it.
 *
 * @source `struct sync_timeline`, `struct sync_pt`, drivers/dma-buf/sw_sync.c, v7.2; reference B.6
 */

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

/** `struct sync_pt`: a fence that signals when its timeline has come so far. */
export class SyncPoint extends DmaFence {
  readonly parent: SyncTimeline;
  /** The earliest that anybody asked for; null: nobody did. */
  readonly deadline: Deadline;

  constructor(parent: SyncTimeline, context: number, seqno: number) {
    const origin = { driver: 'sw_sync', timeline: parent.title, context, seqno };
    super(parent.kernel, origin, { ops: POINT_OPS });
    this.parent = parent;
    this.deadline = new Deadline(parent.kernel.scheduler, `${this.name} deadline`, null);
  }
}

const POINT_OPS: DmaFenceOps = {
  *signaled(fence): Atomic<boolean> {
    return yield* (fence as SyncPoint).parent.hasReached(fence.origin.seqno);
  },

  *setDeadline(fence, deadlineNs): Atomic {
    yield* (fence as SyncPoint).deadline.lower(deadlineNs);
  },

  *release(fence): Atomic {
    yield* (fence as SyncPoint).parent.forget(fence as SyncPoint);
  },
};

/** When a point is wanted. Null: nobody said. */
export class Deadline extends Cell<number | null> {
  /** A step that tells it. */
  read(): PreemptStep<number | null> {
    return new MoveDeadline(this, Number.POSITIVE_INFINITY);
  }

  /** A step that makes it earlier, if `deadlineNs` is. */
  lower(deadlineNs: number): PreemptStep<number | null> {
    return new MoveDeadline(this, deadlineNs);
  }
}

class MoveDeadline extends PreemptStep<number | null> {
  readonly cell: Deadline;
  private readonly to: number;

  constructor(cell: Deadline, to: number) {
    super();
    this.cell = cell;
    this.to = to;
  }

  get verb(): string {
    return 'deadline';
  }

  override accesses(look: Look): readonly Access[] {
    const before = look<number | null>(this.cell) ?? Number.POSITIVE_INFINITY;
    return [wholeCell(this.cell, this.to < before ? 'W' : 'R')];
  }

  apply(): number | null {
    const { cell, to } = this;
    if (to < (cell.value ?? Number.POSITIVE_INFINITY)) cell.value = to;
    return cell.value;
  }
}

/** How far a timeline has come, and who waits further on. */
interface TimelineState {
  readonly value: number;
  /** In order of their numbers. No references: a point takes itself off. */
  readonly points: readonly SyncPoint[];
}

/** `struct sync_timeline`. */
export class SyncTimeline extends Cell<TimelineState> {
  readonly kernel: Kernel;
  /** The name of who opened it. */
  readonly title: string;
  private readonly context: number;

  constructor(kernel: Kernel, title: string, context: number) {
    super(kernel.scheduler, `sw_sync ${title}`, { value: 0, points: [] });
    this.kernel = kernel;
    this.title = title;
    this.context = context;
  }

  /**
   * A point. Two that are pending at one number are one.
   *
   * @returns With a reference for the caller.
   * @context Any.
   * @source `sync_pt_create()`
   */
  *createPoint(seqno: number): Atomic<SyncPoint> {
    const made = new SyncPoint(this, this.context, seqno);
    const point = yield* new AddPoint(this, made);
    if (point === null) yield* made.signal();
    return point ?? made;
  }

  /**
   * Goes on, and signals what is passed, in order.
   *
   * @context Any.
   * @source `sync_timeline_signal()`
   */
  *advance(by: number): Atomic {
    for (const point of yield* new Advance(this, by)) {
      yield* point.signal();
      yield* point.put();
    }
  }

  /**
   * Ends: whoever waits is told, with an error.
   *
   * @param error - A negative errno.
   * @context Any.
   * @source `sw_sync_debugfs_release()`
   */
  *abandon(error: number): Atomic {
    for (const point of yield* new Advance(this, null)) {
      yield* point.setError(error);
      yield* point.signal();
      yield* point.put();
    }
  }

  /**
   * A step that says whether a number is passed.
   *
   * @context Any.
   * @source `timeline_fence_signaled()`
   */
  hasReached(seqno: number): PreemptStep<boolean> {
    return new HasReached(this, seqno);
  }

  /**
   * A step that takes a point off the list.
   *
   * @context Any.
   * @source `timeline_fence_release()`
   */
  forget(point: SyncPoint): PreemptStep<void> {
    return new Forget(this, point);
  }
}

/** True if `seqno` is not beyond `value`; both wrap at 32 bits. */
function isReached(value: number, seqno: number): boolean {
  return ((seqno - value) | 0) <= 0;
}

abstract class TimelineStep<R> extends PreemptStep<R> {
  readonly cell: SyncTimeline;

  constructor(cell: SyncTimeline) {
    super();
    this.cell = cell;
  }

  override accesses(look: Look): readonly Access[] {
    const refs = look(this.cell).points.map((point) => wholeCell(point.refs, 'U'));
    return [wholeCell(this.cell, 'W'), ...refs];
  }
}

/** Puts a point on the list. Null: it is passed. Another one: that was there, with a reference. */
class AddPoint extends TimelineStep<SyncPoint | null> {
  private readonly made: SyncPoint;

  constructor(cell: SyncTimeline, made: SyncPoint) {
    super(cell);
    this.made = made;
  }

  get verb(): string {
    return 'add point';
  }

  apply(): SyncPoint | null {
    const { cell, made } = this;
    const { value, points } = cell.value;
    const { seqno } = made.origin;
    if (isReached(value, seqno)) return null;
    const same = points.find((point) => point.origin.seqno === seqno && point.refs.value > 0);
    if (same !== undefined) return same.hold() as SyncPoint;
    const at = points.findIndex((point) => !isReached(seqno, point.origin.seqno));
    const place = at < 0 ? points.length : at;
    cell.value = { value, points: points.toSpliced(place, 0, made) };
    return made;
  }
}

/** Goes on by so much, or for null to the end. The points passed, with references. */
class Advance extends TimelineStep<readonly SyncPoint[]> {
  private readonly by: number | null;

  constructor(cell: SyncTimeline, by: number | null) {
    super(cell);
    this.by = by;
  }

  get verb(): string {
    return 'advance';
  }

  apply(): readonly SyncPoint[] {
    const { cell, by } = this;
    const { points } = cell.value;
    const value = (cell.value.value + (by ?? 0)) >>> 0;
    const isPassed = ({ origin }: SyncPoint): boolean =>
      by === null || isReached(value, origin.seqno);
    const ahead = points.findIndex((point) => !isPassed(point));
    const count = ahead < 0 ? points.length : ahead;
    cell.value = { value, points: points.slice(count) };
    return points.slice(0, count).filter((point) => point.refs.value > 0 && point.hold() === point);
  }
}

class HasReached extends TimelineStep<boolean> {
  private readonly seqno: number;

  constructor(cell: SyncTimeline, seqno: number) {
    super(cell);
    this.seqno = seqno;
  }

  get verb(): string {
    return 'read';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): boolean {
    return isReached(this.cell.value.value, this.seqno);
  }
}

class Forget extends TimelineStep<void> {
  private readonly point: SyncPoint;

  constructor(cell: SyncTimeline, point: SyncPoint) {
    super(cell);
    this.point = point;
  }

  get verb(): string {
    return 'forget point';
  }

  override accesses(look: Look): readonly Access[] {
    const isListed = look(this.cell).points.includes(this.point);
    return [wholeCell(this.cell, isListed ? 'W' : 'R')];
  }

  apply(): void {
    const { value, points } = this.cell.value;
    if (!points.includes(this.point)) return;
    this.cell.value = { value, points: points.filter((point) => point !== this.point) };
  }
}
