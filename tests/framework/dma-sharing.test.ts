/**
 * Goal: the two sharing stories that need the DMA API right. On a board without coherence a
 * forgotten hand-over shows as stale bytes, and the right one mends it; coherent memory without
 * pages goes from one device to another with no cache touched. Method: two devices of the Arm
 * board, and of a machine with an IOMMU; AC-18, AC-19, thread S002. The halves that belong to
 * buffers and drivers are tested there.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type DmaDirection, dmaAddr } from '../../src/base/index.ts';
import {
  declareCoherentMemory,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaGetSgtable,
  dmaMapCoherent,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapCoherent,
  dmaUnmapSgtable,
  reserveMemory,
  type SgTable,
} from '../../src/framework/index.ts';
import type { MachineSpec, PciFunction } from '../../src/machine/index.ts';
import { ARM_SOC } from '../../src/machine/presets/arm-soc.ts';
import { oneStep, refused, useUpAddresses } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { BASE, DmaRig, PAGE, pagesAt } from './dma-rig.ts';

/** Cached pages that a device and the CPU take turns with. */
function turns(direction: DmaDirection = 'bidirectional') {
  const rig = new DmaRig(ARM_SOC, '04:00.0');
  const { machine, card } = rig;
  const table = rig.do(dmaMapSgtable(machine, card, pagesAt([BASE, 2]), direction));
  const at = table.entries[0]?.address ?? expect.fail('an entry');
  return {
    rig,
    write: (value: number) => void rig.write(card, at, [value]),
    read: () => rig.read(card, at, 1).bytes[0],
    begin: (way = direction) => rig.do(dmaSyncSgtableForCpu(machine, card, table, way)),
    end: (way = direction) => rig.do(dmaSyncSgtableForDevice(machine, card, table, way)),
    unmap: () => rig.do(dmaUnmapSgtable(machine, card, table, direction)),
  };
}

describe('CPU and device in turns, on a board without coherence', () => {
  test('see all that the other wrote with begin and end, many times (AC-18, I.5)', () => {
    const { rig, write, read, begin, end } = turns();
    for (let frame = 1; frame < 10; frame += 1) {
      write(frame);
      begin();
      expect(rig.load(BASE, 1)).toEqual([frame]);
      rig.store(BASE, [frame + 100]);
      end();
      expect(read()).toBe(frame + 100);
    }
    expect(rig.warnings).toEqual([]);
  });

  test('see stale bytes when begin is missing (AC-18, I.5)', () => {
    const { rig, write, begin } = turns();
    expect(rig.load(BASE, 1)).toEqual([0]);
    write(7);
    expect(rig.load(BASE, 1)).toEqual([0]);
    begin();
    expect(rig.load(BASE, 1)).toEqual([7]);
  });

  test('see stale bytes when end is missing (AC-18, I.5)', () => {
    const { rig, read, end } = turns();
    rig.store(BASE, [7]);
    expect(read()).toBe(0);
    end();
    expect(read()).toBe(7);
  });

  test('see stale bytes after a begin in the wrong direction (AC-18, I.5)', () => {
    const { rig, write, begin } = turns();
    expect(rig.load(BASE, 1)).toEqual([0]);
    write(7);
    begin('to-device');
    expect(rig.load(BASE, 1)).toEqual([0]);
  });

  test('are reported for a direction that was never mapped (AC-18)', () => {
    const { rig, write, begin } = turns('from-device');
    expect(rig.load(BASE, 1)).toEqual([0]);
    write(7);
    begin('to-device');
    expect(rig.load(BASE, 1)).toEqual([0]);
    expect(rig.warnings).toEqual([expect.stringContaining('another device or direction')]);
  });

  test('lose what the device wrote when the CPU writes beside it out of turn (AC-18)', () => {
    const { rig, write, end, begin } = turns();
    rig.store(BASE + 1, [1]);
    write(7);
    end();
    begin();
    expect(rig.load(BASE, 2)).toEqual([0, 1]);
  });

  test('see everything at the unmap, and nothing of it when that skips the sync (C.2)', () => {
    const { rig, write, unmap } = turns();
    rig.load(BASE, 1);
    write(7);
    unmap();
    expect(rig.load(BASE, 1)).toEqual([7]);
    const { machine, card } = rig;
    const skip = { skipCpuSync: true };
    rig.store(BASE, [9]);
    const pages = pagesAt([BASE, 1]);
    const table = rig.do(dmaMapSgtable(machine, card, pages, 'bidirectional', skip));
    const at = table.entries[0]?.address ?? 0;
    expect([...rig.read(card, at, 1).bytes]).toEqual([7]);
    rig.write(card, at, [5]);
    rig.do(dmaUnmapSgtable(machine, card, table, 'bidirectional', skip));
    expect(rig.load(BASE, 1)).toEqual([9]);
  });
});

/** A codec with memory of its own, without pages, and a scaler that is to read from there. */
class CodecRig extends DmaRig {
  readonly scaler: PciFunction;

  constructor(spec: MachineSpec, codec: string, scaler: string) {
    super(spec, codec);
    this.scaler = this.at(scaler);
  }

  /** The codec's memory; behind an IOMMU it is mapped where it lies, as firmware asks for. */
  declarePool(): void {
    const { machine, card } = this;
    const range = this.do(reserveMemory(machine, 4 * PAGE));
    const offset = card.node.hostBridge.spec.dmaOffset;
    const address = dmaAddr(range.phys + offset);
    const domain = card.domain.value;
    if (domain !== null) {
      const both = { readable: true, writable: true };
      this.do(oneStep(domain.mapAt(address, range, both)));
    }
    declareCoherentMemory(machine, card, range, address);
  }

  /** What the codec's picture sums up to. */
  decode(address: number): number {
    const picture = Array.from({ length: 256 }, (_, i) => (i * 7 + 3) % 251);
    this.write(this.card, address, picture);
    return sumOf(picture);
  }

  /** What the scaler reads sums up to. */
  scale(table: SgTable): number {
    return sumOf([...this.read(this.scaler, table.entries[0]?.address ?? 0, 256).bytes]);
  }
}

function sumOf(bytes: readonly number[]): number {
  return bytes.reduce((sum, byte, i) => (sum + byte * (i + 1)) % 65521, 0);
}

const BOARD = ['the Arm board', ARM_SOC, '03:00.0', '04:00.0'] as const;
const IOMMU_ON = [
  'an IOMMU, no coherence',
  wideMachine({ iommu: 'translated', coherentDma: false }),
  '0a:00.0',
  '09:00.0',
] as const;
const IOMMU_OFF = [
  'no IOMMU, no coherence',
  wideMachine({ iommu: 'off', coherentDma: false }),
  '0a:00.0',
  '09:00.0',
] as const;
const MACHINES = [BOARD, IOMMU_ON, IOMMU_OFF] as const;

describe('A codec that shares its picture with a scaler, without pages (S002-23)', () => {
  test.each(MACHINES)(
    'brings it there, and touches no cache: %s (S002-12, AC-19)',
    (_, spec, codec, to) => {
      const rig = new CodecRig(spec, codec, to);
      rig.declarePool();
      const { machine, card, scaler } = rig;
      const memory = rig.do(dmaAllocCoherent(machine, card, PAGE));
      expect(memory.hasPages).toBe(false);
      const table = rig.do(dmaMapCoherent(machine, scaler, memory, 'to-device'));
      expect(rig.scale(table)).toBe(0);
      const picture = rig.decode(memory.address);
      expect(rig.scale(table)).toBe(picture);
      rig.do(dmaUnmapCoherent(machine, table));
      rig.do(dmaFreeCoherent(memory));
      expect([rig.maintenance, machine.faults.length, rig.warnings.length]).toEqual([0, 0, 0]);
    },
  );

  test.each(MACHINES)(
    'refuses the old table call early: %s (S002-21, AC-19)',
    (_, spec, codec, to) => {
      const rig = new CodecRig(spec, codec, to);
      rig.declarePool();
      const memory = rig.do(dmaAllocCoherent(rig.machine, rig.card, PAGE));
      expect(() => dmaGetSgtable(memory)).toThrow('coherent memory without pages');
    },
  );

  test('has an entry in the IOMMU of the scaler between map and unmap, not after (S002-11)', () => {
    const [, ...at] = IOMMU_ON;
    const rig = new CodecRig(...at);
    rig.declarePool();
    const { machine, card, scaler } = rig;
    const entries = () => scaler.domain.value?.value.length;
    const memory = rig.do(dmaAllocCoherent(machine, card, 2 * PAGE));
    expect(entries()).toBe(0);
    const table = rig.do(dmaMapCoherent(machine, scaler, memory, 'to-device'));
    expect(entries()).toBe(1);
    rig.do(dmaUnmapCoherent(machine, table));
    expect(entries()).toBe(0);
    rig.scale(table);
    expect(rig.fault).toMatchObject({ kind: 'iommu.fault', device: scaler.name });
  });

  test.each([
    ['works where all see RAM at one address', IOMMU_OFF, true],
    ['goes astray behind an IOMMU', IOMMU_ON, false],
    ['goes astray on a bus with another view', BOARD, false],
  ] as const)('by the CPU address for everybody %s (S002-10)', (_, [, spec, codec, to], works) => {
    const rig = new CodecRig(spec, codec, to);
    rig.declarePool();
    const memory = rig.do(dmaAllocCoherent(rig.machine, rig.card, PAGE));
    const picture = rig.decode(memory.address);
    const offset = rig.card.node.hostBridge.spec.dmaOffset;
    // As armada hands it out: one address, whoever asks, and no mapping call.
    const shortcut: SgTable = {
      entries: [{ address: dmaAddr(memory.address - offset), length: PAGE }],
    };
    expect(rig.scale(shortcut) === picture).toBe(works);
    const right = rig.do(dmaMapCoherent(rig.machine, rig.scaler, memory, 'to-device'));
    expect(rig.scale(right)).toBe(picture);
  });
});

describe('Mapping coherent memory for another device', () => {
  /** A codec's memory on a machine. */
  function shared([, spec, codec, to]: (typeof MACHINES)[number]) {
    const rig = new CodecRig(spec, codec, to);
    const memory = rig.do(dmaAllocCoherent(rig.machine, rig.card, PAGE));
    return { rig, memory };
  }

  test('gives its own device the address that it has', () => {
    const { rig, memory } = shared(IOMMU_ON);
    const table = rig.do(dmaMapCoherent(rig.machine, rig.card, memory, 'to-device'));
    expect(table.entries).toEqual([{ address: memory.address, length: PAGE }]);
    rig.do(dmaUnmapCoherent(rig.machine, table));
    expect(rig.table).toHaveLength(1);
  });

  test('is EIO out of reach, and never bounced: coherent-memory-out-of-reach', () => {
    for (const change of [{ dmaMask: 16 }, { dmaMask: null }, { forceBounce: true }]) {
      const { rig, memory } = shared(IOMMU_OFF);
      Object.assign(rig.scaler, change);
      const call = dmaMapCoherent(rig.machine, rig.scaler, memory, 'to-device');
      const { code, reason } = rig.do(refused(call));
      expect([code, reason]).toEqual(['EIO', 'coherent-memory-out-of-reach']);
    }
  });

  test('is ENOMEM without an I/O address: no-address-to-share-it-at', () => {
    const { rig, memory } = shared(IOMMU_ON);
    useUpAddresses(rig.scaler);
    const call = dmaMapCoherent(rig.machine, rig.scaler, memory, 'to-device');
    const { code, reason } = rig.do(refused(call));
    expect([code, reason]).toEqual(['ENOMEM', 'no-address-to-share-it-at']);
  });

  test('takes back what it gave, and warns of anything else', () => {
    const { rig } = shared(IOMMU_OFF);
    rig.do(dmaUnmapCoherent(rig.machine, { entries: [] }));
    expect(rig.warnings).toEqual([expect.stringContaining('other memory')]);
  });
});

describe('The kind of memory', () => {
  test('is asked for by exporters and the DMA API, and by no importer (S002-19, S002-22)', () => {
    const root = new URL('../../src/', import.meta.url);
    const asking = readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts'))
      .filter((path) =>
        /\.hasPages\b|'device-pool'/.test(readFileSync(new URL(path, root), 'utf8')),
      );
    expect(asking).toEqual(['framework/dma/dma-coherent.ts']);
  });
});
