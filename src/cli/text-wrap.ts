/** Text in columns: how wide it is, and how it breaks into lines. */

/** Letters and signs that take two columns: East Asian wide forms and pictures. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;
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
  const [head = ''] = breakWord(text, Math.max(width - 1, 0));
  return width < 1 ? '' : `${head}…`;
}

/** `text` and blanks behind it, `width` columns in all; longer text stays as it is. */
export function padText(text: string, width: number): string {
  return text + ' '.repeat(Math.max(width - textWidth(text), 0));
}

/**
 * Breaks `text` into lines of at most `width` columns: between words, else behind a sign such as
 * `-` or `:`, else anywhere.
 *
 * @returns At least one line, none with blanks around it.
 */
export function wrapText(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const piece of text.split(/(?<=\s)|(?<=[-/:;,+|])/u)) {
    if (textWidth((line + piece).trimEnd()) <= width) {
      line += piece;
      continue;
    }
    if (line.trim() !== '') lines.push(line.trim());
    const parts = breakWord(piece.trim(), Math.max(width, 1));
    lines.push(...parts.slice(0, -1));
    line = (parts.at(-1) ?? '') + (/\s$/u.test(piece) ? ' ' : '');
  }
  if (line.trim() !== '' || lines.length === 0) lines.push(line.trim());
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
  return WIDE.test(letter) ? 2 : 1;
}

/** Cuts a word into parts of at most `width` columns; a letter that is wider stands alone. */
function breakWord(word: string, width: number): readonly string[] {
  const parts: string[] = [];
  let part = '';
  let used = 0;
  for (const letter of word) {
    const more = letterWidth(letter);
    if (used + more > width && part !== '') {
      parts.push(part);
      part = '';
      used = 0;
    }
    part += letter;
    used += more;
  }
  return [...parts, part];
}
