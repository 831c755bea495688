/**
 * A schedule: who took each step. It prints as a short string, so that a run can be repeated from a
 * line in a report: `s1-` and base64url of pairs (actor, steps in a row).
 */

import { InputError } from '../base/index.ts';

/** The index of the actor that took each step, from the first step on. */
export type Schedule = readonly number[];

const PREFIX = 's1-';
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** LIMIT: steps in a schedule that is read; more than any run takes. */
const STEPS_MAX = 10_000_000;

/** Writes a schedule as a string. */
export function encodeSchedule(schedule: Schedule): string {
  const bytes: number[] = [];
  for (let i = 0; i < schedule.length;) {
    const actor = schedule[i] as number;
    let end = i + 1;
    while (schedule[end] === actor) end += 1;
    pushVarint(bytes, actor);
    pushVarint(bytes, end - i);
    i = end;
  }
  return PREFIX + toBase64Url(bytes);
}

/**
 * Reads a schedule.
 *
 * @param source - What the user called it, for the error.
 * @throws {@link InputError} it is not one.
 */
export function decodeSchedule(text: string, source: string): Schedule {
  if (!text.startsWith(PREFIX)) {
    throw new InputError(source, '', `a schedule begins with ${PREFIX}`);
  }
  const bytes = fromBase64Url(text.slice(PREFIX.length), source);
  const schedule: number[] = [];
  let at = 0;
  const next = (what: string): number => {
    let value = 0;
    for (let scale = 1; scale < 2 ** 36; scale *= 128) {
      const byte = bytes[at];
      at += 1;
      if (byte === undefined) throw new InputError(source, `byte ${at}`, `${what} is cut off`);
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new InputError(source, `byte ${at}`, `${what} is too large`);
  };
  while (at < bytes.length) {
    const actor = next('an actor');
    const count = next('a number of steps');
    if (count === 0 || schedule.length + count > STEPS_MAX) {
      throw new InputError(source, `byte ${at}`, `expected 1 to ${STEPS_MAX} steps in all`);
    }
    for (let i = 0; i < count; i += 1) schedule.push(actor);
  }
  return schedule;
}

function pushVarint(bytes: number[], value: number): void {
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
}

function toBase64Url(bytes: readonly number[]): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const [a = 0, b = 0, c = 0] = bytes.slice(i, i + 3);
    const word = (a << 16) | (b << 8) | c;
    const digits = Math.min(4, bytes.length - i + 1);
    for (let d = 0; d < digits; d += 1) text += ALPHABET[(word >> (18 - 6 * d)) & 0x3f];
  }
  return text;
}

function fromBase64Url(text: string, source: string): readonly number[] {
  const bytes: number[] = [];
  let word = 0;
  let bits = 0;
  for (const [i, letter] of [...text].entries()) {
    const digit = ALPHABET.indexOf(letter);
    if (digit < 0) {
      throw new InputError(
        source,
        `letter ${PREFIX.length + i + 1}`,
        `not of base64url: ${letter}`,
      );
    }
    word = ((word << 6) | digit) & 0xfff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((word >> bits) & 0xff);
  }
  // What is left over are the zero bits that fill the last letter up.
  if (bits >= 6 || (word & (2 ** bits - 1)) !== 0) {
    throw new InputError(source, `letter ${PREFIX.length + text.length}`, 'the end is cut off');
  }
  return bytes;
}
