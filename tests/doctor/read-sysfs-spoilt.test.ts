/**
 * Goal: a spoilt copy of sysfs gives a machine or one line, in a bounded number of reads. Method:
 * nonsense in each kind of file, links and directories that make no sense, and random changes.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import { MapTree, machineFromSysfs, type SysTree, type TreeEntry } from '../../src/doctor/index.ts';
import type { MachineSpec } from '../../src/machine/index.ts';
import { readMachineSpec } from '../../src/machine/spec/read-machine-spec.ts';
import { fixtureEntries, textFile } from './fixture.ts';

const SWITCH = fixtureEntries('switch-with-virtual-functions');
const VMD = fixtureEntries('vmd-seen-by-a-user');
const ARM = fixtureEntries('arm-with-shifted-addresses');

function read(entries: readonly TreeEntry[]): MachineSpec {
  return readMachineSpec(machineFromSysfs(new MapTree('test', entries), 'test'), 'test');
}

describe('files with nonsense', () => {
  const DRIVE = 'sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:03:00.0';

  test.each([
    ['vendor', 'x', "vendor: expected a hexadecimal number up to 0xffff, found 'x'"],
    ['class', '0x1000000', 'class: expected a hexadecimal number up to 0xffffff'],
    ['numa_node', 'one', "numa_node: expected a decimal number, found 'one'"],
    ['max_link_speed', 'fast\nfast', "max_link_speed: expected a speed, found 'fast?fast'"],
    ['current_link_width', 'x16', "current_link_width: expected a number of lanes, found 'x16'"],
    ['resource', '0x0 0x0', "resource line 1: expected start, end and flags, found '0x0 0x0'"],
    [
      'resource',
      '0x0 0x0 0x0\n0x10000000000000 0x10000000000fff 0x200',
      'resource line 2: expected an address below 2^52',
    ],
    ['resource', '0x0 0x0 0x0\n'.repeat(40), 'resource: expected at most 32 lines'],
  ])('%s %j is refused', (name, text, message) => {
    const path = `${DRIVE}/${name}`;
    const entries = [...SWITCH.filter((entry) => entry.path !== path), textFile(path, text)];
    expect(() => read(entries)).toThrow(new RegExp(quoted(`test: ${DRIVE}/${message}`)));
  });

  test('a tree without PCI is refused', () => {
    expect(() => read([])).toThrow('test: expected a copy of /sys with bus/pci or devices/pci…');
    expect(() => read([{ kind: 'directory', path: 'sys/bus/pci/devices' }])).toThrow(
      'test: sys/bus/pci/devices: expected at least one PCI function',
    );
  });

  function quoted(text: string): string {
    return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  }
});

describe('any spoilt copy', () => {
  /** Counts what is asked of a tree. */
  class FakeSlowTree implements SysTree {
    calls = 0;
    private readonly tree: SysTree;

    constructor(tree: SysTree) {
      this.tree = tree;
    }

    read(path: string): Uint8Array | null {
      this.calls += 1;
      return this.tree.read(path);
    }

    list(path: string): readonly string[] | null {
      this.calls += 1;
      return this.tree.list(path);
    }

    link(path: string): string | null {
      this.calls += 1;
      return this.tree.link(path);
    }
  }

  function expectMachineOrLine(entries: readonly TreeEntry[]): void {
    let tree: FakeSlowTree | null = null;
    try {
      tree = new FakeSlowTree(new MapTree('test', entries));
      readMachineSpec(machineFromSysfs(tree, 'test'), 'test');
    } catch (error) {
      expect(error).toBeInstanceOf(InputError);
      expect(String(error)).not.toMatch(/[\n\r]/);
    }
    expect(tree?.calls ?? 0).toBeLessThan(200 * (entries.length + 100));
  }

  const all = [...SWITCH, ...VMD, ...ARM];
  const content = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.constantFrom(...all.flatMap((entry) => (entry.kind === 'file' ? [entry.bytes] : []))),
  );
  const change = fc.record({
    at: fc.nat(all.length - 1),
    what: fc.constantFrom('remove', 'spoil', 'byte', 'link', 'move'),
    bytes: content,
    other: fc.nat(all.length - 1),
  });

  test('gives a valid machine or one line', () => {
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 12 }), (changes) => {
        const entries: (TreeEntry | null)[] = [...all];
        for (const { at: index, what, bytes, other } of changes) {
          const path = all[index]?.path ?? '';
          const target = all[other]?.path ?? '';
          if (what === 'remove') entries[index] = null;
          if (what === 'spoil') entries[index] = { kind: 'file', path, bytes };
          if (what === 'link') entries[index] = { kind: 'link', path, target: `/${target}` };
          if (what === 'move') entries[index] = { kind: 'file', path: target, bytes };
          const old = all[index];
          if (what !== 'byte' || old?.kind !== 'file') continue;
          const copy = Uint8Array.from(old.bytes);
          copy[other % Math.max(copy.length, 1)] = bytes[0] ?? 0;
          entries[index] = { kind: 'file', path, bytes: copy };
        }
        expectMachineOrLine(entries.filter((entry) => entry !== null));
      }),
      { numRuns: 400 },
    );
  });

  test('in a folder whose name is two lines is refused in one', () => {
    const path = 'sys/devices/platform/a\nb/pci0000:00/0000:00:00.0/vendor';
    expectMachineOrLine([textFile(path, 'nonsense')]);
    expect(() => read([textFile(path, 'nonsense')])).toThrow('platform/a?b/pci0000:00');
  });

  test('with links in circles ends', () => {
    const circle = (path: string, target: string): TreeEntry => ({ kind: 'link', path, target });
    expectMachineOrLine([
      circle('sys/bus/pci/devices/0000:00:00.0', '0000:00:01.0'),
      circle('sys/bus/pci/devices/0000:00:01.0', '0000:00:00.0'),
      circle('sys/devices/pci0000:00/0000:00:00.0/driver', 'driver'),
    ]);
  });

  test('with directories deep in one another ends', () => {
    const deep = Array.from({ length: 100 }, (_, n) => `0000:${n.toString(16)}:00.0`).join('/');
    expectMachineOrLine([textFile(`sys/devices/pci0000:00/${deep}/vendor`, '0x1')]);
    expectMachineOrLine([textFile(`sys/devices/platform/${'a/'.repeat(2000)}vendor`, '0x1')]);
    const bridges = Array.from(
      { length: 100 },
      (_, n) => `0000:${n.toString(16).padStart(2, '0')}:00.0`,
    );
    expectMachineOrLine(
      bridges.map((_, n) =>
        textFile(`sys/devices/pci0000:00/${bridges.slice(0, n + 1).join('/')}/class`, '0x060400'),
      ),
    );
  });

  test('with functions above one another ends', () => {
    const one = 'sys/devices/pci0000:00/0000:00:00.0/0000:01:00.0';
    const two = 'sys/devices/pci0000:00/0000:01:00.0/0000:00:00.0';
    const link = (name: string, path: string): TreeEntry => ({
      kind: 'link',
      path: `sys/bus/pci/devices/${name}`,
      target: `/${path}`,
    });
    expectMachineOrLine([
      textFile(`${one}/class`, '0x060400'),
      textFile(`${two}/class`, '0x060400'),
      link('0000:01:00.0', one),
      link('0000:00:00.0', two),
    ]);
  });
});
