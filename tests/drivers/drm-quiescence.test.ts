/**
 * Goal: whatever programs do with handles, descriptors and maps of two devices, in whatever order
 * and with whatever failing for want of memory, nothing is left when all is closed. Method: random
 * sequences of calls, alone and as two threads under random schedules.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DRM_IOCTL,
  drmVgemFenceAttach,
  drmVgemFenceSignal,
  isDmaBufError,
} from '../../src/base/index.ts';
import { Display, type DrmFile } from '../../src/drivers/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import type { Vma } from '../../src/framework/index.ts';
import type { MachineSpec, Task } from '../../src/machine/index.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { DrmRig, Program } from './drm-rig.ts';

const CARDS = ['/dev/dri/card0', '/dev/dri/card1'] as const;

const KINDS = [
  'create',
  'export',
  'import',
  'close handle',
  'close descriptor',
  'map object',
  'map buffer',
  'unmap',
  'show',
  'attach fence',
  'signal fence',
  'reopen',
] as const;

/** One call: what, in which of four files, about which of the things there are. */
interface Call {
  readonly kind: (typeof KINDS)[number];
  readonly file: number;
  readonly nth: number;
}

const CALLS = fc.array(
  fc.record<Call>({
    kind: fc.constantFrom(...KINDS),
    file: fc.nat({ max: 3 }),
    nth: fc.nat({ max: 5 }),
  }),
  { maxLength: 40 },
);

/** Two devices, two files of each, and all that a process got from them. */
class World extends DrmRig {
  readonly display: Display;
  readonly files: DrmFile[] = [];
  readonly fds: number[] = [];
  readonly maps: Vma[] = [];

  constructor(spec: MachineSpec) {
    super(spec);
    this.display = new Display(this.kernel, this.at('03:00.0'));
  }

  *openAll(): Task {
    for (const card of [...CARDS, ...CARDS]) this.files.push(yield* this.app.open(card));
    yield* this.app.scratch();
  }

  /** Makes one call with a program's memory. What is refused is refused. */
  *call(call: Call, who: Program = this.app): Task {
    const file = this.files[call.file] ?? expect.fail('four files');
    // As a system call does: another thread may close the file meanwhile.
    if (!(yield* file.getActive())) return;
    try {
      yield* this.attempt(call, file, who);
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
    } finally {
      yield* who.close(file);
    }
  }

  private *attempt({ kind, file: at, nth }: Call, file: DrmFile, who: Program): Task {
    const { app } = this;
    const handles = [...file.objects.value.keys()];
    const handle = handles[nth % Math.max(handles.length, 1)] ?? 9;
    const fd = this.fds[nth % Math.max(this.fds.length, 1)] ?? 99;
    if (kind === 'create') yield* who.createDumb(file, { width: 1024, height: 1 + (nth % 2) });
    else if (kind === 'export') this.fds.push(yield* exportTo(who, app, file, handle));
    else if (kind === 'import') yield* who.toHandle(file, fd);
    else if (kind === 'close handle') yield* who.gemClose(file, handle);
    else if (kind === 'close descriptor') yield* this.closeFd(fd);
    else if (kind === 'map object') yield* this.mapObject(who, file, handle);
    else if (kind === 'map buffer') yield* this.mapBuffer(fd);
    else if (kind === 'unmap') yield* this.unmap(nth);
    else if (kind === 'show') yield* this.show(file, handle);
    else if (kind === 'attach fence') yield* attach(who, file, handle, nth);
    else if (kind === 'signal fence') yield* signal(who, file, nth);
    else yield* this.reopen(at);
  }

  private *show(file: DrmFile, handle: number): Task {
    if (file.dev === this.display.drm) yield* this.display.show(file, handle);
  }

  private *closeFd(fd: number): Task {
    const at = this.fds.indexOf(fd);
    if (at >= 0) this.fds.splice(at, 1);
    yield* this.app.process.close(fd);
  }

  private *mapObject(who: Program, file: DrmFile, handle: number): Task {
    const offset = yield* who.mapDumb(file, handle);
    this.maps.push(yield* this.app.mmap(file, { offset }));
  }

  private *mapBuffer(fd: number): Task {
    const file = this.app.process.fds.value.get(fd)?.file ?? null;
    if (file === null || !(yield* file.getActive())) return;
    try {
      this.maps.push(yield* this.app.mmap(file));
    } finally {
      yield* this.app.close(file);
    }
  }

  private *unmap(nth: number): Task {
    const [map] = this.maps.splice(nth % Math.max(this.maps.length, 1), 1);
    if (map === undefined) return;
    yield* this.app.peek(map, 0, 1);
    yield* this.app.munmap(map);
  }

  private *reopen(at: number): Task {
    const fresh = yield* this.app.open(CARDS[at % 2] ?? CARDS[0]);
    const [file] = this.files.splice(at, 1, fresh);
    if (file !== undefined) yield* this.app.close(file);
  }

  /** Closes everything, in an order that `order` chooses. */
  *closeAll(order: readonly number[]): Task {
    const ends: (() => Task)[] = [
      ...this.files.map((file) => () => this.app.close(file)),
      ...this.fds.splice(0).map((fd) => () => this.app.process.close(fd)),
      ...this.maps.splice(0).map((map) => () => this.app.munmap(map)),
    ];
    for (let i = 0; ends.length > 0; i += 1) {
      const [end] = ends.splice((order[i % order.length] ?? 0) % ends.length, 1);
      if (end !== undefined) yield* end();
    }
  }

  /** What must hold between calls. */
  checkBooks(): void {
    const handles = new Map<object, number>();
    for (const object of this.files.flatMap((file) => [...file.objects.value.values()])) {
      if (object !== null) handles.set(object, (handles.get(object) ?? 0) + 1);
    }
    const buffers = new Set<object>();
    for (const file of this.files) {
      for (const object of new Set(file.objects.value.values())) {
        if (object === null) continue;
        expect(object.handleCount.value).toBe(handles.get(object));
        expect(object.refs.value).toBeGreaterThan(0);
        const buf = object.dmaBuf.value;
        if (buf !== null && object.importAttach === null) buffers.add(buf);
        if (buf !== null) expect(buf.file.refs.value).toBeGreaterThan(0);
      }
    }
  }

  /** What must hold at the end. */
  checkNothingIsLeft(programs: number): void {
    const { machine, scheduler, kernel } = this;
    expect(scheduler.findings.filter(({ kind }) => kind !== 'leak')).toEqual([]);
    const left = scheduler.allocations.filter(({ value }) => value === null);
    expect(left.map(({ name }) => name)).toEqual([]);
    expect([this.vgem.refs.value, this.display.drm.refs.value]).toEqual([1, 1]);
    expect(kernel.bufferList.value).toBe(0);
    // The pages of the programs' arguments.
    expect(machine.memory.pagesInUse).toBe(programs);
    expect(this.at('03:00.0').domain.value?.value ?? []).toEqual([]);
    expect(machine.faults).toEqual([]);
  }
}

/** The descriptor lands in the process of `owner`, who holds all of them. */
function* exportTo(who: Program, owner: Program, file: DrmFile, handle: number): Task<number> {
  const fd = yield* who.toFd(file, handle);
  if (who === owner) return fd;
  const moved = who.fileOf(fd);
  yield* moved.get();
  yield* who.process.close(fd);
  return (yield* owner.process.fds.install(moved)) ?? expect.fail('no descriptor');
}

function* attach(who: Program, file: DrmFile, handle: number, nth: number): Task {
  const args = { handle, flags: nth % 2 };
  yield* who.ioctl(file, DRM_IOCTL.VGEM_FENCE_ATTACH, drmVgemFenceAttach, args);
}

function* signal(who: Program, file: DrmFile, nth: number): Task {
  yield* who.ioctl(file, DRM_IOCTL.VGEM_FENCE_SIGNAL, drmVgemFenceSignal, { fence: 1 + nth });
}

const SPECS: readonly (readonly [string, MachineSpec])[] = [
  ['without an IOMMU', wideMachine()],
  ['behind an IOMMU', wideMachine({ iommu: 'translated', coherentDma: false })],
];

describe('Random calls on two devices', () => {
  test.each(SPECS)('leave nothing, closed in any order, %s (E.5)', (_, spec) => {
    fc.assert(
      fc.property(CALLS, fc.array(fc.nat({ max: 99 }), { minLength: 1 }), (calls, order) => {
        const world = new World(spec);
        world.do(
          (function* () {
            yield* world.openAll();
            for (const call of calls) {
              yield* world.call(call);
              world.checkBooks();
            }
            yield* world.closeAll(order);
          })(),
        );
        world.checkNothingIsLeft(1);
      }),
      { numRuns: 150 },
    );
  });

  test('leave nothing when two threads make them at once (E.5)', () => {
    const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });
    fc.assert(
      fc.property(CALLS, CALLS, seeds, (mine, others, seed) => {
        const world = new World(wideMachine({ iommu: 'translated' }));
        const guest = new Program(world, 'guest');
        world.do(world.openAll());
        world.do(guest.scratch());
        const threads: readonly (readonly [string, readonly Call[], Program])[] = [
          ['one', mine, world.app],
          ['two', others, guest],
        ];
        for (const [name, calls, who] of threads) world.user(run(world, calls, who), name);
        expect(world.run(new RandomStrategy(seed)).status).toBe('done');
        world.checkBooks();
        world.do(world.closeAll([0]));
        world.checkNothingIsLeft(2);
      }),
      { numRuns: 150 },
    );
  });
});

describe('A program that runs out of memory anywhere', () => {
  const PROGRAM: readonly Call[] = [
    { kind: 'create', file: 0, nth: 1 },
    { kind: 'export', file: 0, nth: 0 },
    { kind: 'import', file: 1, nth: 0 },
    { kind: 'import', file: 2, nth: 0 },
    { kind: 'show', file: 1, nth: 0 },
    { kind: 'attach fence', file: 0, nth: 1 },
    { kind: 'map object', file: 0, nth: 0 },
    { kind: 'create', file: 1, nth: 1 },
    { kind: 'export', file: 1, nth: 1 },
    { kind: 'import', file: 0, nth: 1 },
    { kind: 'import', file: 3, nth: 1 },
    { kind: 'map buffer', file: 0, nth: 1 },
    { kind: 'reopen', file: 3, nth: 0 },
  ];

  test('leaves nothing either (E.5)', () => {
    let n = 0;
    for (let failed = true; failed;) {
      n += 1;
      const world = new World(wideMachine({ iommu: 'translated' }));
      world.do(world.openAll());
      world.failNth(n);
      world.do(run(world, PROGRAM, world.app));
      failed = world.scheduler.fallible >= n;
      world.do(world.closeAll([0]));
      world.checkNothingIsLeft(1);
    }
    expect(n).toBeGreaterThan(20);
  });
});

function* run(world: World, calls: readonly Call[], who: Program): Task {
  for (const call of calls) yield* world.call(call, who);
}
