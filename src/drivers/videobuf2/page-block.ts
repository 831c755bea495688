/** Single pages, gathered: what the scatter and the vmalloc allocator are made of. */

import { DmaBufError, PAGE_SIZE } from '../../base/index.ts';
import type { Kernel, PageEntry } from '../../framework/index.ts';
import type { PhysRange, Task } from '../../machine/index.ts';

/**
 * Allocates pages one by one, wherever there are some.
 *
 * @param size - Bytes; whole pages.
 * @returns The range of each page.
 * @throws {@link DmaBufError} `ENOMEM`; nothing is kept then.
 * @context May sleep.
 */
export function* allocatePages(kernel: Kernel, size: number): Task<readonly PhysRange[]> {
  const pages: PhysRange[] = [];
  while (pages.length * PAGE_SIZE < size) {
    const phys = yield* kernel.machine.memory.allocate(1);
    if (phys === null) {
      yield* freePages(kernel, pages);
      throw new DmaBufError('ENOMEM', 'vb2_alloc', 'no-page-left-for-a-plane');
    }
    pages.push({ phys, size: PAGE_SIZE });
  }
  return pages;
}

/**
 * Gives them back.
 *
 * @context May sleep.
 */
export function* freePages(kernel: Kernel, pages: readonly PhysRange[]): Task {
  for (const { phys } of pages) yield* kernel.machine.memory.free(phys, 1);
}

/**
 * Those of them that a map of a process shows.
 *
 * @throws {@link DmaBufError} `ENXIO` the map does not lie in them.
 */
export function pageEntries(
  pages: readonly PhysRange[],
  vma: { readonly pgoff: number; readonly pages: number },
): readonly PageEntry[] {
  const end = vma.pgoff + vma.pages;
  if (end > pages.length) throw new DmaBufError('ENXIO', 'mmap', 'map-leaves-the-video-memory');
  return pages.slice(vma.pgoff, end).map(({ phys }) => ({ phys, kind: 'ram' }));
}
