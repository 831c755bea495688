/** Text in columns: how wide it is, and how it breaks into lines. */

/** East Asian letters and signs that take two columns. */
const WIDE_LETTER =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]/u;
/** Pictures, and the rarer ideographs. */
const WIDE_PICTURE = /[\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;
const NARROWEST = /[\p{M}\p{Cf}]/u;

/** Columns that `text` takes on a terminal, never fewer than it does. */
export function textWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const letter of text) width += letterWidth(letter);
  return width;
}

/** `text`, with control characters shown as blanks: a terminal must not obey foreign text. */
export function plainText(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ');
}

/** `text` in at most `width` columns; what is cut off shows as `…`. */
export function cutText(text: string, width: number): string {
  if (textWidth(text) <= width) return text;
  let head = '';
  for (const letter of text) {
    if (textWidth(head + letter) >= width) break;
    head += letter;
  }
  return width < 1 ? '' : `${head}…`;
}

/** `text` and blanks behind it, `width` columns in all; longer text stays as it is. */
export function padText(text: string, width: number): string {
  return text + ' '.repeat(Math.max(width - textWidth(text), 0));
}

/**
 * Breaks `text` into lines of at most `width` columns: between words; a word that fills more than a
 * line behind a sign such as `-` or `:`, else anywhere.
 *
 * @returns At least one line, none with blanks around it.
 */
export function wrapText(text: string, width: number): readonly string[] {
  const room = Math.max(width, 1);
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/u)) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (textWidth(longer) <= room) {
      line = longer;
      continue;
    }
    if (line !== '') lines.push(line);
    const parts = breakWord(word, room);
    lines.push(...parts.slice(0, -1));
    line = parts.at(-1) ?? '';
  }
  if (line !== '' || lines.length === 0) lines.push(line);
  return lines;
}

/** Paragraph of `text`: lines of at most `width` columns, each behind `indent`. */
export function paragraph(text: string, width: number, indent = ''): string {
  return wrapText(plainText(text), Math.max(width - indent.length, 1))
    .map((line) => `${indent}${line}\n`)
    .join('');
}

function letterWidth(letter: string): number {
  if (NARROWEST.test(letter)) return 0;
  return WIDE_LETTER.test(letter) || WIDE_PICTURE.test(letter) ? 2 : 1;
}

/** Cuts a word into parts of at most `width` columns, behind signs where there are any. */
function breakWord(word: string, width: number): readonly string[] {
  const parts: string[] = [];
  let part = '';
  for (const piece of word.split(/(?<=[-/:;,+|])/u)) {
    if (textWidth(part + piece) <= width) {
      part += piece;
      continue;
    }
    if (part !== '') parts.push(part);
    const cuts = cutLetters(piece, width);
    parts.push(...cuts.slice(0, -1));
    part = cuts.at(-1) ?? '';
  }
  return [...parts, part];
}

/** Cuts anywhere; a letter that is wider than `width` stands alone. */
function cutLetters(word: string, width: number): readonly string[] {
  const parts: string[] = [];
  let part = '';
  for (const letter of word) {
    if (part !== '' && textWidth(part + letter) > width) {
      parts.push(part);
      part = '';
    }
    part += letter;
  }
  return [...parts, part];
}
