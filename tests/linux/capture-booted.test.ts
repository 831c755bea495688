/**
 * Goal: what is read of twenty booted machines is true to the byte, and the same from sysfs and
 * from lspci. Method: the archives are read once more by a few lines that know nothing of machines.
 */

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import type { BarSpec, FunctionSpec } from '../../src/machine/index.ts';
import { type PlainTar, plainTar } from './plain-tar.ts';
import { BOOTED, HAS_CAPTURES, printSkips, readBooted, sharedPath } from './shared-captures.ts';

const counts = { machines: 0, functions: 0, bars: 0, acs: 0, links: 0 };

afterAll(() => {
  printSkips();
  if (HAS_CAPTURES) console.log(`compared ${JSON.stringify(counts)}`);
});

/** Path of a function's directory in the archive. */
function directoryOf(fn: FunctionSpec, archive: PlainTar): string {
  const link = archive.links.get(`sys/bus/pci/devices/${fn.address}`) ?? '';
  return link.replace('../../../', 'sys/');
}

function barsIn(resource: string): BarSpec[] {
  return resource
    .split('\n')
    .slice(0, 6)
    .flatMap((line, index): BarSpec[] => {
      const [start = 0n, end = 0n, flags = 0n] = line.split(' ').map(BigInt);
      if (flags === 0n) return [];
      return [
        {
          index,
          kind: (flags & 0x100n) !== 0n ? 'io' : 'memory',
          address: Number(start),
          size: Number(end - start + 1n),
          prefetchable: (flags & 0x2000n) !== 0n,
          is64: (flags & 0x100000n) !== 0n,
        },
      ];
    });
}

/** Capability and control of ACS as they stand in the bytes. */
function acsIn(config: Buffer): { capability: number; control: number } | null {
  for (let at = 0x100; at !== 0 && at + 8 <= config.length;) {
    const header = config.readUInt32LE(at);
    if ((header & 0xffff) === 0x0d) {
      const capability = config.readUInt16LE(at + 4) & 0x7f;
      return { capability, control: config.readUInt16LE(at + 6) };
    }
    at = header >>> 20;
  }
  return null;
}

describe.skipIf(!HAS_CAPTURES)('a booted machine', () => {
  test.each(BOOTED)('%s is read from sysfs true to the byte', async (name) => {
    const spec = await readBooted(name, 'sysfs.tar.gz');
    const path = sharedPath(`vm-topologies/${name}/sysfs.tar.gz`);
    const archive = plainTar(gunzipSync(readFileSync(path)));
    const listed = [...archive.links.keys()].filter((link) => link.startsWith('sys/bus/pci/dev'));
    expect(spec.functions).toHaveLength(listed.length);
    counts.machines += 1;
    for (const fn of spec.functions) {
      const directory = directoryOf(fn, archive);
      const config = archive.files.get(`${directory}/config`) ?? Buffer.alloc(0);
      const text = (file: string): string | undefined =>
        archive.files.get(`${directory}/${file}`)?.toString().trim();
      const target = (link: string): string | null =>
        archive.links.get(`${directory}/${link}`)?.split('/').pop() ?? null;
      expect(fn.config).toBe(config.toString('hex'));
      expect(fn.command).toBe(config.readUInt16LE(4));
      expect(fn.bars).toEqual(barsIn(text('resource') ?? ''));
      expect(fn.acs).toEqual(acsIn(config));
      expect([fn.vendor, fn.device, fn.classCode, fn.revision]).toEqual(
        ['vendor', 'device', 'class', 'revision'].map((file) => Number(text(file))),
      );
      expect(fn.node ?? -1).toBe(Number(text('numa_node')));
      expect(fn.iommuGroup).toBe(target('iommu_group') && Number(target('iommu_group')));
      expect(fn.driver).toBe(target('driver'));
      const above = directory.split('/').at(-2) ?? '';
      expect(fn.parent).toBe(above.startsWith('pci') ? null : above);
      if (fn.bridge !== null) {
        expect([fn.bridge.secondary, fn.bridge.subordinate]).toEqual([config[0x19], config[0x1a]]);
      }
      const speed = (file: string): number => Number.parseFloat(text(file) ?? '');
      if (text('max_link_speed') === undefined) expect(fn.link).toBeNull();
      else if (!Number.isNaN(speed('max_link_speed'))) {
        counts.links += 1;
        expect(fn.link).toEqual({
          speed: speed('current_link_speed'),
          width: Number(text('current_link_width')),
          maxSpeed: speed('max_link_speed'),
          maxWidth: Number(text('max_link_width')),
        });
      }
      counts.functions += 1;
      counts.bars += fn.bars.length;
      if (fn.acs !== null) counts.acs += 1;
    }
  });

  test.each(BOOTED)('%s is the same read from lspci', async (name) => {
    const sysfs = await readBooted(name, 'sysfs.tar.gz');
    const lspci = await readBooted(name, 'lspci.txt.gz');
    expect(lspci.functions).toEqual(sysfs.functions);
    expect(lspci).toEqual({ ...sysfs, title: lspci.title, notes: lspci.notes });
  });

  test.each(BOOTED)('%s has the IOMMU that it was booted with', async (name) => {
    const qemu = readFileSync(sharedPath(`vm-topologies/${name}/qemu.json`), 'utf8');
    const { iommu } = JSON.parse(qemu) as { iommu: string };
    const modes: Readonly<Record<string, string>> = {
      off: 'off',
      on: 'translated',
      pt: 'passthrough',
    };
    expect((await readBooted(name, 'sysfs.tar.gz')).iommu).toBe(modes[iommu]);
  });
});
