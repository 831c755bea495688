/**
 * Goal: what the steps of the machine say they touch is true: two that do not conflict can be
 * swapped unseen. A search over orders rests on it. Method: all pairs of some sixty steps, from
 * several states; if their accesses commute, both orders give the same bytes, tables and answers.
 */

import { describe, expect, test } from 'vitest';
import { dmaAddr, type PhysAddr, physAddr } from '../../src/base/index.ts';
import {
  type Access,
  type Actor,
  commute,
  MachinePlan,
  MmioMapping,
  NOW,
  Register,
  RegisterRegion,
  Shared,
  type Step,
  type Task,
  untilRegisters,
} from '../../src/machine/index.ts';
import { FabricRig, full } from './fabric-rig.ts';
import { wideMachine } from './test-machines.ts';

const RAM = 0x200000;
const PAGE = 4096;
const IOVA = 0x40000000;
const BOTH = { readable: true, writable: true };
/** Below one switch; 0a:00.0 has an IOMMU domain of its own. */
const [ONE, OTHER, TRANSLATED] = ['03:00.0', '04:00.0', '0a:00.0'];

const PLAN = new MachinePlan({ ...wideMachine({ iommu: 'translated', coherentDma: false }) });

function* idle(cell: Shared<number>): Task {
  yield* cell.read();
}

/** The world of one execution, and every step that is tried in it. */
class Fixture {
  readonly rig = new FabricRig(PLAN.spec, PLAN);
  readonly actors: readonly Actor[];
  readonly steps: readonly (() => Step)[];
  private readonly mapping: MmioMapping;
  private readonly registers: readonly Register[];

  constructor(state: number) {
    const { rig } = this;
    const { machine, scheduler } = rig;
    // Functions come to life at boot, not when a step first asks for them.
    for (const port of ['00:01.0', '02:00.0']) rig.at(port);
    const [one, other, translated] = [rig.at(ONE), rig.at(OTHER), rig.at(TRANSLATED)];
    const domain = translated.domain.value ?? expect.fail('a domain');
    const bar = other.barStart(2);
    this.mapping = new MmioMapping(machine, 'mapping', bar, PAGE);
    this.registers = ['go', 'id'].map((name) => new Register(scheduler, name));
    const [go, id] = this.registers as [Register, Register];
    const region = new RegisterRegion(
      8,
      new Map([
        [0, go],
        [4, id],
      ]),
    );
    rig.at('41:00.0').model = {
      bars: new Map([[2, [{ offset: 0, region }]]]),
      resetTouches: [go, id],
      reset: () => {},
    };
    const registerBar = rig.at('41:00.0').barStart(2);
    const cell = new Shared(scheduler, 'idle', 0);
    this.actors = ['a', 'b'].map((name) => scheduler.spawn(idle(cell), { name, role: 'kernel' }));
    const page = this.take(0, machine.memory.allocate(1)) as PhysAddr;
    if (state > 0) domain.value = [{ iova: IOVA, phys: RAM, size: PAGE, ...BOTH }];
    if (state > 1) {
      this.mapping.value = true;
      other.command.value = 0;
      rig.at('02:00.0').acsControl.value = 0x1d;
      go.value = 1;
    }
    const { cpu, dma } = machine;
    const bytes = (...list: readonly number[]): Uint8Array => Uint8Array.from(list);
    const range = { phys: physAddr(RAM + PAGE), size: PAGE };
    const bus = dmaAddr(rig.busAddressOf(OTHER, 2));
    const next = dmaAddr(rig.busAddressOf('04:00.1', 2));
    this.steps = [
      ...[dmaAddr(bus), dmaAddr(bus + 2), dmaAddr(next - 1)].flatMap((at) => [
        () => dma.write(one, at, bytes(1, 2)),
        () => dma.read(one, at, 2),
      ]),
      () => dma.write(one, dmaAddr(rig.busAddressOf('07:00.0', 2)), bytes(5)),
      ...[RAM, RAM + 1, RAM + 64, RAM + PAGE].flatMap((at) => [
        () => cpu.store(physAddr(at), bytes(3, 4)),
        () => cpu.load(physAddr(at), 2),
        () => cpu.clean(physAddr(at), 2),
        () => cpu.invalidate(physAddr(at), 2),
      ]),
      ...[IOVA, IOVA + 1, IOVA + PAGE - 1, IOVA + PAGE].flatMap((at) => [
        () => dma.write(translated, dmaAddr(at), bytes(6, 7)),
        () => dma.read(translated, dmaAddr(at), 2),
      ]),
      ...[bar, physAddr(bar + 1), registerBar, physAddr(registerBar + 4)].flatMap((at) => [
        () => cpu.mmioWrite(at, bytes(8, 0, 0, 0)),
        () => cpu.mmioRead(at, 4),
      ]),
      () => cpu.mmioWrite(registerBar, bytes(1, 0, 0, 0, 2, 0, 0, 0)),
      () => domain.mapAnywhere([range], BOTH),
      () => domain.mapAt(dmaAddr(IOVA + PAGE), range, BOTH),
      () => domain.mapAt(dmaAddr(IOVA), range, { readable: true, writable: false }),
      () => domain.unmap(dmaAddr(IOVA), PAGE),
      () => machine.memory.allocate(1),
      () => machine.memory.allocate(1, 1),
      () => machine.memory.free(page, 1),
      () => other.writeCommand(2),
      () => other.writeCommand(0),
      () => one.writeCommand(2),
      () => rig.at('02:00.0').writeAcsControl(0x1d),
      () => rig.at('02:00.0').writeAcsControl(0),
      () => rig.at('00:01.0').writeAcsControl(0x10),
      () => this.mapping.setPresent(true),
      () => this.mapping.setPresent(false),
      () => this.mapping.read(0, 2),
      () => this.mapping.write(1, bytes(9)),
      () => rig.device('04:00.0').bar(2).load(0, 2),
      () => rig.device('04:00.0').bar(2).store(1, bytes(9)),
      () => go.set(2),
      () => go.get(),
      () => id.get(),
      () => untilRegisters([go, id], ([value]) => value !== 0),
      () => other.interrupt(0),
    ];
  }

  /** Everything that somebody could see. */
  get picture(): unknown {
    const { rig } = this;
    const inside = (address: string): readonly number[] => {
      const into = new Uint8Array(4);
      rig.device(address).bar(2).read(0, into);
      return [...into];
    };
    return {
      bars: ['04:00.0', '04:00.1', '07:00.0'].map(inside),
      ram: [RAM, RAM + 64, RAM + PAGE, 0x100000].map((at) => rig.ram(at, 4)),
      // What the CPU sees is what a load would give, so loads at the end show the cache.
      cpu: [RAM, RAM + 64, RAM + PAGE].map((at) => this.take(0, this.loadOf(at))),
      table: rig.at(TRANSLATED).domain.value?.value,
      commands: [ONE, OTHER].map((at) => rig.at(at).command.value),
      acs: ['02:00.0', '00:01.0'].map((at) => rig.at(at).acsControl.value),
      present: this.mapping.value,
      registers: this.registers.map(({ value }) => value),
      pages: rig.machine.memory.pagesInUse,
      faults: rig.machine.faults.map((fault) => JSON.stringify(fault)).sort(),
    };
  }

  /** Does a step as one of the two actors. */
  take(who: number, step: Step): unknown {
    const actor = this.actors[who] as Actor;
    this.rig.scheduler.current = actor;
    return step.apply(actor);
  }

  private loadOf(at: number): Step {
    return this.rig.machine.cpu.load(physAddr(at), 4);
  }
}

function conflict(some: readonly Access[], others: readonly Access[]): boolean {
  return some.some((one) =>
    others.some(
      (other) =>
        one.cell === other.cell &&
        one.from < other.to &&
        other.from < one.to &&
        !commute(one.class, other.class),
    ),
  );
}

/** Both steps in this order; null if one cannot be taken when its turn comes. */
function inOrder(state: number, ops: readonly [number, number], first: 0 | 1): unknown {
  const fixture = new Fixture(state);
  const answers: unknown[] = [null, null];
  for (const who of first === 0 ? [0, 1] : [1, 0]) {
    const step = (fixture.steps[ops[who] as number] as () => Step)();
    if (!step.guard(NOW, fixture.actors[who] as Actor)) return null;
    answers[who] = fixture.take(who, step);
  }
  return { answers, picture: fixture.picture };
}

describe('Two steps of the machine that do not conflict', () => {
  test.each([0, 1, 2])('can be swapped unseen, from state %d', (state) => {
    const fixture = new Fixture(state);
    const accesses = fixture.steps.map((make) => {
      const step = make();
      const [actor] = fixture.actors;
      if (actor === undefined || !step.guard(NOW, actor)) return null;
      return step.accesses(NOW, actor);
    });
    let swapped = 0;
    for (const [i, mine] of accesses.entries()) {
      for (const [j, others] of accesses.entries()) {
        if (j < i || mine === null || others === null || conflict(mine, others)) continue;
        swapped += 1;
        const both = inOrder(state, [i, j], 0);
        const names = [i, j].map((at) => fixture.steps[at]?.toString());
        expect(both, names.join(' and ')).toEqual(inOrder(state, [i, j], 1));
        expect(both, names.join(' and ')).not.toBeNull();
      }
    }
    expect(swapped).toBeGreaterThan(500);
  });

  test('are not all: a write and a read of one byte do conflict, and so do map and DMA', () => {
    const fixture = new Fixture(1);
    const [actor] = fixture.actors;
    if (actor === undefined) return expect.fail('an actor');
    const { machine } = fixture.rig;
    const card = fixture.rig.at(full(TRANSLATED));
    const domain = card.domain.value ?? expect.fail('a domain');
    const accessesOf = (step: Step): readonly Access[] => step.accesses(NOW, actor);
    const write = accessesOf(machine.dma.write(card, dmaAddr(IOVA), Uint8Array.of(1)));
    expect(conflict(write, accessesOf(machine.cpu.load(physAddr(RAM), 1)))).toBe(true);
    expect(conflict(write, accessesOf(domain.unmap(dmaAddr(IOVA), PAGE)))).toBe(true);
    expect(conflict(write, accessesOf(card.writeCommand(0)))).toBe(true);
    expect(conflict(write, accessesOf(machine.cpu.load(physAddr(RAM + 64), 1)))).toBe(false);
  });
});
