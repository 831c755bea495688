/**
 * The output of `lspci`, cut into functions: slot line, details, hex dump. What the details mean is
 * the business of `lspci-fields.ts`.
 *
 * @source reference/p2p-topology.md 3.4
 */

import { InputError } from '../base/index.ts';
import { type Bdf, formatBdf, parseBdf } from '../machine/index.ts';
import { oneLine } from './one-line.ts';

/** LIMIT: characters of one text. A thousand functions with full dumps are 20 million. */
export const LSPCI_TEXT_MAX: number = 64 * 2 ** 20;
/** LIMIT: functions of one machine; more than a full domain holds. */
const FUNCTIONS_MAX = 65_536;
/** LIMIT: lines of one text; a function with everything has 400. */
const LINES_MAX = 4_000_000;
/** LIMIT: characters of a line that are looked at; the longest real ones stay below 300. */
const LINE_MAX = 1024;
/** LIMIT: detail lines of one function; a full `-vvv` has about 150. */
const DETAILS_MAX = 4096;
/** All of configuration space. */
const CONFIG_SIZE_MAX = 4096;
const BYTES_PER_LINE = 16;

/** The line that begins a function, with any of the options that print for people. */
const SLOT_LINE = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (\S[^:]*: .*)$/i;
const HEX_LINE = /^([0-9a-f]{2,3}): ((?:[0-9a-f]{2} ){0,15}[0-9a-f]{2})$/i;

/** One function as `lspci` prints it. */
export interface LspciFunction {
  readonly bdf: Bdf;
  /** Number of its slot line, from 1. */
  readonly line: number;
  /** The slot line behind the address: class, vendor and device. */
  readonly title: string;
  /** The lines below, without indentation. */
  readonly details: readonly string[];
  /** The hex dump from byte 0 on, as far as it has no gap; empty without one. */
  readonly config: Uint8Array;
}

/** True if some line of `text` begins a function. */
export function hasSlotLine(text: string): boolean {
  for (const { text: line } of linesOf(text)) {
    if (beginFunction(line, 0) !== null) return true;
  }
  return false;
}

/**
 * Cuts `text` into functions, in the order of the text. Lines before the first one and behind
 * the empty line that ends one are ignored: reports hold more than this listing.
 *
 * @throws {@link InputError} if there is no function, one appears twice, or a limit is exceeded.
 */
export function parseLspciText(text: string, source: string): readonly LspciFunction[] {
  if (text.length > LSPCI_TEXT_MAX) {
    throw new InputError(
      source,
      '',
      `expected at most ${LSPCI_TEXT_MAX} characters of lspci output`,
    );
  }
  const functions: OpenFunction[] = [];
  const seen = new Set<string>();
  for (const { text: line, number } of linesOf(text)) {
    if (number > LINES_MAX) {
      throw new InputError(source, `line ${number}`, `expected at most ${LINES_MAX} lines`);
    }
    const begun = beginFunction(line, number);
    if (begun === null) {
      functions.at(-1)?.add(line, source);
      continue;
    }
    const address = formatBdf(begun.bdf);
    if (seen.has(address)) {
      throw new InputError(source, `line ${number}`, `expected ${address} only once`);
    }
    if (functions.length === FUNCTIONS_MAX) {
      throw new InputError(source, `line ${number}`, `expected at most ${FUNCTIONS_MAX} functions`);
    }
    seen.add(address);
    functions.push(begun);
  }
  if (functions.length === 0) {
    const first = oneLine(text.trimStart().split('\n', 1)[0] ?? '');
    throw new InputError(source, '', `expected the output of lspci -vvv, found '${first}'`);
  }
  return functions;
}

/** A function whose lines are still coming. */
class OpenFunction implements LspciFunction {
  readonly bdf: Bdf;
  readonly line: number;
  readonly title: string;
  readonly details: string[] = [];
  private readonly bytes: number[] = [];
  /** True behind an empty line, which ends the text about a function. */
  private isClosed = false;

  constructor(bdf: Bdf, line: number, title: string) {
    this.bdf = bdf;
    this.line = line;
    this.title = title;
  }

  get config(): Uint8Array {
    return Uint8Array.from(this.bytes);
  }

  add(line: string, source: string): void {
    const hex = HEX_LINE.exec(line);
    if (hex !== null) {
      this.addHex(Number.parseInt(hex[1] ?? '', 16), hex[2] ?? '');
      return;
    }
    const detail = line.trim();
    if (detail === '') this.isClosed = true;
    if (this.isClosed) return;
    if (this.details.length === DETAILS_MAX) {
      const problem = `expected at most ${DETAILS_MAX} lines about one function`;
      throw new InputError(source, formatBdf(this.bdf), problem);
    }
    this.details.push(detail);
  }

  private addHex(offset: number, text: string): void {
    if (offset !== this.bytes.length || offset % BYTES_PER_LINE !== 0) return;
    if (offset >= CONFIG_SIZE_MAX) return;
    for (const byte of text.split(' ')) this.bytes.push(Number.parseInt(byte, 16));
  }
}

function beginFunction(line: string, number: number): OpenFunction | null {
  const slot = SLOT_LINE.exec(line);
  const bdf = parseBdf((slot?.[1] ?? '').toLowerCase());
  return slot === null || bdf === null ? null : new OpenFunction(bdf, number, slot[2] ?? '');
}

/** The lines of a text one by one, without their ends; long ones cut. */
function* linesOf(text: string): Generator<{ readonly text: string; readonly number: number }> {
  let start = 0;
  for (let number = 1; start < text.length; number += 1) {
    const found = text.indexOf('\n', start);
    const end = found < 0 ? text.length : found;
    const line = text.slice(start, Math.min(end, start + LINE_MAX)).replace(/\s+$/, '');
    yield { text: line, number };
    start = end + 1;
  }
}
