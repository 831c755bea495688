/**
 * What a bus monitor would say of a reset: after the exporter's wait for fences nobody writes to a
 * revoked buffer, after its wait for unmaps nobody touches it, until access is given back. It looks
 * at the trace alone, and trusts no driver.
 */

import type { TraceEvent } from '../../src/base/index.ts';

/** A buffer, or a range of one, as the monitor knows it: a piece of a BAR. */
export interface MonitoredBuffer {
  readonly buffer: number;
  /** `0000:05:00.0 BAR2`. */
  readonly bar: string;
  /** First byte in the BAR. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/**
 * Where a buffer stands. `fenced`: the wait for fences is over; `silent`: that for unmaps, too;
 * `restoring`: the reset is over, and the exporter gives access back.
 */
type Phase = 'open' | 'revoking' | 'fenced' | 'silent' | 'restoring';

interface Watch {
  readonly monitored: MonitoredBuffer;
  phase: Phase;
  /** Who revokes. */
  task: string;
  /** How often he has left the reservation since he began to restore. */
  releases: number;
}

/** Accesses that should not have been, one line each. */
export function strayAccesses(
  trace: readonly TraceEvent[],
  buffers: readonly MonitoredBuffer[],
): readonly string[] {
  const watches: readonly Watch[] = buffers.map((monitored) => ({
    monitored,
    phase: 'open',
    task: '',
    releases: 0,
  }));
  const strays: string[] = [];
  for (const event of trace) {
    for (const watch of watches) {
      follow(watch, event);
      if (isStray(watch, event)) {
        strays.push(`${event.kind} by ${event.task} at seq ${event.seq}: ${watch.phase}`);
      }
    }
  }
  return strays;
}

function follow(watch: Watch, event: TraceEvent): void {
  const { buffer } = watch.monitored;
  const isHis = event.task === watch.task;
  if (event.kind === 'buffer.invalidate' && event.buffer === buffer && event.phase === 'begin') {
    if (watch.phase === 'open') {
      watch.phase = 'revoking';
      watch.task = event.task;
    } else if (watch.phase === 'silent' && isHis) {
      watch.phase = 'restoring';
      watch.releases = 0;
    }
  } else if (event.kind === 'lock.release' && isHis && event.lock === `dma-buf ${buffer} resv`) {
    if (watch.phase === 'revoking') watch.phase = 'fenced';
    // Leaves it once before he clears the mark and once after.
    if (watch.phase === 'restoring') watch.releases += 1;
    if (watch.releases === 2) {
      watch.phase = 'open';
      watch.releases = 0;
    }
  } else if (event.kind === 'buffer.put' && isHis && event.buffer === buffer) {
    if (watch.phase === 'fenced') watch.phase = 'silent';
  }
}

function isStray({ monitored, phase }: Watch, event: TraceEvent): boolean {
  if (event.kind !== 'dma.read' && event.kind !== 'dma.write') return false;
  if (phase === 'open' || phase === 'revoking') return false;
  if (phase === 'fenced' && event.kind === 'dma.read') return false;
  const [bar, at] = event.target.split('+');
  const offset = Number(at);
  const { offset: start, length } = monitored;
  return bar === monitored.bar && offset < start + length && start < offset + event.length;
}
