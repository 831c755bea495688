import { describe, expect, test } from 'vitest';
import { PAGE_SIZE, type TraceEvent } from '../../src/base/index.ts';
import { flush, ioRead, ioWrite } from '../../src/drivers/nvme/commands.ts';
import type { QueueMemory } from '../../src/drivers/nvme/controller-access.ts';
import { RandomStrategy } from '../../src/explorer/strategies/random.ts';
import {
  type Actor,
  type Cell,
  type Look,
  NOW,
  Register,
  Shared,
  type Step,
  type Strategy,
  type Task,
  WrongResult,
} from '../../src/machine/index.ts';
import {
  CMB_BASE,
  DirectAccess,
  EngineLastStrategy,
  NVME,
  NvmeRig,
  pattern,
  sameBytes,
} from './nvme-rig.ts';

const PAGES = 5;
/** Steps of the engine before it stores: wait, command, list, pages. */
const BEFORE_MEDIA = 3 + PAGES;
const BLOCKS = 8 * PAGES;
const OLD = new Uint8Array(PAGES * PAGE_SIZE);
const NEW = pattern(PAGES * PAGE_SIZE, 3);

/** Where a victim's data and list are. */
function* memoryFor(rig: NvmeRig, where: 'host' | 'cmb'): Task<readonly QueueMemory[]> {
  const found: QueueMemory[] = [];
  for (let page = 0; page <= PAGES; page += 1) {
    if (where === 'host') found.push(yield* rig.hostMemory(1));
    else found.push(new Window(rig.access, (8 + page) * PAGE_SIZE));
  }
  return found;
}

/** A page of the buffer, as long as it is open at the usual base. */
class Window implements QueueMemory {
  readonly deviceAddress: number;
  private readonly access: DirectAccess;
  private readonly offset: number;

  constructor(access: DirectAccess, offset: number) {
    this.deviceAddress = CMB_BASE + offset;
    this.access = access;
    this.offset = offset;
  }

  *read(offset: number, length: number): Task<Uint8Array> {
    return yield* this.access.readMemory(2, this.offset + offset, length);
  }

  *write(offset: number, bytes: Uint8Array): Task {
    yield* this.access.writeMemory(2, this.offset + offset, bytes);
  }
}

/** Brings the drive up, submits a write of five pages and ends without waiting for it. */
function* victim(rig: NvmeRig, where: 'host' | 'cmb', submitted: Shared<boolean>): Task {
  const { io } = yield* rig.bringUp(where);
  const [list, ...pages] = (yield* memoryFor(rig, where)) as [QueueMemory, ...QueueMemory[]];
  const entries = new DataView(new ArrayBuffer(8 * (PAGES - 1)));
  for (const [index, page] of pages.entries()) {
    yield* page.write(0, NEW.subarray(index * PAGE_SIZE, (index + 1) * PAGE_SIZE));
    if (index > 0) entries.setBigUint64(8 * (index - 1), BigInt(page.deviceAddress), true);
  }
  yield* list.write(0, new Uint8Array(entries.buffer));
  const prp1 = (pages[0] as QueueMemory).deviceAddress;
  yield* io.submit(ioWrite({ cid: 7, lba: 0, blocks: BLOCKS, prp1, prp2: list.deviceAddress }));
  yield* submitted.write(true);
}

/** Resets the drive, looks at what is left of it, and takes it into use again. */
function* resetter(
  rig: NvmeRig,
  where: 'host' | 'cmb',
  submitted: Shared<boolean>,
): Task<Uint8Array> {
  yield* submitted.until((isSubmitted) => isSubmitted);
  yield* rig.fn.reset();
  // Time passes when nobody can go on: the engine has then done all that it could.
  yield* rig.scheduler.sleep(1000);
  expectIdle(rig);
  const access = new DirectAccess(rig.fn);
  const { io } = yield* rig.bringUp(where, 8, access);
  const [data] = (yield* memoryFor(rig, where)) as [QueueMemory];
  const range = { lba: 500, blocks: 8, prp1: data.deviceAddress };
  yield* data.write(0, pattern(PAGE_SIZE, 9));
  const written = yield* io.execute(ioWrite({ cid: 1, ...range }));
  yield* data.write(0, OLD.subarray(0, PAGE_SIZE));
  const read = yield* io.execute(ioRead({ cid: 2, ...range }));
  expect([written.status, read.status]).toEqual(['success', 'success']);
  return yield* data.read(0, PAGE_SIZE);
}

function expectIdle({ drive, engine }: NvmeRig): void {
  for (const register of drive.registers.all) {
    if (register.value !== register.initial) throw new WrongResult(`${register.name} is not reset`);
  }
  expect([engine.step?.verb, engine.step?.cell]).toEqual([
    'wait for registers',
    drive.registers.cc,
  ]);
}

/** Steps of a reset that others see: command register off, reset, command register as before. */
const RESET_VERBS: readonly string[] = ['write command register', 'reset'];

/**
 * Lets the victim submit its command and the engine take `engineSteps` steps of it; then the
 * resetter `resetSteps` of its three; then the engine all it can; then the rest.
 */
class ResetAfter implements Strategy {
  readonly name: string;
  /** Engine steps that were taken of the command before the reset began. */
  taken = 0;
  /** Events recorded when the reset took effect; null: it did not. */
  resetAt: number | null = null;
  private isSubmitted = false;
  private hasBegun = false;
  private resetStepsDone = 0;
  private readonly rig: NvmeRig;
  private readonly engineSteps: number;
  private readonly resetSteps: number;

  constructor(rig: NvmeRig, engineSteps: number, resetSteps: number) {
    this.name = `reset after ${engineSteps} steps, engine after ${resetSteps}`;
    this.rig = rig;
    this.engineSteps = engineSteps;
    this.resetSteps = resetSteps;
  }

  pick(enabled: readonly Actor[]): number {
    const at = (name: string): number => enabled.findIndex((actor) => actor.name === name);
    const [engine, user, reset] = [at(`nvme ${NVME}`), at('spdk'), at('resetter')];
    if (user >= 0) return user;
    if (!this.isSubmitted) return reset >= 0 ? reset : engine;
    if (engine >= 0 && !this.hasBegun && this.taken < this.engineSteps) {
      this.taken += 1;
      return engine;
    }
    this.hasBegun = true;
    const isEnginesTurn = this.resetStepsDone >= this.resetSteps;
    return engine >= 0 && (isEnginesTurn || reset < 0) ? engine : reset;
  }

  before({ name }: Actor, { verb }: Step): void {
    if (name !== 'resetter') return;
    // Its first step is to wait for the victim.
    this.isSubmitted = true;
    if (this.resetStepsDone < 3 && RESET_VERBS.includes(verb)) this.resetStepsDone += 1;
    if (verb === 'reset') this.resetAt = this.rig.events.length;
  }
}

/** What the drive did from the reset on until somebody wrote CC. */
function doneAfterReset(events: readonly TraceEvent[], resetAt: number): readonly string[] {
  const after = events.slice(resetAt);
  const end = after.findIndex(
    (event) => event.kind === 'mmio.write' && event.target === `${NVME} BAR0+0x14`,
  );
  return after
    .slice(0, end < 0 ? after.length : end)
    .filter((event) => ['dma.read', 'dma.write', 'irq.raise'].includes(event.kind))
    .map((event) => event.kind);
}

/** Runs one schedule; returns how many steps of the command the engine took, and what is on the
 *  media. */
function runOne(
  where: 'host' | 'cmb',
  engineSteps: number,
  resetSteps: number,
): { taken: number; isWritten: boolean } {
  const rig = new NvmeRig({ iommu: 'translated' });
  const submitted = new Shared(rig.scheduler, 'submitted', false);
  rig.user(victim(rig, where, submitted));
  const reset = rig.user(resetter(rig, where, submitted), 'resetter');
  const strategy = new ResetAfter(rig, engineSteps, resetSteps);
  const outcome = rig.run(strategy);
  expect(outcome, strategy.name).toMatchObject({ status: 'done', findings: [] });
  expect(strategy.resetAt, strategy.name).not.toBeNull();
  expect(doneAfterReset(rig.events, strategy.resetAt ?? 0), strategy.name).toEqual([]);
  expect(sameBytes(reset.result as Uint8Array, pattern(PAGE_SIZE, 9)), strategy.name).toBe(true);
  const media = rig.blocks(0, BLOCKS);
  const isWritten = sameBytes(media, NEW);
  expect(isWritten || sameBytes(media, OLD), strategy.name).toBe(true);
  return { taken: strategy.taken, isWritten };
}

describe('a function-level reset in the middle of a write', () => {
  for (const where of ['host', 'cmb'] as const) {
    test(`leaves the drive idle and usable at every step, all in ${where} memory`, () => {
      let steps = 0;
      for (let isThrough = false; !isThrough; steps += 1) {
        for (const resetSteps of [1, 2, 3]) {
          const { taken, isWritten } = runOne(where, steps, resetSteps);
          isThrough = taken < steps;
          // What was not stored when the reset took effect never is.
          if (resetSteps > 1) expect(isWritten).toBe(taken > BEFORE_MEDIA);
        }
      }
      // Media, completion, interrupt, its handler; and one more to see that there are no more.
      expect(steps - 1).toBe(BEFORE_MEDIA + 4 + 1);
    });
  }

  test('clears the buffer and nothing of before appears in it', () => {
    const rig = new NvmeRig();
    const submitted = new Shared(rig.scheduler, 'submitted', false);
    rig.user(victim(rig, 'cmb', submitted));
    function* look(): Task<Uint8Array> {
      yield* submitted.until((isSubmitted) => isSubmitted);
      yield* rig.fn.reset();
      yield* rig.scheduler.sleep(1000);
      return yield* rig.access.readMemory(2, 0, 32 * PAGE_SIZE);
    }
    const actor = rig.user(look(), 'resetter');
    const strategy = new ResetAfter(rig, BEFORE_MEDIA + 1, 3);
    expect(rig.run(strategy)).toMatchObject({ status: 'done', findings: [] });
    expect(strategy.taken).toBe(BEFORE_MEDIA + 1);
    expect(sameBytes(actor.result as Uint8Array, new Uint8Array(32 * PAGE_SIZE))).toBe(true);
    expect(sameBytes(rig.blocks(0, BLOCKS), NEW)).toBe(true);
  });

  test('a media step that waits for the reset to pass is lost with the command', () => {
    const { isWritten, taken } = runOne('host', BEFORE_MEDIA, 3);
    expect({ isWritten, taken }).toEqual({ isWritten: false, taken: BEFORE_MEDIA });
  });

  test('is noticed by an engine that may not send', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      const { io } = yield* rig.bringUp();
      yield* rig.fn.writeCommand(0x2);
      yield* io.submit(flush({ cid: 1 }));
      yield* rig.scheduler.sleep(1000);
      expect(rig.engine.step?.verb).toBe('dma read');
      yield* rig.fn.reset();
      yield* rig.scheduler.sleep(1000);
      expectIdle(rig);
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
  });

  test('is noticed though the drive is enabled again before the engine looks', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      // Two admin commands in queues of two: every index is where it began.
      yield* rig.bringUp('host', 2);
      yield* rig.scheduler.sleep(1000);
      yield* rig.fn.reset();
      const { io } = yield* rig.bringUp('host', 2);
      expect((yield* io.execute(flush({ cid: 1 }))).status).toBe('success');
    }
    rig.user(story());
    expect(rig.run(new EngineLastStrategy())).toMatchObject({ status: 'done', findings: [] });
  });

  test('reset twice in a row is as reset once', () => {
    const rig = new NvmeRig();
    function* story(): Task {
      yield* rig.bringUp();
      yield* rig.fn.reset();
      yield* rig.fn.reset();
      yield* rig.scheduler.sleep(1000);
      expectIdle(rig);
      yield* rig.bringUp('cmb');
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(rig.drive.resets.value).toBe(2);
  });
});

/** What the engine's pending step said at some moment. */
interface Said {
  readonly step: Step;
  readonly values: ReadonlyMap<Cell, unknown>;
  readonly words: string;
}

/**
 * Checks that steps tell the truth: none changes a register which it had not named, and the
 * engine's say the same of a moment when they are asked about it later.
 */
class Footprints implements Strategy {
  readonly name: string;
  resetAt: number | null = null;
  private readonly inner: Strategy;
  private readonly rig: NvmeRig;
  private readonly cells: readonly Cell[];
  private values: ReadonlyMap<Cell, unknown>;
  private named: ReadonlySet<Cell> = new Set();
  private last = '';
  private readonly said: Said[] = [];

  constructor(inner: Strategy, rig: NvmeRig) {
    this.name = inner.name;
    this.inner = inner;
    this.rig = rig;
    const registers = rig.drive.resetTouches.filter((cell) => cell instanceof Register);
    const { command, domain } = rig.fn;
    this.cells = [...registers, command, domain, domain.value].filter((cell) => cell !== null);
    this.values = this.copy();
  }

  pick(enabled: readonly Actor[], last: Actor | null): number {
    return this.inner.pick(enabled, last);
  }

  before(actor: Actor, step: Step): void {
    const values = this.copy();
    for (const cell of registersAmong(this.cells)) {
      if (values.get(cell) === this.values.get(cell) || this.named.has(cell)) continue;
      throw new WrongResult(`${this.last} changed ${cell.name} and did not say so`);
    }
    this.values = values;
    const touched = step.accesses(NOW, actor);
    if (actor === this.rig.engine) expect(touched[0]?.cell).toBe(step.cell);
    this.named = new Set(touched.filter((access) => access.class !== 'R').map(({ cell }) => cell));
    this.last = `${actor.name}: ${step.verb}`;
    if (step.verb === 'reset') this.resetAt = this.rig.events.length;
    const pending = this.rig.engine.step;
    if (pending !== null) {
      this.said.push({ step: pending, values, words: this.wordsOf(pending, NOW) });
    }
  }

  /** Asks every step of the engine again about every moment at which it was pending. */
  finish(): void {
    for (const { step, values, words } of this.said) {
      const look: Look = <V>(cell: Cell<V>) =>
        (values.has(cell) ? values.get(cell) : cell.value) as V;
      if (this.wordsOf(step, look) !== words) throw new WrongResult(`${step.verb}: ${words}`);
    }
  }

  private wordsOf(step: Step, look: Look): string {
    const { engine } = this.rig;
    const touched = step
      .accesses(look, engine)
      .map(({ cell, class: how, from, to }) => `${how} ${cell.name} ${from} ${to}`);
    return [step.guard(look, engine) ? 'may run' : 'waits', ...touched].join(', ');
  }

  private copy(): ReadonlyMap<Cell, unknown> {
    return new Map(this.cells.map((cell) => [cell, cell.value]));
  }
}

function registersAmong(cells: readonly Cell[]): readonly Cell[] {
  return cells.filter((cell) => cell instanceof Register);
}

describe('a reset at random', () => {
  test('in 300 schedules lets nothing out of the drive, and every step tells the truth', () => {
    for (let seed = 1; seed <= 300; seed += 1) {
      const where = seed % 2 === 0 ? 'host' : 'cmb';
      const rig = new NvmeRig({ iommu: 'translated' });
      rig.user(victim(rig, where, new Shared(rig.scheduler, 'submitted', false)));
      // Late enough, in most runs, to meet the command.
      function* later(): Task {
        for (let turn = 0; turn < seed % 50; turn += 1) yield* rig.drive.resets.get();
        yield* rig.fn.reset();
      }
      rig.user(later(), 'resetter');
      const strategy = new Footprints(new RandomStrategy(seed), rig);
      rig.run(strategy);
      expect(strategy.resetAt, `seed ${seed}`).not.toBeNull();
      expect(doneAfterReset(rig.events, strategy.resetAt ?? 0), `seed ${seed}`).toEqual([]);
      const media = rig.blocks(0, BLOCKS);
      expect(sameBytes(media, OLD) || sameBytes(media, NEW), `seed ${seed}`).toBe(true);
    }
  });
});
