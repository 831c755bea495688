/**
 * Goal: whatever numbers a program puts into an ioctl of any device, it gets an error number or
 * what it asked for; the kernel stays whole, and a call that failed has changed nothing. Method:
 * random requests, pointers, words and descriptors of other kinds, on every node; all that can be
 * counted is compared around each call that fails, and all must be gone with the program.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  F,
  F_SEAL,
  isDmaBufError,
  MFD,
  O,
  PAGE_SIZE,
  type UserAddr,
} from '../../src/base/index.ts';
import type { ModelSys } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { EveryDriver, NODES, NOTHING, SIZE } from './every-driver-rig.ts';
import { Program } from './failure-program.ts';
import { type Files, type Target, TARGETS } from './hostile-targets.ts';

/** One call to be. */
interface Call {
  /** Which of the known requests, as a number that is taken modulo. */
  readonly which: number;
  /** Changes bits of direction and size, or all of the number. */
  readonly flip: number;
  readonly pointer: keyof typeof POINTERS;
  /** All of the argument; null: one that makes sense, but for {@link changes}. */
  readonly words: readonly Word[] | null;
  /** Words of it that are others, by number. */
  readonly changes: readonly (readonly [number, Word])[];
}

/** A word of an argument: a number, or one of the program's descriptors. */
type Word = number | { readonly fd: number };

/** Where the argument is, given two pages of the program's with nothing behind. */
const POINTERS = {
  good: (at: number) => at,
  odd: (at: number) => at + 3,
  'across pages': (at: number) => at + PAGE_SIZE - 5,
  'last byte': (at: number) => at + 2 * PAGE_SIZE - 1,
  'last word': (at: number) => at + 2 * PAGE_SIZE - 8,
  'behind all': (at: number) => at + 2 * PAGE_SIZE,
  null: () => 0,
  'first page': () => 8,
  'end of user space': () => 2 ** 47 - 4,
  kernel: () => 2 ** 63,
  'last of all': () => 2 ** 64 - 1,
  negative: () => -1,
} as const;

const number: fc.Arbitrary<number> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(0, 1, 2, 3, 4, 5, 7, 8, 9) },
  { weight: 1, arbitrary: fc.constantFrom(16, 24, 32, 40, 64, 4096, 8192, 0x1_0000) },
  { weight: 1, arbitrary: fc.constantFrom(0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff_f000) },
  { weight: 1, arbitrary: fc.constantFrom(O.CLOEXEC, O.CLOEXEC | O.RDWR, 0x1_0000, 0x5_000b) },
  { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
);
const word: fc.Arbitrary<Word> = fc.oneof(
  { weight: 4, arbitrary: number },
  { weight: 2, arbitrary: fc.record({ fd: fc.nat(31) }) },
);
const anyCall: fc.Arbitrary<Call> = fc.record({
  which: fc.nat(999),
  flip: fc.oneof(
    { weight: 15, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.constantFrom(0x8000_0000, 0x4000_0000, 0xc000_0000) },
    { weight: 1, arbitrary: fc.nat(0x3fff).map((size) => size << 16) },
    { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
  ),
  pointer: fc.oneof(
    { weight: 12, arbitrary: fc.constant('good' as const) },
    {
      weight: 4,
      arbitrary: fc.constantFrom(...(Object.keys(POINTERS) as (keyof typeof POINTERS)[])),
    },
  ),
  words: fc.oneof(
    { weight: 4, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.array(word, { minLength: 4, maxLength: 24 }) },
  ),
  changes: fc.array(fc.tuple(fc.nat(20), word), { maxLength: 2 }),
});

/** One of each kind of file. */
function* oneOfEach(program: Program, at: number): Task<Files> {
  const { sys } = program;
  const heap = yield* program.heap();
  const sync = yield* program.exportSync(heap);
  const memfd = yield* sys.memfdCreate('m', MFD.ALLOW_SEALING);
  yield* sys.ftruncate(memfd, SIZE);
  yield* sys.fcntl(memfd, F.ADD_SEALS, F_SEAL.SHRINK);
  // A udmabuf brings in what is missing, and it stays whatever comes of the buffer.
  yield* sys.write(memfd, at as UserAddr, SIZE);
  const device = yield* program.open(NODES.vfio);
  const vfio = yield* program.vfioExport(device);
  const all = [heap, sync, memfd, vfio, yield* program.heap(NODES.contiguous, PAGE_SIZE)];
  const paths = [NODES.card, NODES.iommu, NODES.udmabuf, NODES.probe, NODES.screen];
  for (const path of paths) all.push(yield* program.open(path));
  return {
    heap,
    sync,
    memfd,
    device,
    vfio,
    all: [...all, ...(yield* sys.socketpair()), 99, -1],
    at,
  };
}

/** What a failed call must leave as it is. */
function snapshot(rig: EveryDriver): unknown {
  const files = [...rig.process.fds.value].map(([fd, { file }]) => [fd, file?.refs.value]);
  const { vmas } = rig.process.mm;
  return { ...rig.counted(), files, pages: rig.machine.memory.pagesInUse, vmas: vmas.value.length };
}

function* tryCall(
  rig: EveryDriver,
  sys: ModelSys,
  fd: number,
  request: number,
  at: number,
): Task<string> {
  const before = snapshot(rig);
  try {
    yield* sys.ioctl(fd, request, at);
    return 'done';
  } catch (error) {
    if (!isDmaBufError(error)) throw error;
    yield* rig.kernel.returnToUser();
    expect(snapshot(rig), `${request.toString(16)}: ${error.code} ${error.reason}`).toEqual(before);
    return `${error.code} ${error.reason}`;
  }
}

/** Puts the words of an argument as far as memory reaches. */
function* put(sys: ModelSys, memory: UserAddr, at: number, bytes: Uint8Array): Task {
  const room = memory + 2 * PAGE_SIZE - at;
  if (at < memory || room <= 0) return;
  yield* sys.store(at as UserAddr, bytes.subarray(0, room));
}

/** Where `VIDIOC_CREATE_BUFS` is told the bytes of a plane. */
const SIZE_AT = 11;

/** The same, less: queues get their memory page by page, and gigabytes would take for ever. */
function bounded(words: readonly number[]): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(words, (value, i) => (i === SIZE_AT ? value & 0xffff : value));
}

/** The request of a call and its argument. */
function argument(target: Target, files: Files, call: Call): readonly [number, Uint8Array] {
  const { which, flip, words, changes } = call;
  const numberOf = (one: Word): number => {
    return typeof one === 'number' ? one : (files.all[one.fd % files.all.length] ?? -1);
  };
  if (words !== null) {
    const known = Object.values(target.requests);
    const request = (known[which % known.length] ?? 0) ^ flip;
    return [request >>> 0, new Uint8Array(bounded(words.map(numberOf)).buffer)];
  }
  const seeds = target.seeds(files);
  const [request, bytes] = seeds[which % seeds.length] ?? expect.fail('a seed');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (const [at, word] of changes) {
    const value = at === SIZE_AT ? numberOf(word) & 0xffff : numberOf(word);
    if (4 * at + 4 <= bytes.length) view.setUint32(4 * at, value, true);
  }
  return [(request ^ flip) >>> 0, bytes];
}

/** One run: the calls, one after another. What each said. */
function run(target: Target, calls: readonly Call[]): readonly string[] {
  const rig = new EveryDriver();
  const said: string[] = [];
  const ended = rig.run(function* (sys) {
    const program = new Program(sys);
    const memory = yield* sys.alloc(2 * PAGE_SIZE);
    // So that no later fault brings a page in.
    yield* sys.store(memory, new Uint8Array(2 * PAGE_SIZE));
    const files = yield* oneOfEach(program, memory);
    const fd = yield* target.open(program, files);
    for (const one of calls) {
      const [request, bytes] = argument(target, files, one);
      const at = POINTERS[one.pointer](memory);
      yield* put(sys, memory, at, bytes);
      said.push(yield* tryCall(rig, sys, fd, request, at));
    }
  });
  expect({ ended, ...rig.left }).toEqual({ ended: 'well', ...NOTHING });
  return said;
}

describe.each(Object.keys(TARGETS))('%s', (name) => {
  const target = TARGETS[name] ?? expect.fail('a target');

  test('answers any ioctl with an error number or what was asked, and stays whole', () => {
    const endings = new Set<string>();
    fc.assert(
      fc.property(fc.array(anyCall, { minLength: 1, maxLength: 12 }), (calls) => {
        for (const one of run(target, calls)) endings.add(one);
      }),
      { numRuns: 40 },
    );
    expect(endings.size).toBeGreaterThan(1);
  });
});
