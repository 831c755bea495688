/**
 * Goal: whatever programs do with descriptors, maps, messages and children, no reference and no
 * page is left when they have ended, and the kernel has nothing to complain of. Method: random
 * programs in random schedules.
 */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isDmaBufError, MAP, O, PAGE_SIZE, PROT, type UserAddr } from '../../src/base/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { type KernelFile, MSG, type Sys } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { bytesOf, FAKE, SysRig } from './sys-rig.ts';

type Op = readonly [kind: number, one: number, other: number];

const OPS: fc.Arbitrary<readonly Op[]> = fc.array(
  fc.tuple(fc.nat({ max: 13 }), fc.nat({ max: 8 }), fc.nat({ max: 8 })),
  { minLength: 3, maxLength: 25 },
);

/** What a program remembers, and hands to its children. */
interface Memory {
  readonly maps: UserAddr[];
  readonly depth: number;
  /** By kind, how often it went well. */
  readonly done: number[];
}

function* attempt(sys: Sys, [kind, one, other]: Op, memory: Memory): Task {
  const fd = 3 + one;
  const at = memory.maps[other % Math.max(memory.maps.length, 1)] ?? (0x1000 as UserAddr);
  const map = { length: PAGE_SIZE * 2, fd, offset: 0 };
  switch (kind) {
    case 0:
      yield* sys.open(FAKE, O.RDWR);
      return;
    case 1:
      yield* sys.dup(fd);
      return;
    case 2:
    case 3:
      yield* sys.close(fd);
      return;
    case 4:
      yield* sys.ftruncate(yield* sys.memfdCreate('random', 2), 2 * PAGE_SIZE);
      return;
    case 5:
      memory.maps.push(yield* sys.mmap({ ...map, prot: PROT.WRITE, flags: MAP.SHARED }));
      return;
    case 6:
      memory.maps.push(yield* sys.mmap({ ...map, prot: PROT.WRITE, flags: MAP.PRIVATE }));
      return;
    case 7:
      memory.maps.push(yield* sys.alloc(PAGE_SIZE));
      return;
    case 8:
      yield* sys.munmap(at, 2 * PAGE_SIZE);
      return;
    case 9:
      yield* sys.store(at, bytesOf('x'.repeat(PAGE_SIZE + 1)));
      return;
    case 10:
      yield* sys.socketpair();
      return;
    default:
      yield* attemptMore(sys, [kind, one, other], memory);
  }
}

function* attemptMore(sys: Sys, [kind, one, other]: Op, { maps, depth, done }: Memory): Task {
  switch (kind) {
    case 11:
      // Sockets are not sent: those that hold each other are not collected.
      if ((yield* sys.fstatfs(3 + other)) === 0x534f434b) return;
      yield* sys.sendmsg(4 + (one % 2), bytesOf('x'), [3 + other]);
      return;
    case 12:
      yield* sys.recvmsg(4 + (one % 2), 1, other % 3, MSG.DONTWAIT);
      return;
    default:
      if (depth > 1) return;
      yield* sys.fork((child) => {
        const ops: Op[] = [9, 5, 1, 2, 8, 11, 12].map((next) => [next, one, other]);
        return run(child, ops, { maps: [...maps], depth: depth + 1, done });
      });
  }
}

function* run(sys: Sys, ops: readonly Op[], memory: Memory): Task {
  for (const op of ops) {
    try {
      yield* attempt(sys, op, memory);
      memory.done[op[0]] = (memory.done[op[0]] ?? 0) + 1;
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
    }
  }
}

function* main(sys: Sys, ops: readonly Op[], done: number[]): Task {
  // So that later calls find something: 3 a file, 4 and 5 sockets, 6 a memfd.
  const first: Op[] = [0, 10, 4, 7].map((kind) => [kind, 0, 0]);
  yield* run(sys, [...first, ...ops], { maps: [], depth: 0, done });
  yield* sys.exit(0);
}

test('random programs leave no reference, no page and no complaint', () => {
  const done: number[] = [];
  fc.assert(
    fc.property(OPS, fc.nat({ max: 1000 }), (ops, seed) => {
      const rig = new SysRig();
      const files: KernelFile[] = [];
      rig.addNode({ *mmap() {} });
      const node = rig.kernel.nodes.find(FAKE) ?? expect.fail('a node');
      const { open } = node;
      node.open = function* (process, mode) {
        const file = yield* open(process, mode);
        files.push(file);
        return file;
      };
      const before = rig.machine.memory.pagesInUse;
      rig.thread(main(rig.sys, ops, done), 'main');
      const { status, findings } = rig.run(new RandomStrategy(seed));
      expect({ status, findings }).toEqual({ status: 'done', findings: [] });
      expect(files.map(({ refs }) => refs.value)).toEqual(files.map(() => 0));
      expect(rig.released).toBe(files.length);
      expect(rig.machine.memory.pagesInUse).toBe(before);
    }),
    { numRuns: 300 },
  );
  // Each kind of call went well often enough to be of worth.
  expect(Math.min(...Array.from({ length: 14 }, (_, kind) => done[kind] ?? 0))).toBeGreaterThan(5);
});
