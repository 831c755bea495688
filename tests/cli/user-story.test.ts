/**
 * Goal: a user's own story runs as a built-in one does, and what is wrong with its module is one
 * line. Method: modules that are right, wrong and broken.
 */

import { describe, expect, test } from 'vitest';
import { cli, Folder, storyPath } from './command-line.ts';

const folder = new Folder();
const STORY = {
  id: 'mine',
  title: 'mine',
  story: 'Nothing happens.',
  machine: 'desktop',
  roles: [],
};

/** A module whose default export has these fields, and a boot that does `boot`. */
function moduleOf(
  name: string,
  fields: object,
  boot = "return { conclude: () => 'well' };",
): string {
  const text = JSON.stringify(fields).slice(0, -1);
  return folder.file(`${name}.mjs`, `export default ${text}, boot() { ${boot} } };\n`);
}

describe("A user's story", () => {
  test('runs', async () => {
    const path = moduleOf('well', STORY);
    const { code, out } = await cli(['run', path]);
    expect(code).toBe(0);
    expect(out).toContain('mine: mine\n');
    expect(out).toContain('Ends well after 0 steps: well\n');
    expect((await cli(['check', path, '--schedules', '3'])).code).toBe(0);
  });

  test('with a mistake leaves with 1, a finding, and the command that shows it again', async () => {
    const path = storyPath('two-locks.ts');
    const { code, out } = await cli(['run', path]);
    expect(code).toBe(1);
    expect(out).toMatch(/Goes wrong after \d+ steps: 1 finding\n {2}deadlock at step \d+: /);
    const [, replay = ''] = /^To see it again:\n {2}peerbuf (run .*)$/m.exec(out) ?? [];
    expect(replay).toMatch(/^run .*two-locks\.ts --machine desktop --strategy s1-[\w-]+$/);
    const again = await cli(replay.split(' '));
    const withoutStrategy = (text: string): string => text.replace(/^strategy .*$/m, '');
    expect(withoutStrategy(again.out)).toBe(withoutStrategy(out));
    expect(again.code).toBe(1);
  });

  test('names party and step of a finding', async () => {
    const bug = storyPath('get-instead-of-try-get.ts');
    const { out } = await cli(['check', bug, '--schedules', '100']);
    expect(out).toMatch(/\n {2}warn by \w[\w ]* at step \d+: \S/);
  });

  test('runs on any machine', async () => {
    const path = moduleOf('anywhere', { ...STORY, roles: ['nvme-drive'] });
    const { code, out } = await cli(['run', path, '--machine', 'epyc-2s']);
    expect(code).toBe(0);
    expect(out).toContain('nvme-drive is 0000:21:00.0');
  });
});

describe("A user's module", () => {
  const bad = (name: string, change: object): string => moduleOf(name, { ...STORY, ...change });
  const written = (name: string, text: string): string => folder.file(name, text);

  test.each([
    [written('empty.mjs', ''), 'default export: expected a story, as defineScenario returns it'],
    [
      written('number.mjs', 'export default 7;'),
      'default export: expected a story, as defineScenario returns it',
    ],
    [bad('no-title', { title: '' }), 'title: expected a text'],
    [bad('no-story', { story: 7 }), 'story: expected a text'],
    [bad('no-machine', { machine: null }), 'machine: expected a text'],
    [bad('bad-id', { id: 'Mine!' }), 'id: expected a name in kebab-case'],
    [bad('bad-roles', { roles: ['gpu'] }), 'roles: expected a list of nvme-drive and network-card'],
    [
      written('no-boot.mjs', `export default ${JSON.stringify(STORY)};`),
      'boot: expected a function',
    ],
    [
      written('throws.mjs', "throw new TypeError('at load\\nand more');"),
      'it cannot be loaded: TypeError: at load and more',
    ],
    [moduleOf('fails', STORY, "throw new RangeError('in boot');"), 'it fails: RangeError: in boot'],
    [
      moduleOf('fails-late', STORY, "return { conclude() { throw 'a text'; } };"),
      'it fails: a text',
    ],
  ])('%s is refused in one line', async (path, problem) => {
    for (const command of ['run', 'check']) {
      const { code, out, err } = await cli([command, path]);
      expect({ code, out, err }).toEqual({
        code: 2,
        out: '',
        err: `peerbuf: ${path}: ${problem}\n`,
      });
    }
  });

  test('that is no JavaScript is refused in one line', async () => {
    const path = written('broken.mjs', 'export default {');
    const { code, out, err } = await cli(['run', path]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(/^peerbuf: .*broken\.mjs: it cannot be loaded: .*\n$/);
  });

  test('that rolls dice of its own is found out', async () => {
    const path = moduleOf('dice', STORY, 'return { conclude: () => String(Math.random()) };');
    const { code, err } = await cli(['check', path]);
    expect(code).toBe(2);
    expect(err).toContain('mine is decided by the schedule alone: seed 1 went two ways');
  });

  test('shows with --verbose where it fails', async () => {
    const path = moduleOf('deep', STORY, "throw new RangeError('in boot');");
    const { err } = await cli(['run', path, '--verbose']);
    expect(err).toMatch(/caused by RangeError: in boot\n\s+at .*boot/);
  });
});
