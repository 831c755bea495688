/**
 * Goal: every form in which people have a CPU is read. Method: texts of each form, and random ones.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCpuText } from '../../src/doctor/index.ts';

const MILAN = { arch: 'x86_64', vendor: 'AuthenticAMD', family: 25, model: 1 };

describe('/proc/cpuinfo', () => {
  test('gives the first processor', () => {
    const one = 'processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\n';
    const other = 'processor\t: 1\nvendor_id\t: Other\ncpu family\t: 6\nmodel\t\t: 7\n';
    expect(parseCpuText(`${one}\n${other}`)).toEqual(MILAN);
    expect(parseCpuText(one.replaceAll('\n', '\r\n'))).toEqual(MILAN);
  });

  test('of a 32-bit processor says i686', () => {
    const text = 'vendor_id : GenuineIntel\ncpu family : 6\nmodel : 8\nflags : fpu vme\n';
    expect(parseCpuText(text)?.arch).toBe('i686');
  });

  test.each([
    ['0x41', 'ARM'],
    ['0xc0', 'Ampere'],
    ['0x7f', '0x7f'],
  ])('of an Arm processor names the implementer %s as %s', (implementer, vendor) => {
    const text = `processor : 0\nCPU implementer : ${implementer}\nCPU part : 0xd0c\n`;
    expect(parseCpuText(text)).toEqual({ arch: 'arm64', vendor, family: 0, model: 0xd0c });
  });
});

describe('lscpu', () => {
  test('is read as people see it', () => {
    const text =
      'Architecture:        x86_64\nVendor ID:           AuthenticAMD\n' +
      'BIOS CPU family:     107\nCPU family:          25\nModel:               1\n';
    expect(parseCpuText(text)).toEqual(MILAN);
  });

  test('is read as JSON', () => {
    const field = (name: string, data: string): object => ({ field: `${name}:`, data });
    const lscpu = [
      field('Architecture', 'x86_64'),
      field('Vendor ID', 'AuthenticAMD'),
      field('CPU family', '25'),
      field('Model', '1'),
    ];
    expect(parseCpuText(JSON.stringify({ lscpu }, null, 3))).toEqual(MILAN);
  });

  test('of an Arm processor says arm64', () => {
    const text = 'Architecture: aarch64\nVendor ID: ARM\nModel name: Neoverse-N1\nModel: 1\n';
    expect(parseCpuText(text)).toEqual({ arch: 'arm64', vendor: 'ARM', family: 0, model: 1 });
  });
});

describe('the short form', () => {
  test.each([
    ['AuthenticAMD:25:1', MILAN],
    ['AuthenticAMD:0x19:0x1\n', MILAN],
    ['GenuineIntel:6', { arch: 'x86_64', vendor: 'GenuineIntel', family: 6, model: 0 }],
    ['ARM:0', { arch: 'arm64', vendor: 'ARM', family: 0, model: 0 }],
  ])('%j is a CPU', (text, cpu) => {
    expect(parseCpuText(text)).toEqual(cpu);
  });

  test.each(['', 'AuthenticAMD', 'AuthenticAMD:', 'Nobody:25', 'AuthenticAMD:25:1:2', ':::', '{'])(
    '%j is none',
    (text) => {
      expect(parseCpuText(text)).toBeNull();
    },
  );
});

test('any text is a CPU with numbers, or none', () => {
  const line = fc.tuple(
    fc.constantFrom('vendor_id', 'cpu family', 'model', 'CPU implementer', 'Architecture', 'x'),
    fc.oneof(fc.string(), fc.constantFrom('6', '0x41', '99999999999', '-1')),
  );
  const lines = fc.array(line).map((all) => all.map(([name, value]) => `${name}: ${value}`));
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        lines.map((all) => all.join('\n')),
      ),
      (text) => {
        const cpu = parseCpuText(text);
        if (cpu === null) return;
        expect(Number.isSafeInteger(cpu.family)).toBe(true);
        expect(Number.isSafeInteger(cpu.model)).toBe(true);
      },
    ),
  );
});
