/** The results of many executions, told in few lines. */

/** Results that differ in numbers only, as one. */
export interface ResultGroup {
  /** `restored; 1–4 of 4 writes were refused meanwhile`. */
  readonly text: string;
  readonly count: number;
}

/** A story's own words for "the kernel said no", as `concludeRefusal` chooses them. */
const REFUSED = /^refused with (E[A-Z0-9]+): (.*)$/s;

/** A number that stands by itself, and is no part of an address. */
const NUMBER = /(?<![\w.:])\d{1,15}(?![\w:])/g;

/** The errno and the reason of a result that is a refusal; null for any other. */
export function refusedResult(
  text: string,
): { readonly code: string; readonly reason: string } | null {
  const [, code, reason] = REFUSED.exec(text) ?? [];
  return code === undefined || reason === undefined ? null : { code, reason };
}

/** Puts results together that differ in numbers only; the most frequent first. */
export function groupResults(results: ReadonlyMap<string, number>): readonly ResultGroup[] {
  const groups = new Map<string, { count: number; readonly texts: string[] }>();
  for (const [text, count] of results) {
    const form = text.replace(NUMBER, '\0');
    const group = groups.get(form) ?? { count: 0, texts: [] };
    groups.set(form, group);
    group.count += count;
    group.texts.push(text);
  }
  return [...groups.values()]
    .map(({ count, texts }) => ({ text: inRanges(texts), count }))
    .sort((one, other) => other.count - one.count);
}

/** One text for all, with `1–4` where their numbers differ. */
function inRanges(texts: readonly string[]): string {
  const [first = ''] = texts;
  const numbers = texts.map((text) => (text.match(NUMBER) ?? []).map(Number));
  let at = 0;
  return first.replace(NUMBER, () => {
    const values = numbers.map((row) => row[at] ?? 0);
    at += 1;
    const low = values.reduce((one, other) => Math.min(one, other));
    const high = values.reduce((one, other) => Math.max(one, other));
    return low === high ? String(low) : `${low}–${high}`;
  });
}
