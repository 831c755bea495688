/**
 * Goal: a machine that cannot exist is refused, and the message names the place. Method: one small
 * machine, broken in one way at a time. Machines broken at random are in broken-machines.test.ts.
 */

import { describe, expect, test } from 'vitest';
import { parseMachineSpec, readMachineSpec } from '../../src/machine/spec/read-machine-spec.ts';
import { type Changes, problemOf, smallMachine } from './small-machine.ts';

describe('reading a machine', () => {
  test('fills in defaults and writes addresses in full', () => {
    const machine = readMachineSpec(smallMachine(), 'box');
    expect(machine.functions[4]).toMatchObject({
      address: '0000:03:00.0',
      parent: '0000:02:00.0',
      command: 6,
      acs: null,
      bars: [{ kind: 'memory', prefetchable: false }, { address: 0x4090000000 }],
    });
    expect(machine.hostBridges[1]).toMatchObject({ domain: 0, bus: 0x40, peerForwarding: 'none' });
  });

  test('sorts host bridges, functions and BARs', () => {
    const machine = readMachineSpec(smallMachine(), 'box');
    const shuffled = {
      ...machine,
      hostBridges: machine.hostBridges.toReversed(),
      functions: machine.functions
        .toReversed()
        .map((fn) => ({ ...fn, bars: fn.bars.toReversed() })),
    };
    expect(readMachineSpec(shuffled, 'box')).toEqual(machine);
  });

  test('takes hexadecimal strings for integers, negative ones too', () => {
    const machine = smallMachine({
      'functions[0].vendor': '0x8086',
      'functions[0].address': '0000:00:1F.7',
      'functions[1].parent': '00:1f.7',
      'hostBridges[1].busOffset': '-0x4000',
    });
    const read = readMachineSpec(machine, 'box');
    expect(read.functions[0]).toMatchObject({ vendor: 0x8086, address: '0000:00:1f.7' });
    expect(read.hostBridges[1]?.busOffset).toBe(-0x4000);
  });

  test('takes a negative zero for zero', () => {
    const machine = smallMachine({ 'functions[0].vendor': -0, 'functions[0].device': '-0x0' });
    const [port] = readMachineSpec(machine, 'box').functions;
    expect([port?.vendor, port?.device]).toEqual([0, 0]);
  });

  test('gives what it read again if it reads that', () => {
    const machine = readMachineSpec(smallMachine(), 'box');
    expect(readMachineSpec(machine, 'box')).toEqual(machine);
  });

  test('names line and column of text that is no JSON', () => {
    const problem = problemOf(() => parseMachineSpec('{\n  "schema": ,', 'box.json'));
    expect(problem).toBe('box.json: line 2 column 13: expected a value, got ","');
  });

  test.each([
    [null, 'box: expected an object, got null'],
    [[], 'box: expected an object, got a list of 0'],
    [{}, 'box: schema: expected a value, got nothing'],
    [
      { schema: 'peerbuf.machine/2' },
      'box: schema: this program reads machines of schema "peerbuf.machine/1", ' +
        'got "peerbuf.machine/2"',
    ],
  ])('refuses %j', (json, problem) => {
    expect(problemOf(() => readMachineSpec(json, 'box'))).toBe(problem);
  });
});

type Case = readonly [problem: string, changes: Changes];

const OR_HEX = ', or one in hexadecimal such as "0x1f"';
const FIELD_CASES: readonly Case[] = [
  ['colour: unknown field', { colour: 1 }],
  ['functions[3].bar: unknown field; did you mean "bars"?', { 'functions[3].bar': [] }],
  ['["a\\nb"]: unknown field', { 'a\nb': 1 }],
  ['name: expected a name in kebab-case, got "Small Box"', { name: 'Small Box' }],
  ['title: expected a single line, got "a\\nb"', { title: 'a\nb' }],
  ['title: expected at most 4096 characters, got 5000', { title: 'a'.repeat(5000) }],
  ['coherentDma: expected true or false, got 1', { coherentDma: 1 }],
  ['iommu: expected one of "off", "passthrough", "translated", got "on"', { iommu: 'on' }],
  [
    `hostBridges[1].bus: expected an integer of 0 to 255${OR_HEX}, got 256`,
    { 'hostBridges[1].bus': 256 },
  ],
  [
    `functions[0].vendor: expected an integer of 0 to 65535${OR_HEX}, got "8086"`,
    { 'functions[0].vendor': '8086' },
  ],
  [
    `functions[0].vendor: expected an integer of 0 to 65535${OR_HEX}, got "0x${'0'.repeat(37)}…`,
    { 'functions[0].vendor': `0x${'0'.repeat(4096)}` },
  ],
  [
    `memory[0].start: expected an integer of 0x0 to 0xfffffffffffff${OR_HEX}, got 0.5`,
    { 'memory[0].start': 0.5 },
  ],
  [
    'functions[0].address: expected a PCI address such as "0000:41:00.0", got "00:20.0"',
    { 'functions[0].address': '00:20.0' },
  ],
  [
    `functions[2].acs.control: expected an integer of 0 to 127${OR_HEX}, got 128`,
    { 'functions[2].acs.control': 128 },
  ],
  [
    'functions[2].acs: expected an object, null or "unknown", got "none"',
    { 'functions[2].acs': 'none' },
  ],
  [
    'functions[4].link.speed: expected one of 2.5, 5, 8, 16, 32, 64, 128, got 10',
    { 'functions[4].link': { speed: 10 } },
  ],
  [
    'functions[4].config: expected 64, 256, 4096 bytes of two digits each, got 4 characters',
    { 'functions[4].config': 'abcd' },
  ],
  [
    `functions[4].config: expected lower-case hexadecimal digits, got "${'AB'.repeat(19)}A…`,
    { 'functions[4].config': 'AB'.repeat(64) },
  ],
  [
    'functions[4].bars: expected at most 6 items, got 7',
    { 'functions[4].bars': Array(7).fill({}) },
  ],
  ['functions: expected at most 65536 items, got 65537', { functions: Array(65537) }],
  ['hostBridges: expected at most 4096 items, got 4097', { hostBridges: Array(4097) }],
];

const TREE_CASES: readonly Case[] = [
  [
    'hostBridges[1].bus: there is a host bridge of bus 0000:00 already',
    { 'hostBridges[1].bus': 0 },
  ],
  [
    'functions[5].address: functions[4] has the address 0000:03:00.0 already',
    { 'functions[5].address': '03:00.0' },
  ],
  ['functions[4].parent: there is no function 0000:02:07.0', { 'functions[4].parent': '02:07.0' }],
  ['functions[5].parent: 0000:03:00.0 is no bridge', { 'functions[5].parent': '03:00.0' }],
  [
    'functions[4].parent: expected a bridge of the same domain, got 0000:02:00.0',
    { 'functions[4].address': '0001:03:00.0' },
  ],
  [
    'functions[4].parent: the bus below 0000:02:01.0 is 0x4, not 0x3',
    { 'functions[4].parent': '02:01.0' },
  ],
  [
    'functions[4].parent: expected the bridge above, for no host bridge has bus 0000:03, got null',
    { 'functions[4].parent': null },
  ],
  [
    'functions[2].bridge: expected the buses below a function of type downstream-port, got null',
    { 'functions[2].bridge': null },
  ],
  [
    'functions[4].bridge: expected null for a function of type endpoint, got an object',
    { 'functions[4].bridge': { secondary: 0, subordinate: 0 } },
  ],
  [
    "functions[2].bridge.secondary: expected a bus above the bridge's own, 0x2, got 0x2",
    { 'functions[2].bridge.secondary': 2, 'functions[4].address': '02:02.0' },
  ],
  [
    'functions[2].bridge.subordinate: expected 0x3 to 0x4, got 0x5',
    { 'functions[2].bridge.subordinate': 5 },
  ],
  [
    'functions[0].bridge.subordinate: expected 0x1 to 0xff, got 0x0',
    { 'functions[0].bridge.subordinate': 0 },
  ],
  [
    'functions[3].bridge.secondary: bus 0x4 is one of 0000:02:00.0 already',
    { 'functions[2].bridge.subordinate': 4 },
  ],
  ['hostBridges[1].bus: bus 0x3 is one of 0000:00:01.0 already', { 'hostBridges[1].bus': 3 }],
  [
    'functions[3].bridge.subordinate: expected 0 for a bridge that is not configured, got 0x4',
    {
      'functions[3].bridge.secondary': 0,
      'functions[5]': undefined,
      'functions[6]': undefined,
    },
  ],
];

const VIRTUAL_CASES: readonly Case[] = [
  [
    'functions[6].physicalFunction: there is no function 0000:04:00.7',
    { 'functions[6].physicalFunction': '04:00.7' },
  ],
  [
    'functions[6].physicalFunction: expected a physical function, and 0000:04:00.1 is virtual',
    { 'functions[6].physicalFunction': '04:00.1' },
  ],
  [
    'functions[6].physicalFunction: expected a function of the same domain, got 0000:04:00.0',
    { 'functions[6].address': '0001:04:00.1' },
  ],
  [
    'functions[6].parent: expected 0000:02:01.0, as for its physical function, got 0000:02:00.0',
    { 'functions[6].parent': '02:00.0' },
  ],
  [
    'functions[6].bridge: a virtual function is no bridge',
    {
      'functions[6].type': 'conventional',
      'functions[6].bridge': { secondary: 0, subordinate: 0 },
    },
  ],
  [
    'functions[6].address: expected a bus of 0x4 to 0x4, below 0000:02:01.0, got 0x3',
    { 'functions[6].address': '03:00.1' },
  ],
  [
    'functions[6].address: expected a bus of 0x4 to 0x4, below 0000:02:01.0, got 0x5',
    { 'functions[6].address': '05:00.1' },
  ],
];

const RAM = 'memory[1]';
const DRIVE = 'functions[4].bars[0]';
const WINDOW = 'functions[2].bridge.memory';
const BELOW = 'expected bus addresses below 2^32';
const ADDRESS_CASES: readonly Case[] = [
  [`${RAM}.start: expected a multiple of 0x1000, got 0x1`, { 'memory[1].start': 1 }],
  [`${RAM}.size: expected a multiple of 0x1000, got 0x1`, { 'memory[1].size': 1 }],
  [
    `${RAM}.start: expected at least 0x80000000, the end of the range before, got 0x7ffff000`,
    { 'memory[1].start': 0x7ffff000 },
  ],
  [
    `${RAM}.size: expected an end of at most 2^52, got 0x10000100000000`,
    { 'memory[1].size': 2 ** 52 },
  ],
  [`${DRIVE}.index: expected 0 to 4 for a 64-bit BAR, got 5`, { 'functions[4].bars[0].index': 5 }],
  [`functions[4].bars[1].index: register 2 is taken already`, { 'functions[4].bars[0].index': 1 }],
  [
    'functions[3].bars[0].size: expected a power of two of at least 16, got 12345',
    { 'functions[3].bars': [{ index: 0, size: 12345 }] },
  ],
  [
    `${DRIVE}.size: expected a power of two of at least 16, got 8`,
    { 'functions[4].bars[0].size': 8 },
  ],
  [
    `${DRIVE}.size: expected a power of two of at least 16, got 562949953421313`,
    { 'functions[4].bars[0].size': 2 ** 49 + 1 },
  ],
  [
    `${DRIVE}.size: expected a power of two of at least 1, got 3`,
    { 'functions[4].bars': [{ index: 0, kind: 'io', size: 3 }] },
  ],
  [
    `${DRIVE}.address: ${BELOW} for an I/O BAR, got an end of 0x100000004`,
    { 'functions[4].bars': [{ index: 0, kind: 'io', size: 4, address: 2 ** 32 }] },
  ],
  [
    'functions[2].bars[0].index: expected 0 to 1, got 2',
    { 'functions[2].bars': [{ index: 2, size: 16 }] },
  ],
  [`${DRIVE}.is64: expected false for an I/O BAR, got true`, { 'functions[4].bars[0].kind': 'io' }],
  [
    `${DRIVE}.address: expected a multiple of 0x4000, got 0x90002000`,
    { 'functions[4].bars[0].address': 0x90002000 },
  ],
  [
    `${DRIVE}.address: ${BELOW} for a 32-bit BAR, got an end of 0x200004000`,
    { 'functions[4].bars[0].is64': false, 'functions[4].bars[0].address': 2 ** 33 },
  ],
  [
    `functions[5].bars[0].address: 0x90000000 overlaps ${DRIVE}, at 0x90000000 to 0x90003fff`,
    { 'functions[5].bars[0].address': 0x90000000 },
  ],
  [
    `${DRIVE}.address: 0x10000 overlaps memory[0], at 0x0 to 0x7fffffff`,
    { 'functions[4].bars[0].address': 0x10000 },
  ],
  [
    'functions[2].bridge.memory.base: expected a multiple of 0x100000, got 0x90001000',
    { 'functions[2].bridge.memory.base': 0x90001000 },
  ],
  [
    `${WINDOW}.limit: expected the last byte of a window that starts at 0x90000000 ` +
      'and ends before a multiple of 0x100000, got 0x900ffff0',
    { 'functions[2].bridge.memory.limit': 0x900ffff0 },
  ],
  [
    `${WINDOW}.limit: ${BELOW} for this window, got an end of 0x900000000`,
    { 'functions[2].bridge.memory.limit': 0x8ffffffff },
  ],
  [
    `hostBridges[0].busOffset: -0x100000000 puts ${DRIVE} at -0x70000000 to -0x6fffc001, ` +
      'which are no addresses',
    { 'hostBridges[0].busOffset': -0x100000000 },
  ],
  [
    `hostBridges[0].busOffset: expected a multiple of 0x4000, the size of ${DRIVE}, got 0x1000`,
    { 'hostBridges[0].busOffset': 0x1000 },
  ],
  [
    'hostBridges[1].dmaOffset: -0x1000 puts memory[0] at -0x1000 to 0x7fffefff, ' +
      'which are no addresses',
    { 'hostBridges[1].dmaOffset': -0x1000 },
  ],
];

describe.each([
  ['fields', FIELD_CASES],
  ['buses and bridges', TREE_CASES],
  ['virtual functions', VIRTUAL_CASES],
  ['addresses', ADDRESS_CASES],
])('a machine with wrong %s is refused:', (_, cases) => {
  test.each(cases)('%s', (problem, changes) => {
    expect(problemOf(() => readMachineSpec(smallMachine(changes), 'box'))).toBe(`box: ${problem}`);
  });
});
