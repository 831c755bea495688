/** The buffers that the hardware is done with and the program has not taken yet. */

import { Cell, changeCell, lookAtCell, type PreemptStep } from '../../machine/index.ts';
import type { Vb2Buffer } from './buffer.ts';

/** `vb2_queue.done_list` under its spinlock. Oldest first. */
export class DoneList extends Cell<readonly Vb2Buffer[]> {
  /** A step that adds one. */
  add(buffer: Vb2Buffer): PreemptStep<void> {
    return changeCell(this, 'buffer done', (all) => [[...all, buffer], undefined]);
  }

  /** A step that takes the oldest; null if there is none. */
  take(): PreemptStep<Vb2Buffer | null> {
    return changeCell(this, 'take a buffer', ([first = null, ...rest]) => [rest, first]);
  }

  /** A step that says whether there is none. */
  isEmpty(): PreemptStep<boolean> {
    return lookAtCell(this, 'look for done buffers', (all) => all.length === 0);
  }

  /** A step that forgets all. */
  clear(): PreemptStep<void> {
    return changeCell(this, 'forget done buffers', () => [[], undefined]);
  }
}
