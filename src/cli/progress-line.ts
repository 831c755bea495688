/** One line that is drawn again and again while something takes long; only where a person looks. */

import type { CliContext } from './context.ts';
import { cutText } from './text-wrap.ts';

/** Back to the first column, and the line away. */
const CLEAR = '\r\u001b[2K';

/** The line. */
export class ProgressLine {
  readonly #context: CliContext;
  readonly #isWanted: boolean;
  #isShown = false;

  /** @param isWanted - False where only data may be printed. */
  constructor(context: CliContext, isWanted: boolean) {
    this.#context = context;
    this.#isWanted = isWanted && context.isTerminal;
  }

  /** Draws it anew. */
  show(text: string): void {
    const { stdout, columns } = this.#context;
    if (!this.#isWanted) return;
    stdout(CLEAR + cutText(text, columns - 1));
    this.#isShown = true;
  }

  /** Takes it away, before anything else is printed. */
  clear(): void {
    if (this.#isShown) this.#context.stdout(CLEAR);
    this.#isShown = false;
  }
}
