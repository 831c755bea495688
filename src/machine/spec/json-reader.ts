/**
 * Reads JSON values into typed ones, and says exactly where and why a value will not do. A reader
 * is a function; readers of objects and lists are made of readers of what is inside.
 */

import { InputError } from '../../base/index.ts';

/** LIMIT: no string of a machine is longer than a line or two; configuration space has its own. */
export const TEXT_LENGTH_MAX = 4096;

const SHOWN_MAX = 40;
const SUGGESTION_DISTANCE_MAX = 2;
const HEX = /^(-?)0x([0-9a-f]+)$/i;
const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;

/** Where a value stands: a chain of names and indices, written out only if something is wrong. */
export class Place {
  readonly #source: string;
  readonly #above: Place | null;
  readonly #step: string | number;

  constructor(source: string, above: Place | null = null, step: string | number = '') {
    this.#source = source;
    this.#above = above;
    this.#step = step;
  }

  /** The place of a field or of an item of the value here. */
  inside(step: string | number): Place {
    return new Place(this.#source, this, step);
  }

  /** @throws {@link InputError} always. */
  fail(problem: string): never {
    throw new InputError(this.#source, this.toString(), problem);
  }

  /** @throws {@link InputError} always: `expected …, got …`. */
  refuse(expected: string, value: unknown): never {
    this.fail(`expected ${expected}, got ${show(value)}`);
  }

  /** `functions[3].bars[0].size`. */
  toString(): string {
    if (this.#above === null) return '';
    const above = this.#above.toString();
    if (typeof this.#step === 'number') return `${above}[${this.#step}]`;
    if (!IDENTIFIER.test(this.#step)) return `${above}[${show(this.#step)}]`;
    const name = shortened(this.#step);
    return above === '' ? name : `${above}.${name}`;
  }
}

/**
 * Turns a value at a place into a typed one, or throws an {@link InputError} that names the place.
 */
export type Read<T> = (value: unknown, at: Place) => T;

/** A field of an object: how it is read, and what stands for it if it is left out. */
export interface Field<T> {
  readonly read: Read<T>;
  readonly isRequired: boolean;
  /** Read in place of a field that is left out. */
  readonly fallback: unknown;
}

/** The fields of an object, by name. */
export type Fields<T> = { readonly [Name in keyof T]-?: Field<T[Name]> };

/** A field that must be there. */
export function required<T>(read: Read<T>): Field<T> {
  return { read, isRequired: true, fallback: undefined };
}

/** A field that may be left out; it then is as if `fallback`, a JSON value, stood there. */
export function optional<T>(read: Read<T>, fallback: unknown): Field<T> {
  return { read, isRequired: false, fallback };
}

/** Reads an object that has these fields and no others. */
export function readObject<T>(fields: Fields<T>): Read<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  return (value, at) => {
    const record = recordOf(value, at);
    for (const name of Object.keys(record)) {
      if (!Object.hasOwn(fields, name)) at.inside(name).fail(unknownField(name, names));
    }
    const result: Partial<T> = {};
    for (const name of names) {
      const { read, isRequired, fallback } = fields[name];
      const given = Object.hasOwn(record, name) ? record[name] : undefined;
      const place = at.inside(name);
      if (given === undefined && isRequired) place.fail('expected a value, got nothing');
      result[name] = read(given === undefined ? fallback : given, place);
    }
    return result as T;
  };
}

/** Reads a list of at most `max` items. */
export function readList<T>(read: Read<T>, max: number): Read<readonly T[]> {
  return (value, at) => {
    if (!Array.isArray(value)) return at.refuse('a list', value);
    if (value.length > max) {
      at.fail(`expected at most ${max} items, got ${value.length}`);
    }
    const items: T[] = [];
    for (let index = 0; index < value.length; index += 1) {
      items.push(read(value[index], at.inside(index)));
    }
    return items;
  };
}

/** Reads null, or what `read` reads. */
export function readNullable<T>(read: Read<T>): Read<T | null> {
  return (value, at) => (value === null ? null : read(value, at));
}

/** Reads an integer of `min` to `max`, written as a number or as a string such as `"0x8086"`. */
export function readInteger(min: number, max: number): Read<number> {
  const range = max >= 2 ** 32 ? `${showBound(min)} to ${showBound(max)}` : `${min} to ${max}`;
  return (value, at) => {
    const number = numberOf(value);
    if (number === null || !Number.isInteger(number) || number < min || number > max) {
      return at.refuse(`an integer of ${range}, or one in hexadecimal such as "0x1f"`, value);
    }
    return number + 0;
  };
}

/** Reads one of these values. */
export function readOneOf<T extends string | number>(choices: readonly T[]): Read<T> {
  return (value, at) => {
    const found = choices.find((choice) => choice === value);
    return found ?? at.refuse(`one of ${choices.map(show).join(', ')}`, value);
  };
}

/** Reads true or false. */
export function readBoolean(value: unknown, at: Place): boolean {
  return typeof value === 'boolean' ? value : at.refuse('true or false', value);
}

/** Reads a string without control characters, of at most {@link TEXT_LENGTH_MAX} characters. */
export function readText(value: unknown, at: Place): string {
  if (typeof value !== 'string') return at.refuse('a string', value);
  if (value.length > TEXT_LENGTH_MAX) {
    at.fail(`expected at most ${TEXT_LENGTH_MAX} characters, got ${value.length}`);
  }
  return /\p{Cc}/u.test(value) ? at.refuse('a single line', value) : value;
}

/** A value in an error message: short, and on one line. */
export function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value === 'string') return shortened(JSON.stringify(value));
  if (typeof value === 'function' || typeof value === 'symbol') return `a ${typeof value}`;
  return String(value);
}

function recordOf(value: unknown, at: Place): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return at.refuse('an object', value);
  }
  return value as Readonly<Record<string, unknown>>;
}

function numberOf(value: unknown): number | null {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string' || value.length > TEXT_LENGTH_MAX) return null;
  const match = HEX.exec(value);
  if (match === null) return null;
  const magnitude = Number.parseInt(match[2] ?? '', 16);
  return match[1] === '-' ? -magnitude : magnitude;
}

function showBound(bound: number): string {
  return bound < 0 ? `-0x${(-bound).toString(16)}` : `0x${bound.toString(16)}`;
}

function shortened(text: string): string {
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text;
}

function unknownField(name: string, known: readonly string[]): string {
  let nearest: string | null = null;
  let least = SUGGESTION_DISTANCE_MAX + 1;
  for (const candidate of known) {
    const distance = editDistance(name, candidate);
    if (distance >= least) continue;
    least = distance;
    nearest = candidate;
  }
  return nearest === null ? 'unknown field' : `unknown field; did you mean "${nearest}"?`;
}

/**
 * Insertions, deletions and replacements that make `one` of `other`; or more than is worth a hint.
 */
function editDistance(one: string, other: string): number {
  if (Math.abs(one.length - other.length) > SUGGESTION_DISTANCE_MAX)
    return Number.POSITIVE_INFINITY;
  let previous = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let row = 1; row <= one.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= other.length; column += 1) {
      const replaced = (previous[column - 1] ?? 0) + (one[row - 1] === other[column - 1] ? 0 : 1);
      const shifted = Math.min(previous[column] ?? 0, current[column - 1] ?? 0) + 1;
      current.push(Math.min(replaced, shifted));
    }
    previous = current;
  }
  return previous[other.length] ?? 0;
}
