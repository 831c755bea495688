/**
 * Goal: people's own machines are found, read and shown, and what is not known of them is said.
 * Method: presets as copies of sysfs, as listings and as JSON, under several names.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import {
  findPreset,
  generateFabric,
  type MachineSpec,
  machineSpecToJson,
  PRESETS,
  parseMachineSpec,
} from '../../src/machine/index.ts';
import { SCENARIOS } from '../../src/scenarios/index.ts';
import { lspciOfMachine } from '../doctor/lspci-of-machine.ts';
import { sysfsOfMachine } from '../doctor/sysfs-of-machine.ts';
import { cli, Folder } from './command-line.ts';

const folder = new Folder();

function preset(name: string): MachineSpec {
  return findPreset(name) ?? expect.fail('the preset is there');
}

function cpuOf(name: string): string {
  const { vendor, family, model } = preset(name).cpu ?? expect.fail('a preset has a CPU');
  return `${vendor}:${family}:${model}`;
}

/** A copy of a preset's /sys. */
function copyOf(name: string): string {
  const entries = sysfsOfMachine(preset(name), { hasLinks: true, hasSpeeds: true });
  return folder.tree(`sys-${name}`, entries);
}

/** A machine as a user without rights sees it. */
function seenByUser(name: string): string {
  const functions = preset(name).functions.map((fn) => {
    return fn.config === null ? { ...fn, acs: 'unknown' as const } : fn;
  });
  return folder.file(`blind-${name}.json`, machineSpecToJson({ ...preset(name), functions }));
}

async function resultOf(...argv: readonly string[]): Promise<string> {
  const { out, err } = await cli(['run', 'spdk-nvme-rdma', ...argv, '--json']);
  const text = out === '' ? err : (JSON.parse(out) as { readonly result: string }).result;
  return text.replace(/^refused with EINVAL.*/s, 'refused');
}

describe('A captured machine', () => {
  test.each(PRESETS.map(({ name }) => name))('plays as %s does', async (name) => {
    const copy = copyOf(name);
    const expected = await resultOf('--machine', name);
    expect(await resultOf('--machine', copy, '--cpu', cpuOf(name))).toBe(expected);
  });

  test('says in one line that its CPU is missing, where nothing hangs on it', async () => {
    const copy = copyOf('server-switch');
    const { code, out, err } = await cli(['run', 'vfio-close-races-reset', '--machine', copy]);
    expect(code).toBe(0);
    expect(err).toBe(
      `peerbuf: note: ${copy} does not say which CPU it has; name it with --cpu, as in ` +
        '--cpu AuthenticAMD:25:1\n',
    );
    expect(out).toMatch(/\n {10}\d+ notes on how it was read; peerbuf machine .* shows them\n/);
  });

  test('is refused in one line where something does', async () => {
    const copy = copyOf('epyc-2s');
    const { code, out, err } = await cli(['run', 'spdk-nvme-rdma', '--machine', copy]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(
      /^peerbuf: .*sys-epyc-2s: whether 0000:.* reaches 0000:.* depends on the CPU; .*--cpu.*\n$/,
    );
  });

  test('takes its CPU from a file, too', async () => {
    const text = 'processor : 0\nvendor_id : AuthenticAMD\ncpu family : 25\nmodel : 1\n';
    const cpu = folder.file('cpuinfo', text);
    expect(await resultOf('--machine', copyOf('epyc-2s'), '--cpu', cpu)).toContain('stored');
  });

  test('takes its IOMMU from a command line, as text or from a file', async () => {
    const copy = copyOf('epyc-2s');
    const iommuWith = async (cmdline: string): Promise<string> => {
      const { out } = await cli(['machine', copy, '--cmdline', cmdline]);
      return /IOMMU (\w+)/.exec(out)?.[1] ?? '';
    };
    expect(await iommuWith('iommu=pt amd_iommu=on quiet')).toBe('passthrough');
    expect(await iommuWith(folder.file('cmdline', 'iommu=pt amd_iommu=on\n'))).toBe('passthrough');
    expect(await iommuWith('quiet')).not.toBe('passthrough');
  });

  test('repeats a run with all that was said of it', async () => {
    const copy = copyOf('epyc-2s');
    const story = join(import.meta.dirname, 'stories/get-instead-of-try-get.ts');
    const options = ['--machine', copy, '--cpu', 'AuthenticAMD:25:1', '--cmdline', 'iommu=pt'];
    const wishes = ['--cast', 'nvme-drive=0000:a1:00.0'];
    const { out } = await cli(['check', story, ...options, ...wishes, '--schedules', '200']);
    const [, replay = ''] = /^ {2}peerbuf (run .*)$/m.exec(out) ?? [];
    expect(replay).toContain([...options, ...wishes].join(' '));
    const again = await cli(replay.split(' '));
    expect(again.code).toBe(1);
    expect(again.out).toContain('nvme-drive is 0000:a1:00.0');
  });
});

describe('A machine whose ACS could not be seen', () => {
  const blind = seenByUser('server-switch');

  test('is refused in one line that says what to do', async () => {
    const { code, err } = await cli(['run', 'spdk-nvme-rdma', '--machine', blind]);
    expect(code).toBe(2);
    expect(err).toBe(
      `peerbuf: ${blind}: 0000:05:00.0: its ACS could not be seen when the machine was captured: ` +
        'capture it as root, or say --assume-acs clear or --assume-acs redirect\n',
    );
  });

  test('plays as --assume-acs says', async () => {
    const plays = (acs: string): Promise<string> =>
      resultOf('--machine', blind, '--assume-acs', acs);
    expect(await plays('clear')).toBe('stored and read back, bus-address');
    expect(await plays('redirect')).toBe('refused');
  });
});

describe('A name', () => {
  test('is a preset first; with a slash in it, a path', async () => {
    const mine = folder.file('desktop', machineSpecToJson({ ...preset('epyc-2s'), name: 'mine' }));
    const { out } = await cli(['machine', mine]);
    expect(out.startsWith('mine: ')).toBe(true);
    expect((await cli(['machine', 'desktop'])).out.startsWith('desktop: ')).toBe(true);
  });
});

describe('An option that is of no use', () => {
  test.each([
    [['--cpu', 'AuthenticAMD:25:1'], '--cpu is not used: desktop says its own'],
    [['--cmdline', 'quiet'], '--cmdline is for captures; desktop is none'],
    [['--assume-acs', 'clear'], '--assume-acs is not used: desktop knows its ACS'],
  ])('%j is told in one line', async (options, note) => {
    const { code, err } = await cli(['machine', 'desktop', ...options]);
    expect({ code, err }).toEqual({ code: 0, err: `peerbuf: note: ${note}\n` });
  });

  test('a CPU that is the same is none', async () => {
    const { err } = await cli(['machine', 'desktop', '--cpu', cpuOf('desktop')]);
    expect(err).toBe('');
  });
});

describe('peerbuf machine', () => {
  test.each(PRESETS.map(({ name }) => name))('shows %s whole, in 80 columns', async (name) => {
    const { code, out, err } = await cli(['machine', name], { columns: 80 });
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(Math.max(...out.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
    for (const { address } of preset(name).functions) {
      expect(out).toMatch(new RegExp(`[├└]─ ${address}  \\w`));
    }
    expect(out).toMatch(/\n0000:\S+ {2}0000:\S+ {2}(bus-address|host-bridge|not-supported)\b/);
  });

  test('marks ports that redirect, and says what would help', async () => {
    const { out } = await cli(['machine', 'server-switch-acs']);
    expect(out).toMatch(/0000:02:01\.0 {2}switch, downstream port .*, ACS redirects/);
    expect(out).toContain('What would help: boot with pci=disable_acs_redir=');
  });

  test('shows the notes of a capture', async () => {
    const listing = folder.file('lspci.txt', lspciOfMachine(preset('server-switch')));
    const { out } = await cli(['machine', listing]);
    expect(out).toMatch(/\nNotes\n- /);
    expect(out).toContain('what Linux believes');
  });

  test('--spec prints a machine that can be read again', async () => {
    const { out } = await cli(['machine', 'epyc-2s', '--spec']);
    expect(parseMachineSpec(out, 'out')).toEqual(preset('epyc-2s'));
    for (const bytes of [out, gzipSync(out)]) {
      const path = folder.file('edited', bytes);
      expect((await cli(['machine', path, '--spec'])).out).toBe(out);
    }
  });

  test('--spec of a capture keeps what was assumed of it', async () => {
    const copy = copyOf('epyc-2s');
    const { out } = await cli(['machine', copy, '--cpu', cpuOf('epyc-2s'), '--spec']);
    const spec = parseMachineSpec(out, 'out');
    expect(spec.hostBridges.every(({ peerForwarding }) => peerForwarding === 'all')).toBe(true);
    expect((await cli(['machine', folder.file('kept.json', out), '--spec'])).out).toBe(out);
  });

  test('--json has functions and pairs', async () => {
    const { out } = await cli(['machine', 'server-switch-acs', '--json']);
    const shown = JSON.parse(out) as {
      readonly functions: readonly { readonly bdf: string; readonly acsRedirects: boolean }[];
      readonly pairs: readonly Readonly<Record<string, unknown>>[];
    };
    expect(shown).toMatchObject({ schema: 'peerbuf.machine-report/1', kind: 'preset', notes: [] });
    expect(shown.functions).toHaveLength(preset('server-switch-acs').functions.length);
    expect(shown.functions.some(({ acsRedirects }) => acsRedirects)).toBe(true);
    expect(shown.pairs[0]).toMatchObject({
      provider: '0000:05:00.0',
      client: '0000:04:00.0',
      verdict: 'not-supported',
      distance: null,
    });
  });
});

describe('A machine with very many devices', () => {
  const path = folder.file(
    'many.json',
    machineSpecToJson(generateFabric({ seed: 1, endpoints: 1000 })),
  );

  test('shows some of its pairs, and says how many there are', async () => {
    const { out } = await cli(['machine', path]);
    const [, more = ''] = /\nand (\d+) more; --json has up to 100000\n/.exec(out) ?? [];
    const { out: json } = await cli(['machine', path, '--json']);
    const shown = JSON.parse(json) as {
      readonly pairCount: number;
      readonly pairs: readonly unknown[];
    };
    expect(shown.pairCount).toBe(Number(more) + 40);
    expect(shown.pairs).toHaveLength(100_000);
  });
});

describe('peerbuf machines', () => {
  test('lists every preset', async () => {
    for (const columns of [80, 120]) {
      const { out } = await cli(['machines'], { columns });
      for (const { name } of PRESETS) expect(out).toMatch(new RegExp(`^${name} `, 'm'));
      expect(Math.max(...out.split('\n').map((line) => line.length))).toBeLessThanOrEqual(columns);
    }
  });

  test('--json says which stories each has the devices for', async () => {
    const { out } = await cli(['machines', '--json']);
    const machines = JSON.parse(out) as readonly { readonly stories: readonly string[] }[];
    expect(machines).toHaveLength(PRESETS.length);
    for (const { stories } of machines) expect(stories).toEqual(SCENARIOS.map(({ id }) => id));
  });
});

describe('peerbuf stories', () => {
  test('lists every story, and with --long what happens in it', async () => {
    const { out: short } = await cli(['stories']);
    const { out: long } = await cli(['stories', '--long']);
    for (const { id, story } of SCENARIOS) {
      const [words = ''] = story.match(/^(\S+ ){5}/) ?? [];
      expect(short).toMatch(new RegExp(`^${id} `, 'm'));
      expect([short.includes(words), long.includes(words)]).toEqual([false, true]);
    }
  });

  test('--json has all of it', async () => {
    const { out } = await cli(['stories', '--json']);
    expect((JSON.parse(out) as readonly unknown[]).length).toBe(SCENARIOS.length);
    expect(JSON.parse(out)).toMatchObject(
      SCENARIOS.map(({ id, title, story, machine, roles }) => ({
        id,
        title,
        story,
        machine,
        roles,
      })),
    );
  });
});

describe('A machine without the devices', () => {
  test('leaves stories out of a check of all, and says so', async () => {
    const functions = preset('desktop').functions.filter(
      ({ address }) => address !== '0000:02:00.0',
    );
    const path = folder.file('bare.json', machineSpecToJson({ ...preset('desktop'), functions }));
    const { code, out, err } = await cli(['check', '--machine', path, '--schedules', '2']);
    expect(code).toBe(0);
    expect(out).toContain('vfio-close-races-reset');
    expect(out).not.toContain('spdk-nvme-rdma');
    expect(
      err.match(/^peerbuf: note: spdk-.* is left out: .* lacks devices for it$/gm),
    ).toHaveLength(3);
    const named = await cli(['check', 'spdk-nvme-rdma', '--machine', path]);
    expect(named.code).toBe(2);
    expect(named.err).toContain('the story needs a network card (class 02)');
  });

  test('is refused if it has the devices of no story', async () => {
    const functions = preset('desktop').functions.filter(({ classCode }) => classCode !== 0x010802);
    const path = folder.file('none.json', machineSpecToJson({ ...preset('desktop'), functions }));
    const { code, err } = await cli(['check', '--machine', path]);
    expect({ code, err }).toEqual({
      code: 2,
      err: `peerbuf: ${path}: it has the devices of no story\n`,
    });
    expect(readFileSync(path, 'utf8')).toContain('"desktop"');
  });
});
