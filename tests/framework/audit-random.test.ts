/**
 * Goal: whatever two threads of a program do with one buffer and its fences, in any order, nothing
 * is left when the program has ended: no reference to a fence, no slot, no buffer, no warning.
 * Method: random calls on random schedules; reference A.5, A.9, A.16, B.5, B.6.
 */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isDmaBufError } from '../../src/base/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { POLLIN, POLLOUT } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { AuditRig, type Timelines } from './audit-rig.ts';

type Op = readonly [kind: number, one: number, other: number];

const OP = fc.tuple(fc.nat({ max: 8 }), fc.nat({ max: 2 }), fc.nat({ max: 2 }));
const PROGRAM = fc.array(OP, { minLength: 1, maxLength: 12 });

interface World {
  readonly rig: AuditRig;
  readonly fd: number;
  readonly lines: Timelines;
  /** Sync files that calls have made. */
  readonly made: number[];
}

/** One call; it may be refused. */
function* attempt({ rig, fd, lines, made }: World, [kind, one, other]: Op): Task {
  const line = lines[one] ?? lines[0];
  switch (kind) {
    case 0:
      yield* rig.importSync(fd, 1 + other, line.point);
      return;
    case 1:
      yield* rig.importSync(fd, 1 + other, made.at(-1 - one) ?? line.point);
      return;
    case 2:
      made.push(yield* rig.exportSync(fd, 1 + other));
      return;
    case 3:
      made.push(yield* rig.merge(made.at(-1 - other) ?? line.point, line.point));
      return;
    case 4:
      yield* rig.ready(fd, [POLLIN, POLLOUT, POLLIN | POLLOUT][other] ?? 0);
      return;
    case 5:
      yield* rig.ready(made.at(-1 - one) ?? line.point, POLLIN);
      return;
    case 6:
      yield* rig.goOn(line.timeline);
      return;
    case 7:
      yield* rig.sys.close(other === 0 ? fd : (made.pop() ?? line.point));
      return;
    default:
      yield* rig.sys.close(line.timeline);
  }
}

function* thread(world: World, ops: readonly Op[]): Task {
  for (const op of ops) {
    try {
      yield* attempt(world, op);
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      // What the other thread has closed is not open; nothing else may be wrong.
      expect(['EBADF', 'EINVAL', 'ENOENT', 'ENOTTY']).toContain(error.code);
    }
  }
}

test('two threads with a buffer and fences leave nothing, in any order (A.5, A.9, A.16)', () => {
  fc.assert(
    fc.property(PROGRAM, PROGRAM, fc.nat({ max: 1000 }), (ops, others, seed) => {
      const rig = new AuditRig();
      function* boot(): Task<World> {
        const fd = yield* rig.buffer();
        return { rig, fd, lines: yield* rig.timelines(3), made: [] };
      }
      const world = rig.do(boot());
      rig.user(thread(world, ops), 'one');
      rig.user(thread(world, others), 'other');
      expect(rig.run(new RandomStrategy(seed)).status).toBe('done');
      rig.leavesNothing();
    }),
    { numRuns: 300 },
  );
});
