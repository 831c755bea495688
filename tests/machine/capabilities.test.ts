/** Goal: lists of capabilities are walked to their end, wherever that is. Method: broken lists. */

import { describe, expect, test } from 'vitest';
import { walkCapabilities, walkExtended } from '../../src/machine/pci/capabilities.ts';
import { setDword, setWord } from '../../src/machine/pci/config-bytes.ts';
import { decodeConfig } from '../../src/machine/pci/config-space.ts';
import { endpoint } from './config-sample.ts';

describe('capability lists', () => {
  test('are walked in order', () => {
    const bytes = endpoint();
    bytes[0x41] = 0x90;
    setWord(bytes, 0x90, 0x0005);
    setDword(bytes, 0x100, 0x1500_0000 + 0x2_0001);
    setDword(bytes, 0x150, 0x0001_000d);
    expect(decodeConfig(bytes).capabilities).toEqual([
      { id: 0x10, offset: 0x40, extended: false, version: 0 },
      { id: 0x05, offset: 0x90, extended: false, version: 0 },
      { id: 0x01, offset: 0x100, extended: true, version: 2 },
      { id: 0x0d, offset: 0x150, extended: true, version: 1 },
    ]);
  });

  test.each([
    ['a loop', 0x40, 'the capability list loops back to 0x40'],
    ['the header', 0x20, 'the capability list points into the header, at 0x20'],
  ])('that lead to %s end there', (_, next, problem) => {
    const bytes = endpoint();
    bytes[0x41] = next;
    expect(decodeConfig(bytes)).toMatchObject({ type: 'endpoint', problems: [problem] });
  });

  test('end in garbage', () => {
    const bytes = endpoint();
    bytes.fill(0xff, 0x80, 0x100);
    bytes[0x41] = 0x80;
    const problem = 'the capability list ends in garbage at 0x80';
    expect(decodeConfig(bytes).problems).toEqual([problem]);
  });

  test.each([
    ['a loop', 0x100, 'the extended list loops back to 0x100'],
    ['the first 256 bytes', 0x0a0, 'the extended list points out of the extended space, to 0xa0'],
  ])('in the extended space that lead to %s end there', (_, next, problem) => {
    const bytes = endpoint();
    setDword(bytes, 0x100, 0x2000_0000 + 0x1_000b);
    setDword(bytes, 0x200, next * 2 ** 20 + 0x1_0003);
    const facts = decodeConfig(bytes);
    expect(facts.problems).toEqual([problem]);
    expect(facts.capabilities.map(({ offset }) => offset)).toEqual([0x40, 0x100, 0x200]);
  });

  test('leave null capabilities out and go on behind them', () => {
    const bytes = endpoint();
    setDword(bytes, 0x100, 0x2000_0000);
    setDword(bytes, 0x200, 0x0001_000d);
    setWord(bytes, 0x206, 0x1d);
    expect(decodeConfig(bytes).acs).toEqual({ capability: 0, control: 0x1d });
  });

  test('are not looked for in an extended space that does not answer', () => {
    const bytes = endpoint().fill(0xff, 0x100);
    expect(decodeConfig(bytes)).toMatchObject({ acs: null, problems: [] });
    expect(decodeConfig(bytes).capabilities).toHaveLength(1);
  });

  test('are not looked for in what a conventional function has for an extended space', () => {
    const bytes = new Uint8Array(4096);
    setDword(bytes, 0x100, 0x1_000d);
    expect(decodeConfig(bytes)).toMatchObject({ acs: null, capabilities: [] });
  });

  test('are not looked for in an extended space that repeats the first 256 bytes', () => {
    const bytes = endpoint();
    setDword(bytes, 0, 0x1021_15b3);
    for (let at = 256; at < 4096; at += 256) bytes.set(bytes.subarray(0, 256), at);
    const facts = decodeConfig(bytes);
    expect(facts.acs).toBeNull();
    expect(facts.problems).toEqual([
      'the extended space repeats the first 256 bytes: it is not accessible',
    ]);
  });

  test('takes at most as many steps as there are places for capabilities', () => {
    const bytes = new Uint8Array(4096);
    for (let at = 0x100; at < 0xffc; at += 4) setDword(bytes, at, (at + 4) * 2 ** 20 + 0x1_0001);
    setDword(bytes, 0xffc, 0x1000_0000 + 0x1_0001);
    expect(walkExtended(bytes, []).capabilities).toHaveLength(960);
    setWord(bytes, 0x06, 0x10);
    bytes[0x34] = 0x40;
    for (let at = 0x40; at < 0x100; at += 4) setWord(bytes, at, 0x01 + ((at + 4) % 256) * 256);
    expect(walkCapabilities(bytes, []).capabilities).toHaveLength(48);
  });
});
