/**
 * Goal: the program as users run it has the right exit codes, streams and bytes. Method: real
 * processes.
 */

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { create } from 'tar';
import { describe, expect, test } from 'vitest';
import { findPreset } from '../../src/machine/index.ts';
import { sysfsOfMachine } from '../doctor/sysfs-of-machine.ts';
import { cliProcess, Folder, shell, storyPath } from './command-line.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const folder = new Folder();
const pathOf = (name: string): string => join(folder.path, name);

/** Bytes that look random, and are the same every time. */
function noise(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  let state = 1;
  for (let at = 0; at < size; at += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[at] = state >>> 16;
  }
  return bytes;
}

/** A tar archive with the copy of a preset's /sys. */
function archive(): Buffer {
  const preset = findPreset('epyc-2s') ?? expect.fail('the preset is there');
  const cwd = folder.tree('box', sysfsOfMachine(preset, { hasLinks: true, hasSpeeds: true }));
  create({ sync: true, cwd, file: pathOf('box.tar') }, ['sys']);
  return readFileSync(pathOf('box.tar'));
}

describe('The same seed', () => {
  test('gives the same bytes in two processes', () => {
    const line = ['run', 'spdk-reset-during-traffic', '--seed', '42', '--all'];
    const files = (name: string) => ['--trace', pathOf(name), '--perfetto', pathOf(`${name}.json`)];
    const [one, other] = ['one', 'other'].map((name) => cliProcess([...line, ...files(name)]));
    expect(one?.code).toBe(0);
    expect(other).toEqual(one);
    for (const end of ['', '.json']) {
      expect(readFileSync(pathOf(`other${end}`))).toEqual(readFileSync(pathOf(`one${end}`)));
    }
  });
});

describe('The printed command', () => {
  test('shows the failure again when pasted into a shell', () => {
    const first = cliProcess([
      'check',
      storyPath('get-instead-of-try-get.ts'),
      '--schedules',
      '200',
    ]);
    expect(first.code).toBe(1);
    const [, title = ''] = /^ {2}(warn by .* at step \d+: .{30})/m.exec(first.out) ?? [];
    const [, replay = ''] = /^ {2}(peerbuf run .*)$/m.exec(first.out) ?? [];
    const again = shell(replay);
    expect(again.code).toBe(1);
    expect(again.out).toContain(title);
  });
});

describe('A damaged capture', () => {
  const whole = archive();
  const line = ['run', 'vfio-close-races-reset', '--machine'];

  test('that is whole is read', () => {
    const { code, err } = cliProcess([...line, pathOf('box.tar'), '--cpu', 'AuthenticAMD:25:1']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
  });

  test.each([
    ['a truncated archive', folder.file('cut.tar', whole.subarray(0, whole.length / 2))],
    ['a truncated gzip', folder.file('cut.tar.gz', gzipSync(whole).subarray(0, 3000))],
    ['random bytes', folder.file('noise', noise(5000))],
    ['ten megabytes of garbage', folder.file('much', noise(10 * 2 ** 20))],
    ['an empty file', folder.file('empty', '')],
    ['half a machine', folder.file('half.json', '{"schema": "peerbuf.machine/1", "name":')],
    ['no file', pathOf('missing.tar')],
    ['a folder without sys', folder.tree('without', [])],
    ['a device', '/dev/zero'],
  ])('such as %s is one line', (_, path) => {
    const { code, out, err } = cliProcess([...line, path]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(/^peerbuf: [^\n]*expected[^\n]*\n$/);
  });
});

describe('A process', () => {
  test('prints no colour into a pipe unless forced to, and none with NO_COLOR', () => {
    const line = ['run', 'vfio-close-races-reset'];
    expect(cliProcess(line).out).not.toContain('\u001b');
    expect(cliProcess(line, { FORCE_COLOR: '1' }).out).toContain('\u001b[');
    expect(cliProcess(line, { FORCE_COLOR: '1', NO_COLOR: '1' }).out).not.toContain('\u001b');
  });

  test('ends quietly when nobody reads on', () => {
    const line = 'peerbuf run spdk-reset-during-traffic --json --seed 1 --all --verbose';
    const { out, err } = shell(`(${line}; ${line.replace('--json', '')}) | head -n 1`);
    expect(err).toBe('');
    expect(out.split('\n')).toHaveLength(2);
  });

  test('leaves as if by SIGPIPE when nobody reads at all', async () => {
    const line = ['--import', 'tsx', 'src/cli/main.ts', 'stories', '--long'];
    const child = spawn(process.execPath, line, { cwd: ROOT });
    child.stdout.destroy();
    let err = '';
    child.stderr.on('data', (bytes: Buffer) => {
      err += bytes.toString();
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect({ code, err }).toEqual({ code: 141, err: '' });
  });

  test('stops at Ctrl-C with what it has so far', async () => {
    const story = folder.file(
      'endless.mjs',
      `let isFirst = true;
      export default {
        id: 'endless', title: 'x', story: 'x', machine: 'desktop', roles: [],
        boot() {
          if (isFirst) process.stderr.write('booted\\n');
          isFirst = false;
          return { conclude: () => 'well' };
        },
      };`,
    );
    const main = ['--import', 'tsx', 'src/cli/main.ts'];
    const line = ['check', story, '--schedules', '100000000', '--json'];
    const child = spawn(process.execPath, [...main, ...line], { cwd: ROOT });
    let [out, err] = ['', ''];
    child.stdout.on('data', (bytes: Buffer) => {
      out += bytes.toString();
    });
    child.stderr.on('data', (bytes: Buffer) => {
      err += bytes.toString();
      if (err === 'booted\n') child.kill('SIGINT');
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect(err).toBe('booted\npeerbuf: interrupted: 1 of 1 stories begun\n');
    expect(code).toBe(130);
    expect(JSON.parse(out)).toMatchObject([{ scenario: 'endless', verdict: 'clean' }]);
  });
});
