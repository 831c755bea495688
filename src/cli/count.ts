/** Numbers on the command line. */

import { InputError } from '../base/index.ts';

/**
 * Reads a whole number.
 *
 * @param text - What the user typed.
 * @param flag - Where, for the error: `--seed`.
 * @returns An integer of `min` to `max`.
 * @throws {@link InputError} It is none: digits only, no sign, no exponent.
 */
export function readCount(text: string, flag: string, min: number, max: number): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max && Number.isSafeInteger(value)) return value;
  throw new InputError(flag, '', `expected an integer of ${min} to ${max}, got ${quoted(text)}`);
}

/** What the user typed, for an error: on one line and not too long. */
export function quoted(text: string): string {
  const LENGTH_MAX = 60;
  const line = JSON.stringify(text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?'));
  return line.length <= LENGTH_MAX ? line : `${line.slice(0, LENGTH_MAX)}…"`;
}
