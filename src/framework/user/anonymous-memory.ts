/**
 * Pages that belong to one map: memory without a file behind it, and copies that a private map made
 * of what it wrote to.
 *
 * @source `do_anonymous_page()`, `wp_page_copy()`, mm/memory.c, v7.2
 */

import { DmaBufError, PAGE_SIZE } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { PageEntry, Vma, VmOperations } from './vma.ts';

/** Operations of a map without a file: a page is there, and zero, when it is first touched. */
export const anonymousMemory: VmOperations = {
  *fault(vma: Vma, page: number): Task {
    const entry = yield* ownPage(vma);
    // Another thread may have been faster.
    if (!(yield* vma.replacePage(page, null, entry))) {
      yield* vma.machine.memory.free(entry.phys, 1);
    }
  },
};

/**
 * Gives a private map a page of its own in the place of one that it may only read.
 *
 * @throws {@link DmaBufError} `ENOMEM`.
 * @context May sleep. The mmap lock is held for reading.
 */
export function* copyOnWrite(vma: Vma, page: number, shared: PageEntry): Task {
  const own = yield* ownPage(vma);
  const bytes = yield* vma.loadPage(page * PAGE_SIZE, PAGE_SIZE);
  if (bytes !== null) {
    yield* vma.machine.cpu.store(own.phys, bytes);
    if (yield* vma.replacePage(page, shared, own)) return;
  }
  yield* vma.machine.memory.free(own.phys, 1);
}

/**
 * Fills the copy of a map, which has none yet, with the same pages, and with copies of those that
 * are the map's own.
 *
 * @throws {@link DmaBufError} `ENOMEM`.
 * @context May sleep. The mmap lock of the map's process is held for writing.
 * @source `copy_page_range()`
 */
export function* copyPages(from: Vma, to: Vma): Task {
  const { cpu } = from.machine;
  for (const [page, entry] of yield* from.entries()) {
    if (entry.isOwn !== true) {
      yield* to.insertPages(page, [entry]);
      continue;
    }
    const own = yield* ownPage(to);
    const bytes = yield* from.loadPage(page * PAGE_SIZE, PAGE_SIZE);
    // The owner of the file may just have taken it away.
    if (bytes === null) yield* from.machine.memory.free(own.phys, 1);
    else {
      yield* cpu.store(own.phys, bytes);
      yield* to.insertPages(page, [own]);
    }
  }
}

function* ownPage({ machine }: Vma): Task<PageEntry> {
  const phys = yield* machine.memory.allocate(1);
  if (phys === null) throw new DmaBufError('ENOMEM', 'page fault', 'no-page-left-to-fault-in');
  return { phys, kind: 'ram', isOwn: true };
}
