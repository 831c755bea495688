/**
 * JSON text that people wrote. `JSON.parse` reads it, after a scan of our own that names line and
 * column of a mistake, whatever the engine would have said, and that refuses a field given twice,
 * of which `JSON.parse` silently takes the last.
 *
 * @source RFC 8259
 */

import { InputError } from '../../base/index.ts';

/**
 * LIMIT: a machine of 65,536 functions, pretty-printed and without `config`, is below this; so is
 * one of 6,000 with 4096 bytes of `config` each. Counted in UTF-16 units.
 */
export const JSON_LENGTH_MAX: number = 64 * 2 ** 20;

/** LIMIT: a machine nests five levels; deeper text is something else, and costs memory. */
const DEPTH_MAX = 32;
const SHOWN_MAX = 20;
const BYTE_ORDER_MARK = '\ufeff';

/**
 * Reads JSON text.
 *
 * @param source - Names the text in errors.
 * @throws {@link InputError} With `line 3 column 5` as its place, if the text is no JSON, is too
 *   long, nests too deep or gives a field twice.
 */
export function parseJson(text: string, source: string): unknown {
  if (text.length > JSON_LENGTH_MAX) {
    throw new InputError(
      source,
      '',
      `expected at most 64 MiB of JSON, got ${text.length} characters`,
    );
  }
  const bare = text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text;
  new Scanner(bare, source).scan();
  return JSON.parse(bare);
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const WORD = /true|false|null/y;
const BLANK = /[ \t\n\r]*/y;
const ESCAPE = /["\\/bfnrt]|u[0-9a-fA-F]{4}/y;

/** An array or object that is open; an object knows the fields it has. */
type Container = Set<string> | null;

/** Walks text that should be JSON, with a stack of its own so that depth costs no calls. */
class Scanner {
  readonly #text: string;
  readonly #source: string;
  readonly #open: Container[] = [];
  #at = 0;

  constructor(text: string, source: string) {
    this.#text = text;
    this.#source = source;
  }

  scan(): void {
    for (;;) {
      if (this.#value()) continue;
      if (this.#closeAndGoOn()) continue;
      this.#skip(BLANK);
      if (this.#at < this.#text.length) this.#fail('the end of the text');
      return;
    }
  }

  /** Takes a value. True if that opened a container which is not empty: a value is due again. */
  #value(): boolean {
    this.#skip(BLANK);
    const first = this.#text[this.#at];
    if (first === '{') return this.#openObject();
    if (first === '[') return this.#openArray();
    if (first === '"') this.#string();
    else if (!this.#skip(NUMBER) && !this.#skip(WORD)) this.#fail('a value');
    return false;
  }

  /** After a value: takes brackets that close. True if a comma follows: a value is due. */
  #closeAndGoOn(): boolean {
    while (this.#open.length > 0) {
      const fields = this.#open.at(-1) ?? null;
      this.#skip(BLANK);
      if (this.#take(',')) {
        if (fields !== null) this.#field(fields);
        return true;
      }
      const close = fields === null ? ']' : '}';
      if (!this.#take(close)) this.#fail(`"," or "${close}"`);
      this.#open.pop();
    }
    return false;
  }

  #openObject(): boolean {
    const fields = new Set<string>();
    this.#push(fields);
    this.#skip(BLANK);
    if (this.#take('}')) {
      this.#open.pop();
      return false;
    }
    this.#field(fields);
    return true;
  }

  #openArray(): boolean {
    this.#push(null);
    this.#skip(BLANK);
    if (!this.#take(']')) return true;
    this.#open.pop();
    return false;
  }

  #push(container: Container): void {
    if (this.#open.length === DEPTH_MAX) this.#fail(`at most ${DEPTH_MAX} levels of nesting`);
    this.#at += 1;
    this.#open.push(container);
  }

  /** Takes the name of a field and its colon. */
  #field(fields: Set<string>): void {
    this.#skip(BLANK);
    const start = this.#at;
    if (this.#text[start] !== '"') this.#fail('a field name in double quotes');
    this.#string();
    const quoted = this.#text.slice(start, this.#at);
    const name = quoted.includes('\\') ? String(JSON.parse(quoted)) : quoted.slice(1, -1);
    if (fields.has(name)) this.#failAt(start, 'each field once', `${shortened(quoted)} again`);
    fields.add(name);
    this.#skip(BLANK);
    if (!this.#take(':')) this.#fail('":"');
  }

  #string(): void {
    this.#at += 1;
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (Number.isNaN(code)) this.#fail('a closing quotation mark');
      if (code < 0x20) this.#fail('an escape such as \\n for a control character');
      this.#at += 1;
      if (code === 0x22) return;
      if (code === 0x5c && !this.#skip(ESCAPE)) this.#fail('an escape that JSON knows');
    }
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  /** Moves over what `pattern`, a sticky one, matches here. False if it matches nothing. */
  #skip(pattern: RegExp): boolean {
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.#text)) return false;
    this.#at = pattern.lastIndex;
    return true;
  }

  #fail(expected: string): never {
    const isEnd = this.#at >= this.#text.length;
    const rest = this.#text.slice(this.#at, this.#at + SHOWN_MAX + 1);
    const token = /^[\w.+-]+/.exec(rest)?.[0] ?? [...rest][0] ?? '';
    this.#failAt(this.#at, expected, isEnd ? 'the end of the text' : shortened(quote(token)));
  }

  #failAt(at: number, expected: string, got: string): never {
    const before = this.#text.slice(0, at);
    const line = before.split('\n').length;
    const column = at - before.lastIndexOf('\n');
    const place = `line ${line} column ${column}`;
    throw new InputError(this.#source, place, `expected ${expected}, got ${got}`);
  }
}

function quote(text: string): string {
  return JSON.stringify(text);
}

function shortened(quoted: string): string {
  return quoted.length > SHOWN_MAX + 2 ? `${quoted.slice(0, SHOWN_MAX)}…"` : quoted;
}
