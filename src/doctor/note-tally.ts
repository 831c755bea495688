/**
 * Collects what a reader had to assume, so that one cause gives one sentence however often it met
 * it.
 */

/** LIMIT: different sentences; a capture that is all wrong need not say so a thousand times. */
const SENTENCES_MAX = 100;

/** Sentences, each with the functions that it is about. */
export class NoteTally {
  private readonly sentences = new Map<string, { first: string; last: string; count: number }>();
  private left = 0;

  /**
   * @param about - Address of a function.
   * @param what - What was assumed about it: a clause without full stop.
   */
  add(about: string, what: string): void {
    const known = this.sentences.get(what);
    if (known === undefined) {
      if (this.sentences.size === SENTENCES_MAX) this.left += 1;
      else this.sentences.set(what, { first: about, last: about, count: 1 });
    } else if (known.last !== about) {
      known.last = about;
      known.count += 1;
    }
  }

  /** The notes, in the order of first occurrence. */
  notes(): string[] {
    const notes = [...this.sentences].map(([what, { first, count }]) =>
      count === 1 ? `${first}: ${what}.` : `${first} and ${count - 1} more: ${what}.`,
    );
    if (this.left > 0) notes.push(`${this.left} more remarks of other kinds are left out.`);
    return notes;
  }
}
