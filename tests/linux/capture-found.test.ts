/**
 * Goal: captures that others made of real machines are read, or refused in one line. Method: what
 * stands in `topologies/index.md` and in section 9 of the reference is asked of them.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import { parseCpuText } from '../../src/doctor/index.ts';
import { readCapture } from '../../src/linux/index.ts';
import type { FunctionSpec, MachineSpec } from '../../src/machine/index.ts';
import { HAS_CAPTURES, printSkips, REASON, sharedPath } from './shared-captures.ts';

afterAll(printSkips);

function at(spec: MachineSpec, address: string): FunctionSpec {
  const found = spec.functions.find((fn) => fn.address === address);
  if (found === undefined) throw new Error(`no function ${address}`);
  return found;
}

function chainOf(spec: MachineSpec, address: string): string[] {
  const { parent } = at(spec, address);
  return parent === null ? [address] : [address, ...chainOf(spec, parent)];
}

/** What went wrong, as one line. */
async function refusal(path: string): Promise<string> {
  const error: unknown = await readCapture(path).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(InputError);
  expect(String(error)).not.toMatch(/[\n\r]/);
  return String(error);
}

describe.skipIf(!HAS_CAPTURES)('the ASUS server', () => {
  let spec: MachineSpec;

  beforeAll(async () => {
    const box = 'topologies/boxes/asus-esc8000a-e13p';
    const cpu = parseCpuText(readFileSync(sharedPath(`${box}/lscpu.log`), 'latin1'));
    const cmdline = readFileSync(sharedPath(`${box}/cmdline.log`), 'latin1');
    const facts = cpu === null ? { cmdline } : { cpu, cmdline };
    spec = await readCapture(sharedPath(`${box}/lspci_full.log`), facts);
  });

  test('has a Turin CPU, no IOMMU, and two nodes of eight root buses', () => {
    expect(spec.cpu).toEqual({ arch: 'x86_64', vendor: 'AuthenticAMD', family: 0x1a, model: 2 });
    expect(spec.iommu).toBe('off');
    expect(spec.functions).toHaveLength(202);
    const nodes = spec.hostBridges.map(({ node }) => node);
    expect(nodes.filter((node) => node === 0)).toHaveLength(8);
    expect(nodes.filter((node) => node === 1)).toHaveLength(8);
  });

  test('has its GPUs below switches', () => {
    expect(chainOf(spec, '0000:06:00.0')).toEqual([
      '0000:06:00.0',
      '0000:02:03.0',
      '0000:01:00.0',
      '0000:00:01.1',
    ]);
    expect(at(spec, '0000:07:00.0').parent).toBe('0000:02:04.0');
    expect(chainOf(spec, '0000:75:00.0')).toContain('0000:71:00.0');
    expect(chainOf(spec, '0000:73:00.0')).toContain('0000:71:00.0');
    expect(chainOf(spec, '0000:84:00.0')).toHaveLength(4);
    expect(at(spec, '0000:e1:00.0').parent).toBe('0000:e0:01.4');
    expect(at(spec, chainOf(spec, '0000:52:00.0')[1] ?? '').type).toBe('pcie-to-pci-bridge');
    expect(chainOf(spec, '0000:52:00.0')).toHaveLength(3);
  });

  test('has no port that redirects', () => {
    const ports = spec.functions.filter(({ acs }) => acs !== null && acs !== 'unknown');
    expect(ports.length).toBeGreaterThan(20);
    for (const { acs } of ports) {
      expect(acs === null || acs === 'unknown' ? null : acs.control & 0x2c).toBe(0);
    }
    expect(at(spec, '0000:02:03.0').acs).toMatchObject({ control: 0x11 });
    expect(at(spec, '0000:00:01.1').acs).toEqual({ capability: 0x5f, control: 0x11 });
  });

  test('has GPUs with large BARs and fast links', () => {
    const gpu = at(spec, '0000:06:00.0');
    expect(gpu).toMatchObject({ classCode: 0x030200, type: 'legacy-endpoint', node: 0 });
    expect(Math.max(...gpu.bars.map(({ size }) => size))).toBe(2 ** 37);
    expect(gpu.link).toMatchObject({ maxSpeed: 32, maxWidth: 16 });
  });

  test('has one note about ids', () => {
    expect(spec.notes.filter((note) => note.includes('taken as 0'))).toHaveLength(1);
  });
});

const LISTINGS = HAS_CAPTURES ? readdirSync(sharedPath('topologies/lspci/')) : [];

describe.skipIf(!HAS_CAPTURES)('listings of pciutils', () => {
  test.each(LISTINGS)('%s is read', async (name) => {
    const spec = await readCapture(sharedPath(`topologies/lspci/${name}`));
    expect(spec.functions.length).toBeGreaterThan(0);
  });

  test('give the tree of a desktop', async () => {
    const spec = await readCapture(sharedPath('topologies/lspci/tree-asus-p6t6.txt'));
    expect(spec.functions).toHaveLength(53);
    expect(chainOf(spec, '0000:02:00.0').length).toBeGreaterThan(1);
    expect(spec.hostBridges.map(({ bus }) => bus)).toEqual([0, 0xff]);
  });

  test('give several domains', async () => {
    const spec = await readCapture(sharedPath('topologies/lspci/tree-fsl-p2020.txt'));
    expect(new Set(spec.hostBridges.map(({ domain }) => domain)).size).toBe(3);
  });

  test('give ACS as the bytes have it', async () => {
    const spec = await readCapture(sharedPath('topologies/lspci/cap-aer-root.txt'));
    expect(at(spec, '0000:00:02.0').acs).toEqual({ capability: 0x1f, control: 0x1f });
  });
});

const XML = HAS_CAPTURES
  ? ['nccl', 'rccl', 'hwloc-xml'].flatMap((folder) =>
      readdirSync(sharedPath(`topologies/${folder}/`)).map(
        (name) => `topologies/${folder}/${name}`,
      ),
    )
  : [];

describe.skipIf(!HAS_CAPTURES)('XML of other tools', () => {
  test.each(XML)('%s is refused by name', async (path) => {
    expect(await refusal(sharedPath(path))).toMatch(
      path.includes('graph') ? /found '<graphs/ : /this version reads no (?:nccl|hwloc)-xml$/,
    );
  });
});

/** Unpacks with a program of the system; null if there is none. */
function bunzip(path: string): Buffer | null {
  for (const program of ['bunzip2', 'python3']) {
    const script = 'import bz2,sys;sys.stdout.buffer.write(bz2.open(sys.argv[1]).read())';
    const args = program === 'python3' ? ['-c', script, path] : ['-c', path];
    try {
      return execFileSync(program, args, { maxBuffer: 2 ** 28, stdio: 'pipe' });
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
  }
  return null;
}

describe.skipIf(!HAS_CAPTURES)('archives of hwloc', () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerbuf-'));

  afterAll(() => rmSync(folder, { recursive: true }));

  async function read(name: string): Promise<MachineSpec | null> {
    const bytes = bunzip(sharedPath(`topologies/sysfs-tar/${name}`));
    if (bytes === null) {
      console.log(`skipped: there is no program to unpack ${name}`);
      return null;
    }
    writeFileSync(join(folder, 'copy.tar'), bytes);
    return readCapture(join(folder, 'copy.tar'));
  }

  test('must be unpacked first', async () => {
    const path = sharedPath('topologies/sysfs-tar/fakepcilocalities.tar.bz2');
    expect(await refusal(path)).toMatch(/unpack it first, with bunzip2$/);
  });

  test('give domains of five digits', async () => {
    const spec = await read('2pa-pcidomain32bits.tar.bz2');
    if (spec === null) return;
    expect(spec.hostBridges.map(({ domain }) => domain)).toEqual([0, 0x10000]);
    expect(spec.functions.map(({ address }) => address)).toContain('10000:00:04.0');
  });

  test('give 137 functions of an old kernel, with ACS unknown', async () => {
    const spec = await read('32em64t-2n8c+dax+nvme+mic+dimms.tar.bz2');
    if (spec === null) return;
    expect(spec.functions).toHaveLength(137);
    expect(spec.cpu).toMatchObject({ vendor: 'GenuineIntel', family: 6, model: 45 });
    expect(new Set(spec.memory.map(({ node }) => node))).toEqual(new Set([0, 1]));
    const ports = spec.functions.filter(({ type }) => type === 'root-port');
    expect(ports.length).toBeGreaterThan(5);
    expect(new Set(ports.map(({ acs }) => acs))).toEqual(new Set(['unknown']));
  });

  test('give odd nodes as they are', async () => {
    const spec = await read('fakepcilocalities.tar.bz2');
    if (spec === null) return;
    expect(spec.functions).toHaveLength(30);
    expect(spec.hostBridges).toHaveLength(4);
  });
});

test('captures are there, or it is said that they are not', () => {
  expect(REASON).toContain('skipped');
});
