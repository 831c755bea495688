/**
 * Goal: decoding says of real devices what `lspci` says of them. Method: captures with text and
 * bytes side by side, which are not part of the repository: where they are absent, the tests are
 * skipped.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { walkExtended } from '../../src/machine/pci/capabilities.ts';
import { type ConfigFacts, decodeConfig } from '../../src/machine/pci/config-space.ts';

const SHARED = new URL('../../../shared/', import.meta.url);
const LSPCI = new URL('topologies/lspci/', SHARED);
const MACHINES = new URL('vm-topologies/', SHARED);
const REASON = `skipped: there is no ${SHARED.pathname}, which holds the captures`;

/** One function of a capture. */
interface Block {
  readonly slot: string;
  readonly text: string;
  readonly bytes: Uint8Array;
}

const SLOT = /^(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] /;
const HEX_LINE = /^([0-9a-f]{2,3}):((?: [0-9a-f]{2}){16})$/;

function blocksOf(capture: string): Block[] {
  const blocks: { slot: string; text: string[]; bytes: number[] }[] = [];
  for (const line of capture.split('\n')) {
    if (SLOT.test(line)) blocks.push({ slot: line.split(' ')[0] ?? '', text: [], bytes: [] });
    const [, offset, bytes] = HEX_LINE.exec(line.trim()) ?? [];
    if (offset === undefined) blocks.at(-1)?.text.push(line.trim());
    else
      for (const [index, byte] of (bytes ?? '').trim().split(' ').entries()) {
        const block = blocks.at(-1);
        if (block) block.bytes[Number.parseInt(offset, 16) + index] = Number.parseInt(byte, 16);
      }
  }
  return blocks
    .filter(({ bytes }) => bytes.length > 0)
    .map(({ slot, text, bytes }) => ({
      slot,
      text: text.join('\n'),
      bytes: Uint8Array.from(bytes),
    }));
}

function namesIn(directory: URL): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

function capturesOf(): [string, Block[]][] {
  const plain = namesIn(LSPCI).map((name): [string, Block[]] => [
    name,
    blocksOf(readFileSync(new URL(name, LSPCI), 'latin1')),
  ]);
  const booted = namesIn(MACHINES).filter((name) => /^\d+$/.test(name));
  const zipped = booted.map((name): [string, Block[]] => {
    const file = readFileSync(new URL(`${name}/lspci.txt.gz`, MACHINES));
    return [`machine ${name}`, blocksOf(gunzipSync(file).toString('latin1'))];
  });
  return [...plain, ...zipped];
}

const CAPTURES = new Map(capturesOf());
const ALL = [...CAPTURES.values()].flat();

function blockOf(capture: string, slot: string): Block {
  const found = CAPTURES.get(capture)?.find((block) => block.slot === slot);
  if (found === undefined) throw new Error(`${capture} has no ${slot}`);
  return found;
}

/** `SrcValid+ TransBlk- …` as bits. */
function bitsOf(words: string): number {
  const names = 'SrcValid TransBlk ReqRedir CmpltRedir UpstreamFwd EgressCtrl DirectTrans'.split(
    ' ',
  );
  return names.reduce((bits, name, bit) => bits | (words.includes(`${name}+`) ? 1 << bit : 0), 0);
}

const TYPES: Readonly<Record<string, string>> = {
  Endpoint: 'endpoint',
  'Legacy Endpoint': 'legacy-endpoint',
  'Root Port': 'root-port',
  'Upstream Port': 'upstream-port',
  'Downstream Port': 'downstream-port',
  'PCI-Express to PCI/PCI-X Bridge': 'pcie-to-pci-bridge',
  'PCI/PCI-X to PCI-Express Bridge': 'pci-to-pcie-bridge',
  'Root Complex Integrated Endpoint': 'root-complex-endpoint',
  'Root Complex Event Collector': 'root-complex-event-collector',
};

/** Where the lists of a capture's text stand, without what the text says is broken. */
function offsetsOf(text: string): number[] {
  const found = text.matchAll(/^Capabilities: \[([0-9a-f]{2,3})[^\]]*\](?! <chain)/gm);
  return [...found].map(([, offset = '']) => Number.parseInt(offset, 16));
}

describe.skipIf(ALL.length === 0)('decoding captures of real and emulated machines', () => {
  /** Checks each function whose text matches, and says how many there were. */
  function compare(
    pattern: RegExp,
    check: (match: RegExpExecArray, facts: ConfigFacts, block: Block) => void,
  ): number {
    let count = 0;
    for (const block of ALL) {
      const match = pattern.exec(block.text);
      if (match === null) continue;
      check(match, decodeConfig(block.bytes), block);
      count += 1;
    }
    return count;
  }

  test('finds the ACS bits that the text has, or says that it cannot see', () => {
    let unseen = 0;
    const count = compare(/ACSCap:(.*)\n\s*ACSCtl:(.*)/, ([, cap = '', ctl = ''], facts, block) => {
      if (block.bytes.length < 4096) {
        expect(facts.acs).toBe('unknown');
        unseen += 1;
      } else expect(facts.acs).toEqual({ capability: bitsOf(cap), control: bitsOf(ctl) });
    });
    expect(count - unseen).toBeGreaterThan(50);
    expect(unseen).toBe(1);
  });

  test('finds no ACS where the text has none', () => {
    const isWhole = ({ bytes, text }: Block): boolean =>
      bytes.length === 4096 && text.includes('Control:');
    const without = ALL.filter((block) => isWhole(block) && !block.text.includes('ACSCap'));
    expect(without.length).toBeGreaterThan(100);
    for (const block of without) expect(decodeConfig(block.bytes).acs).toBeNull();
  });

  test('finds the types', () => {
    const pattern = /Express (?:\(v\d\) )?([A-Z][A-Za-z/ -]+?)(?: \(Slot[-+]\))?, (?:MSI|IntMsg)/;
    const count = compare(pattern, ([, name = ''], facts, block) => {
      expect([block.slot, facts.type]).toEqual([block.slot, TYPES[name]]);
    });
    expect(count).toBeGreaterThan(200);
  });

  test('finds the links', () => {
    const capability = /LnkCap:.*?Speed ([\d.]+)GT\/s, Width x(\d+)/;
    const count = compare(capability, ([, maxSpeed, maxWidth], { link, type }, { text }) => {
      if (type === 'root-complex-endpoint') return;
      const [, speed, width] = /LnkSta:\s*Speed ([\d.]+)GT\/s.*?, Width x(\d+)/.exec(text) ?? [];
      const said = { speed: Number(speed), width: Number(width) };
      expect(link).toEqual({ ...said, maxSpeed: Number(maxSpeed), maxWidth: Number(maxWidth) });
    });
    expect(count).toBeGreaterThan(200);
  });

  test('finds the buses and windows of bridges', () => {
    const numbers = /primary=(\w\w), secondary=(\w\w), subordinate=(\w\w)/;
    const count = compare(numbers, ([, ...buses], facts) => {
      const [primary, secondary, subordinate] = buses.map((bus) => Number.parseInt(bus, 16));
      expect(facts.bridge).toMatchObject({ primary, secondary, subordinate });
    });
    expect(count).toBeGreaterThan(150);
    const open = /^Memory behind bridge: ([0-9a-f]+)-([0-9a-f]+) \[size/m;
    const windows = compare(open, ([, base = '', limit = ''], facts) => {
      const window = { base: Number.parseInt(base, 16), limit: Number.parseInt(limit, 16) };
      expect(facts.bridge?.memory).toEqual(window);
    });
    expect(windows).toBeGreaterThan(20);
  });

  test('finds the memory BARs', () => {
    const pattern =
      /^Region (\d): Memory at ([0-9a-f]+) \((32|64)-bit, (non-)?prefetchable\)(?! \[virtual)/m;
    const count = compare(pattern, ([, index, address = '', bits, non], facts) => {
      expect(facts.bars.find((bar) => bar.index === Number(index))).toEqual({
        index: Number(index),
        kind: 'memory',
        address: Number.parseInt(address, 16),
        prefetchable: non === undefined,
        is64: bits === '64',
      });
    });
    expect(count).toBeGreaterThan(100);
  });

  test('lists the capabilities that the text lists', () => {
    const count = compare(/^Capabilities: \[/m, (_, facts, block) => {
      // Its bytes were changed by hand after the text was taken.
      if (block.text.includes('EPMockUp')) return;
      const offsets = offsetsOf(block.text);
      const seen = offsets.filter((offset) => offset < block.bytes.length);
      expect([block.slot, facts.capabilities.map(({ offset }) => offset)]).toEqual([
        block.slot,
        seen,
      ]);
    });
    expect(count).toBeGreaterThan(200);
  });

  test('does not loop on a list that never ends', () => {
    const { bytes } = blockOf('broken-ecaps.txt', '00:00.0');
    expect(decodeConfig(bytes)).toMatchObject({ type: 'conventional', acs: null, vendor: 0x1002 });
    const problems: string[] = [];
    expect(walkExtended(bytes, problems).capabilities.length).toBeLessThan(20);
    expect(problems).toHaveLength(1);
  });

  test('finds the sizes that a BAR can have', () => {
    const { resizableBars } = decodeConfig(blockOf('cap-rebar.txt', '09:00.0').bytes);
    const mebibytes = [256, 512, 1024, 2048, 4096];
    const supported = mebibytes.map((size) => size * 2 ** 20);
    expect(resizableBars).toEqual([{ index: 0, size: 256 * 2 ** 20, supported }]);
  });

  test('takes a host bridge for the root port that it says it is', () => {
    const facts = decodeConfig(blockOf('tree-asus-p6t6.txt', '00:00.0').bytes);
    expect(facts).toMatchObject({ type: 'root-port', header: 'endpoint', bridge: null });
  });

  test('finds the ACS of a root port', () => {
    const facts = decodeConfig(blockOf('cap-aer-root.txt', '00:02.0').bytes);
    expect(facts).toMatchObject({ type: 'root-port', acs: { capability: 0x1f, control: 0x1f } });
  });
});

if (ALL.length === 0) test.skip(REASON);
