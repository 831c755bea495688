/** Goal: what is printed can be pasted into a shell. Method: a shell. */

import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { replayCommand } from '../../src/cli/replay-command.ts';

const RUN = { story: 'a', options: [], schedule: 's1-AB', strategy: ['--strategy', 'random'] };

/** The words that a shell makes of a line. */
function wordsOf(line: string): readonly string[] {
  const script = `peerbuf() { printf '%s\\n' "$@"; }; ${line}`;
  return execFileSync('sh', ['-c', script], { encoding: 'utf8' }).trimEnd().split('\n');
}

describe('replayCommand', () => {
  test('is the plain line where nothing needs quotes', () => {
    const options = ['--machine', './box.tar.gz', '--cpu', 'AuthenticAMD:25:1'];
    expect(replayCommand({ ...RUN, options })).toBe(
      'peerbuf run a --machine ./box.tar.gz --cpu AuthenticAMD:25:1 --strategy s1-AB',
    );
  });

  test('comes out of a shell as it went in', () => {
    const options = ['--cmdline', `iommu=pt quiet "x" $HOME 'y' * ; \\`, '--machine', '~/my box'];
    expect(wordsOf(replayCommand({ ...RUN, options }))).toEqual([
      'run',
      'a',
      ...options,
      '--strategy',
      's1-AB',
    ]);
  });

  test('names the strategy where the schedule is longer than an argument may be', () => {
    const schedule = `s1-${'A'.repeat(100_000)}`;
    expect(replayCommand({ ...RUN, schedule })).toBe('peerbuf run a --strategy random');
  });
});
