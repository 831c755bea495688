/**
 * Goal: whatever is wrong with a command line, the user reads one line that says what, and the
 * shell sees 2. Method: a table of wrong lines.
 */

import { describe, expect, test } from 'vitest';
import { cli, Folder, storyPath } from './command-line.ts';

const STORIES =
  'spdk-nvme-rdma, spdk-reset-during-traffic, spdk-exits-during-traffic, vfio-close-races-reset';
const PRESETS =
  'desktop, server-switch, server-switch-acs, epyc-2s, icelake-2s, arm-soc, workstation-zen';
const RACE = 'vfio-close-races-reset';

const folder = new Folder();
const written = (name: string, text: string): string => folder.file(name, text);

const WRONG: readonly (readonly [line: string, error: string])[] = [
  ['chek', "unknown command 'chek' (Did you mean check?)"],
  ['run', "missing required argument 'story'"],
  ['machines desktop', "too many arguments for 'machines'. Expected 0 arguments but got 1."],
  ['check --sceed 3', "unknown option '--sceed' (Did you mean --seed?)"],
  [`run ${RACE} --seed`, "option '--seed <n>' argument missing"],
  ['run no-such-story', `no-such-story: expected a story (${STORIES}) or a path to a module`],
  ['run ./no-such.ts', './no-such.ts: expected a module, found no file'],
  ['check no-such-story', `no-such-story: expected a story (${STORIES}) or a path to a module`],
  [`run ${RACE} --seed x`, '--seed: expected an integer of 0 to 9007199254740991, got "x"'],
  [`run ${RACE} --seed=-1`, '--seed: expected an integer of 0 to 9007199254740991, got "-1"'],
  [`run ${RACE} --seed 1e3`, '--seed: expected an integer of 0 to 9007199254740991, got "1e3"'],
  [
    `run ${RACE} --seed 9007199254740992`,
    '--seed: expected an integer of 0 to 9007199254740991, got "9007199254740992"',
  ],
  [`run ${RACE} --strategy round-robin --seed 1`, '--seed: it goes with --strategy random only'],
  [
    `run ${RACE} --strategy dfs`,
    '--strategy: expected round-robin, random or a schedule that begins with s1-, got "dfs"',
  ],
  [`run ${RACE} --strategy s1-!`, '--strategy: letter 4: not of base64url: !'],
  [`run ${RACE} --strategy s1-AQ`, '--strategy: byte 2: a number of steps is cut off'],
  [
    `run ${RACE} --machine none`,
    `none: expected a preset (${PRESETS}), a file or a directory, found none`,
  ],
  [`run ${RACE} --machine ./desktop`, './desktop: expected a file or directory, found none'],
  [
    `run ${RACE} --cpu Intel`,
    '--cpu: expected VENDOR:FAMILY[:MODEL], as in --cpu AuthenticAMD:25:1, or a file, got "Intel"',
  ],
  [
    `run ${RACE} --cpu ${written('cpu', 'fast')}`,
    'cpu: expected /proc/cpuinfo or the output of lscpu',
  ],
  [`run ${RACE} --cmdline ./none`, './none: expected a file with a kernel command line'],
  [`run ${RACE} --assume-acs on`, '--assume-acs: expected clear or redirect, got "on"'],
  [
    `run ${RACE} --cast drive=05:00.0`,
    '--cast: expected ROLE=ADDRESS, ROLE being nvme-drive or network-card, ADDRESS as in ' +
      '0000:41:00.0, got "drive=05:00.0"',
  ],
  [`run ${RACE} --cast network-card=04:00.0`, '--cast: network-card: the story has no such role'],
  [
    `run ${RACE} --cast nvme-drive=05:00.0 --cast nvme-drive=06:00.0`,
    '--cast: nvme-drive: it is given twice',
  ],
  [
    `run ${RACE} --cast nvme-drive=09:00.0`,
    'server-switch: 0000:09:00.0: there is no such function',
  ],
  [
    `run ${RACE} --cast nvme-drive=04:00.0`,
    'server-switch: 0000:04:00.0: it cannot play nvme-drive: expected an NVMe drive (class 0108) ' +
      'with a memory BAR0 of at least 16 KiB',
  ],
  [
    `run ${RACE} --trace ./a --perfetto ./a`,
    '--perfetto: expected another file than that of --trace',
  ],
  [
    `run ${RACE} --trace /proc/none/trace`,
    '/proc/none/trace: expected to be allowed to write it, found ENOENT',
  ],
  ['check --schedules 0', '--schedules: expected an integer of 1 to 100000000, got "0"'],
  [
    'check --seed 9007199254740991',
    '--seed: expected an integer of 0 to 9007199254739991, got "9007199254740991"',
  ],
  ['machine', "missing required argument 'machine'"],
  [
    `run ${written('none.mjs', '')}`,
    'none.mjs: default export: expected a story, as defineScenario returns it',
  ],
  [
    `run ${storyPath('two-locks.ts')} --cast nvme-drive=04:00.0`,
    '--cast: nvme-drive: the story has no such role',
  ],
];

describe('A wrong command line', () => {
  test.each(WRONG)('%s', async (line, error) => {
    const { code, out, err } = await cli(line.split(' '));
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err.replaceAll(`${folder.path}/`, '')).toBe(`peerbuf: ${error}\n`);
  });
});

describe('A schedule of another story', () => {
  test('is refused where it leaves the way, with who could have gone', async () => {
    const { code, out, err } = await cli(['run', RACE, '--strategy', 's1-YwE']);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(
      /^peerbuf: --strategy: step 1: actor 99 cannot go here, only .*resetter.*another story.*\n$/,
    );
  });
});

describe('A command line without a command', () => {
  test('gets the help on stderr', async () => {
    const { code, out, err } = await cli([]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain('Usage: peerbuf [options] [command]');
  });
});

describe('Help', () => {
  const commands = ['run', 'check', 'stories', 'machines', 'machine'];

  test.each([['--help'], ...commands.map((name) => [name, '--help'])])('%s %s', async (...argv) => {
    const { code, out, err } = await cli(argv.filter((word) => word !== undefined));
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(/Examples?:\n {2}peerbuf /);
    expect(out.split('\n').every((line) => line.length <= 120)).toBe(true);
  });

  test('names every command with what it does', async () => {
    const { out } = await cli(['--help']);
    for (const name of commands) expect(out).toMatch(new RegExp(`^ {2}${name} .* {2}\\w+`, 'm'));
  });

  test('--version prints the version of the package', async () => {
    expect(await cli(['--version'])).toEqual({ code: 0, out: '0.1.0\n', err: '' });
  });
});

describe('--verbose', () => {
  test('shows the stack of an error, and nothing else does', async () => {
    const { err: short } = await cli(['run', 'nothing']);
    const { code, err } = await cli(['run', 'nothing', '--verbose']);
    expect(code).toBe(2);
    expect(err.startsWith(short)).toBe(true);
    expect(err).toContain('story-source.ts');
    expect(short).not.toContain('story-source.ts');
  });
});
