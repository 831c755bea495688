/**
 * poll(2): looks at files, sleeps until one of them has news, looks again.
 *
 * @source `do_sys_poll()`, fs/select.c, v7.2; reference/linux-dma-buf.md A.9
 */

import { DmaBufError } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { KernelFile } from '../vfs/file.ts';
import { POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, PollTable } from '../vfs/poll-table.ts';
import { waitForAny, type WaitEntry } from '../vfs/wait-queue.ts';
import type { Process } from './process.ts';
import type { PollRequest } from './sys.ts';

/** Said of a file that has no operation of its own. */
const ALWAYS_READY = POLLIN | POLLOUT;

const NS_PER_MS = 1_000_000;

/**
 * Waits for events.
 *
 * @param timeoutMs - 0 only looks; negative waits for ever.
 * @returns Events by request; all 0 if the time is over.
 * @throws {@link DmaBufError} `EINVAL` too many requests; `ERESTARTSYS` a signal came first.
 * @context May sleep; no lock held.
 */
export function* pollFiles(
  process: Process,
  requests: readonly PollRequest[],
  timeoutMs: number,
): Task<readonly number[]> {
  if (requests.length > process.fds.limit) {
    throw new DmaBufError('EINVAL', 'poll', 'more-requests-than-descriptors');
  }
  const { scheduler, signals } = process.kernel;
  const until = timeoutMs < 0 ? Number.POSITIVE_INFINITY : scheduler.t + timeoutMs * NS_PER_MS;
  // A file whose queue we sleep on stays, even if another thread closes the descriptor.
  const held: KernelFile[] = [];
  try {
    for (;;) {
      const entries: WaitEntry[] = [];
      const events: number[] = [];
      for (const request of requests) {
        events.push(yield* pollOne(process, request, entries, held));
      }
      if (events.some((found) => found !== 0) || scheduler.t >= until) return events;
      yield* signals.interruptible(waitForAny(scheduler.clock, entries, until), 'poll');
    }
  } finally {
    for (const file of held) yield* file.put();
  }
}

function* pollOne(
  process: Process,
  { fd, events }: PollRequest,
  entries: WaitEntry[],
  held: KernelFile[],
): Task<number> {
  if (fd < 0) return 0;
  const file = yield* process.fds.fget(fd);
  if (file === null) return POLLNVAL;
  if (held.includes(file)) yield* file.put();
  else held.push(file);
  const wanted = events | POLLERR | POLLHUP;
  if (file.operations.poll === undefined) return ALWAYS_READY & wanted;
  const table = new PollTable(events);
  const found = yield* file.operations.poll(file, table);
  entries.push(...table.entries);
  return found & wanted;
}
