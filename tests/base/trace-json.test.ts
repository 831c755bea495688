import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  InputError,
  parseTrace,
  TRACE_EVENTS_MAX,
  TRACE_LINE_CHARACTERS_MAX,
  TRACE_NESTING_MAX,
  TRACE_SCHEMA,
  TRACE_TEXT_CHARACTERS_MAX,
  type TraceEvent,
  traceLine,
  traceToJsonLines,
} from '../../src/base/index.ts';
import { TRACE_FIELDS } from '../../src/base/trace-fields.ts';
import { arbitraryTrace, EVERY_KIND, RUN_BEGIN, traceOf, WIDE } from './trace-samples.ts';

const BEGIN = traceToJsonLines(traceOf([RUN_BEGIN]));
const STAMP_FIELDS = ['seq', 'step', 't', 'task', 'kind'];

/** What the reader says of a text that it must refuse. */
function refusal(text: string): string {
  try {
    parseTrace(text, 'a.jsonl');
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return (error as InputError).message;
  }
  return expect.fail('the text was read');
}

/** The text is read or refused in one line; nothing else happens. True if it was read. */
function isReadOrRefused(text: string): boolean {
  let events: TraceEvent[];
  try {
    events = parseTrace(text, 'a.jsonl');
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    expect((error as InputError).message).toMatch(/^a\.jsonl: .+$/u);
    return false;
  }
  expect(parseTrace(traceToJsonLines(events), 'again')).toEqual(events);
  return true;
}

/** The second line after `run.begin`, with some fields changed or, if undefined, left out. */
function line(fields: Readonly<Record<string, unknown>>): string {
  const event = { seq: 1, step: 0, t: 0, task: '', kind: 'buffer.get', buffer: 1 };
  return `${BEGIN}${JSON.stringify({ ...event, ...fields })}\n`;
}

describe('the sample trace', () => {
  test('has every kind of event', () => {
    const kinds = new Set(EVERY_KIND.map((event) => event.kind));
    expect([...kinds].sort()).toEqual(Object.keys(TRACE_FIELDS).sort());
  });
});

describe('traceLine', () => {
  test('puts the stamp first and keeps the order of the body', () => {
    const event: TraceEvent = {
      size: 9,
      t: 3,
      kind: 'cache.clean',
      task: 'a',
      phys: 8,
      step: 2,
      seq: 1,
    };
    expect(traceLine(event)).toBe(
      '{"seq":1,"step":2,"t":3,"task":"a","kind":"cache.clean","size":9,"phys":8}',
    );
  });

  test('is one line whatever stands in the texts', () => {
    const [event] = traceOf([{ kind: 'story.note', text: 'a\nb\r\u2028\ud800' }]);
    expect(traceLine(event as TraceEvent)).not.toContain('\n');
  });

  test('gives the same bytes for the same trace', () => {
    expect(traceToJsonLines(structuredClone(EVERY_KIND))).toBe(traceToJsonLines(EVERY_KIND));
    expect(traceToJsonLines([])).toBe('');
  });
});

describe('parseTrace', () => {
  test('reads back an event of every kind', () => {
    expect(parseTrace(traceToJsonLines(EVERY_KIND), 'a.jsonl')).toEqual(EVERY_KIND);
  });

  test('reads back any trace', () => {
    fc.assert(
      fc.property(arbitraryTrace(WIDE), (trace) => {
        const text = traceToJsonLines(trace);
        const events = parseTrace(text, 'a.jsonl');
        expect(events).toEqual(trace);
        expect(traceToJsonLines(events)).toBe(text);
      }),
      { numRuns: 300 },
    );
  });

  test('takes CR LF, a missing last newline and one blank last line', () => {
    const text = traceToJsonLines(EVERY_KIND);
    for (const variant of [
      text.replaceAll('\n', '\r\n'),
      text.slice(0, -1),
      `${text}\n`,
      `${text} `,
    ]) {
      expect(parseTrace(variant, 'a.jsonl')).toEqual(EVERY_KIND);
    }
  });

  test('refuses a trace of another schema and names both', () => {
    const other = BEGIN.replace(TRACE_SCHEMA, 'peerbuf.trace/2');
    expect(refusal(other)).toBe(
      'a.jsonl: line 1: expected a trace of schema "peerbuf.trace/1", found "peerbuf.trace/2"',
    );
  });

  test.each([
    ['', 'a.jsonl: line 1: expected a run.begin event, found nothing'],
    ['\n', 'a.jsonl: line 1: expected a JSON object, found ""'],
    ['hello', 'a.jsonl: line 1: expected a JSON object, found "hello"'],
    [
      BEGIN.slice(0, 20),
      'a.jsonl: line 1: expected a JSON object, found "{\\"seq\\":0,\\"step\\":0,\\"',
    ],
    [`${BEGIN}[]`, 'a.jsonl: line 2: expected a JSON object, found []'],
    [`${BEGIN}null`, 'a.jsonl: line 2: expected a JSON object, found null'],
    [`${BEGIN}\n${BEGIN}`, 'a.jsonl: line 2: expected a JSON object, found ""'],
    [`${BEGIN}\n\n`, 'a.jsonl: line 2: expected a JSON object, found ""'],
    [`${BEGIN}${BEGIN}`, 'a.jsonl: line 2: expected seq to be 1, found 0'],
    [
      line({}).slice(BEGIN.length).replace('"seq":1', '"seq":0'),
      'a.jsonl: line 1: expected a trace to start with run.begin, found "buffer.get"',
    ],
    [line({ seq: 2 }), 'a.jsonl: line 2: expected seq to be 1, found 2'],
    [
      line({ step: -1 }),
      'a.jsonl: line 2: expected step to be an integer of 0 to 2^53-1, found -1',
    ],
    [line({ t: 0.5 }), 'a.jsonl: line 2: expected t to be an integer of 0 to 2^53-1, found 0.5'],
    [line({ t: 2 ** 53 }), /expected t to be .+ found 9007199254740992$/],
    [
      line({ t: 0 }).replace('"t":0,"task":"","kind":"buf', '"t":1e999,"task":"","kind":"buf'),
      /found Infinity$/,
    ],
    [line({ task: null }), 'a.jsonl: line 2: expected task to be a string, found null'],
    [line({ kind: 'buffer.lose' }), /expected a known kind of event, found "buffer.lose"$/],
    [line({ kind: 'toString' }), /expected a known kind of event, found "toString"$/],
    [line({ kind: '__proto__' }), /expected a known kind of event, found "__proto__"$/],
    [line({ kind: undefined }), /expected a known kind of event, found nothing$/],
    [
      line({ buffer: '1' }),
      'a.jsonl: line 2: buffer.get: expected buffer to be an integer of 0 to 2^53-1, found "1"',
    ],
    [line({ size: 1 }), 'a.jsonl: line 2: buffer.get: expected no field "size"'],
  ])('refuses %j', (text, problem) => {
    expect(refusal(text)).toMatch(
      problem instanceof RegExp ? problem : new RegExp(`^${escaped(problem)}`),
    );
  });

  test('refuses steps and time that run backwards', () => {
    const [begin, event] = traceOf([
      { ...RUN_BEGIN, step: 5, t: 9 },
      { kind: 'buffer.get', buffer: 1 },
    ]);
    const first = traceLine(begin as TraceEvent);
    const next = traceLine(event as TraceEvent);
    expect(refusal(`${first}\n${next.replace('"step":5', '"step":4')}`)).toMatch(
      /line 2: expected step to be an integer of 5 to 2\^53-1, found 4$/,
    );
    expect(refusal(`${first}\n${next.replace('"t":9', '"t":8')}`)).toMatch(
      /line 2: expected t to be an integer of 9 to 2\^53-1, found 8$/,
    );
  });

  test('shows a long value cut', () => {
    expect(refusal(line({ buffer: 'x'.repeat(1000) })).length).toBeLessThan(200);
  });

  test('refuses ranges and details of the wrong shape', () => {
    const map = {
      kind: 'attachment.map',
      attachment: 1,
      buffer: 1,
      device: 'd',
      direction: 'to-device',
    };
    for (const entries of [{}, [null], [{ address: 1 }], [{ address: 1, length: -1 }]]) {
      expect(refusal(line({ ...map, entries }))).toMatch(/expected entries to be an array of/);
    }
    const extra = [{ address: 1, length: 1, x: 1 }];
    expect(refusal(line({ ...map, entries: extra }))).toMatch(/expected entries to be an array of/);
  });
});

describe('every field of every kind', () => {
  /** The text up to an event, and that event with some fields changed. */
  function changed(index: number, fields: Readonly<Record<string, unknown>>): string {
    const before = traceToJsonLines(EVERY_KIND.slice(0, index));
    return `${before}${JSON.stringify({ ...EVERY_KIND[index], ...fields })}\n`;
  }

  const fields = EVERY_KIND.flatMap((event, index) =>
    Object.keys(event)
      .filter((name) => !STAMP_FIELDS.includes(name))
      .map((name) => ({ index, kind: event.kind, name })),
  ).slice(4);

  test('is required, but for the context of a lock', () => {
    for (const { index, kind, name } of fields) {
      const text = changed(index, { [name]: undefined });
      if (name === 'ctx' && kind === 'lock.acquire') expect(isReadOrRefused(text)).toBe(true);
      else expect(refusal(text)).toContain(`${kind}: expected ${name} to be`);
    }
  });

  test('has the type that its kind says', () => {
    for (const { index, kind, name } of fields) {
      for (const wrong of [Number.MAX_VALUE, [1], [], {}, 'no such word', true, null]) {
        const event = { ...EVERY_KIND[index] } as Readonly<Record<string, unknown>>;
        if (typeOf(wrong) === typeOf(event[name]) && !isWord(kind, name)) continue;
        if (kind === 'task.end' && typeof wrong === 'string') continue;
        if (kind === 'task.end' && wrong === null) continue;
        if (typeOf(event[name]) === 'number' && wrong === Number.MAX_VALUE) continue;
        expect(refusal(changed(index, { [name]: wrong }))).toContain(`expected ${name} to be`);
      }
    }
  });

  test('is the only one there', () => {
    for (const index of EVERY_KIND.keys()) {
      expect(refusal(changed(index, { more: 1 }))).toMatch(/: expected no field "more"$/);
    }
  });
});

describe('limits', () => {
  test('a line is at most 1 MiB', () => {
    const lineOf = (extra: number): string => {
      const empty = line({ kind: 'story.note', buffer: undefined, text: '' });
      const room = TRACE_LINE_CHARACTERS_MAX - (empty.length - BEGIN.length - 1);
      return line({ kind: 'story.note', buffer: undefined, text: 'x'.repeat(room + extra) });
    };
    expect(isReadOrRefused(lineOf(0))).toBe(true);
    expect(refusal(lineOf(1))).toBe(
      'a.jsonl: line 2: expected at most 1048576 characters, found 1048577',
    );
  });

  test('a text has at most five million events', () => {
    const text = '\n'.repeat(TRACE_EVENTS_MAX + 2);
    expect(refusal(text)).toBe('a.jsonl: line 5000002: expected at most 5000000 events');
  });

  test('a text has at most 400 Mi characters', () => {
    const text = ' '.repeat(TRACE_TEXT_CHARACTERS_MAX + 1);
    expect(refusal(text)).toBe('a.jsonl: expected at most 419430400 characters, found 419430401');
  });

  test('objects and arrays nest at most 64 deep', () => {
    const nested = (depth: number): string => {
      const detail = `{"a":${'['.repeat(depth - 2)}${']'.repeat(depth - 2)}}`;
      const refused = { call: 'c', code: 'EINVAL', reason: 'r', device: 'd', detail: 0 };
      return line({ kind: 'attachment.refuse', ...refused }).replace(
        '"detail":0',
        `"detail":${detail}`,
      );
    };
    expect(isReadOrRefused(nested(TRACE_NESTING_MAX))).toBe(true);
    expect(refusal(nested(TRACE_NESTING_MAX + 1))).toMatch(/line 2: expected at most 64 objects/);
    expect(refusal('['.repeat(TRACE_LINE_CHARACTERS_MAX))).toMatch(/line 1: expected at most 64/);
    expect(refusal('{"a":'.repeat(200_000))).toMatch(/line 1: expected at most 64/);
  });

  test('objects beside each other do not nest', () => {
    const entries = Array.from({ length: 1000 }, () => ({ address: 0, length: 1 }));
    const map = { attachment: 1, device: 'd', direction: 'to-device', entries };
    expect(isReadOrRefused(line({ kind: 'attachment.map', ...map }))).toBe(true);
  });

  test('brackets in a text do not nest', () => {
    const text = `\\"${'[{'.repeat(100)}\\`;
    expect(isReadOrRefused(line({ kind: 'story.note', buffer: undefined, text }))).toBe(true);
  });
});

describe('broken input', () => {
  test('of any text is read or refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
        isReadOrRefused(text);
        isReadOrRefused(`${BEGIN}${text}`);
      }),
      { numRuns: 500 },
    );
  });

  test('of any JSON is read or refused', () => {
    fc.assert(
      fc.property(fc.array(fc.json(), { maxLength: 4 }), (lines) => {
        isReadOrRefused(lines.join('\n'));
        isReadOrRefused(`${BEGIN}${lines.join('\n')}`);
      }),
      { numRuns: 500 },
    );
  });

  test('of a cut file is read only up to a whole line', () => {
    const text = traceToJsonLines(EVERY_KIND);
    const ends = new Set<number>();
    for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) ends.add(at);
    for (let length = 0; length <= text.length; length += 1) {
      const isWhole = ends.has(length) || ends.has(length - 1);
      expect(isReadOrRefused(text.slice(0, length)), `cut at ${length}`).toBe(isWhole);
    }
  });

  test('of a file with flipped bits is read or refused', () => {
    const text = traceToJsonLines(EVERY_KIND);
    const flip = fc.record({ at: fc.nat(text.length - 1), bit: fc.nat(7) });
    fc.assert(
      fc.property(fc.array(flip, { minLength: 1, maxLength: 3 }), (flips) => {
        let broken = text;
        for (const { at, bit } of flips) {
          const code = broken.charCodeAt(at) ^ (1 << bit);
          broken = `${broken.slice(0, at)}${String.fromCharCode(code)}${broken.slice(at + 1)}`;
        }
        isReadOrRefused(broken);
      }),
      { numRuns: 2000 },
    );
  });

  test('of an event with any value in a field is read or refused', () => {
    const index = fc.nat(EVERY_KIND.length - 1);
    fc.assert(
      fc.property(index, fc.nat(9), fc.jsonValue(), (at, field, value) => {
        const names = Object.keys(EVERY_KIND[at] as TraceEvent);
        const name = names[field % names.length] as string;
        const before = traceToJsonLines(EVERY_KIND.slice(0, at));
        isReadOrRefused(`${before}${JSON.stringify({ ...EVERY_KIND[at], [name]: value })}`);
      }),
      { numRuns: 2000 },
    );
  });
});

function typeOf(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  return value === null ? 'null' : typeof value;
}

/** True for fields that hold one of a few words. */
function isWord(kind: string, name: string): boolean {
  const words = ['role', 'mode', 'phase', 'direction', 'result', 'access'];
  return words.includes(name) || (kind === 'lock.backoff' && name === 'code');
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}
