/** Colours by what they mean; without colour, nothing. */

import pc from 'picocolors';

/** Changes how a text looks, not how wide it is. */
export type Paint = (text: string) => string;

/** What can be told apart. */
export interface Palette {
  readonly heading: Paint;
  /** Lines and numbers that one looks past. */
  readonly quiet: Paint;
  readonly note: Paint;
  readonly good: Paint;
  readonly refusal: Paint;
  readonly trouble: Paint;
}

/** The palette for output that may be coloured, or may not. */
export function paletteOf(color: boolean): Palette {
  const { bold, cyan, dim, green, red, yellow } = pc.createColors(color);
  return {
    heading: bold,
    quiet: dim,
    note: cyan,
    good: green,
    refusal: yellow,
    trouble: (text) => bold(red(text)),
  };
}
