/** Goal: mistakes in JSON text are named by line and column. Method: examples, and `JSON.parse`. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import { JSON_LENGTH_MAX, parseJson } from '../../src/machine/spec/json-text.ts';

function messageOf(text: string): string {
  try {
    parseJson(text, 'box.json');
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  return 'no error';
}

describe('JSON text', () => {
  test('reads as JSON.parse reads it', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), fc.constantFrom('', '\ufeff'), (text, mark) => {
        expect(parseJson(mark + text, 'x')).toEqual(JSON.parse(text));
      }),
    );
  });

  test('that was damaged is refused if JSON.parse refuses it, and only then', () => {
    const damage = fc.record({
      at: fc.nat(),
      remove: fc.nat({ max: 2 }),
      insert: fc.oneof(
        fc.string({ maxLength: 2 }),
        fc.constantFrom('{', '}', '[', ']', ',', ':', '"', '\\', '-', '0', '.', 'e', 'null', '\n'),
      ),
    });
    fc.assert(
      fc.property(fc.json({ maxDepth: 3 }), damage, (whole, { at, remove, insert }) => {
        const place = at % (whole.length + 1);
        const text = whole.slice(0, place) + insert + whole.slice(place + remove);
        const message = messageOf(text);
        if (message.includes('each field once')) return;
        let isJson = true;
        try {
          JSON.parse(text);
        } catch {
          isJson = false;
        }
        expect([text, message === 'no error']).toEqual([text, isJson]);
      }),
      { numRuns: 5000 },
    );
  });

  test.each([
    ['', 'line 1 column 1: expected a value, got the end of the text'],
    ['{\n  "a": 1,\n}', 'line 3 column 1: expected a field name in double quotes, got "}"'],
    ['{\n  "a": 1\n  "b": 2\n}', 'line 3 column 3: expected "," or "}", got "\\""'],
    ['[1, 2', 'line 1 column 6: expected "," or "]", got the end of the text'],
    ['{"a" 1}', 'line 1 column 6: expected ":", got "1"'],
    ["{'a': 1}", 'line 1 column 2: expected a field name in double quotes, got "\'"'],
    ['[undefined]', 'line 1 column 2: expected a value, got "undefined"'],
    ['[0x10]', 'line 1 column 3: expected "," or "]", got "x10"'],
    ['[1] // end', 'line 1 column 5: expected the end of the text, got "/"'],
    ['"a', 'line 1 column 3: expected a closing quotation mark, got the end of the text'],
    [
      '"a\nb"',
      'line 1 column 3: expected an escape such as \\n for a control character, got "\\n"',
    ],
    ['"\\x41"', 'line 1 column 3: expected an escape that JSON knows, got "x41"'],
    ['{"a": 1, "\\u0061": 2}', 'line 1 column 10: expected each field once, got "\\u0061" again'],
    [`[${'a'.repeat(99)}]`, `line 1 column 2: expected a value, got "${'a'.repeat(19)}…"`],
    ['\ufeff\n!', 'line 2 column 1: expected a value, got "!"'],
  ])('%j is refused', (text, message) => {
    expect(messageOf(text)).toBe(`box.json: ${message}`);
  });

  test('may nest 32 levels and not more, however many there are', () => {
    expect(messageOf('['.repeat(32) + ']'.repeat(32))).toBe('no error');
    const message = 'box.json: line 1 column 33: expected at most 32 levels of nesting, got "["';
    expect(messageOf('['.repeat(33))).toBe(message);
    expect(messageOf('['.repeat(1_000_000))).toBe(message);
    expect(messageOf('{"a":'.repeat(1_000_000))).toContain('at most 32 levels of nesting');
  });

  test('may be 64 Mi characters long and not longer', () => {
    const message = messageOf(' '.repeat(JSON_LENGTH_MAX + 1));
    expect(message).toBe('box.json: expected at most 64 MiB of JSON, got 67108865 characters');
    expect(messageOf(`1${' '.repeat(JSON_LENGTH_MAX - 1)}`)).toBe('no error');
  });
});
