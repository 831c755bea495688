/**
 * Random programs in random orders: a process registers and deregisters, its drive is reset and
 * switched off and on, a peer reads and writes whatever it knows of.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isDmaBufError, PAGE_SIZE } from '../../src/base/index.ts';
import type { MrMode } from '../../src/drivers/rdma-nic/memory-region.ts';
import type { RemotePeer } from '../../src/drivers/rdma-nic/remote-peer.ts';
import { RandomStrategy } from '../../src/explorer/strategies/random.ts';
import {
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  Completion,
  type MachineSpec,
  type Task,
} from '../../src/machine/index.ts';
import { type MonitoredBuffer, strayAccesses } from './rdma-nic-silence.ts';
import { ALL_ACCESS, BRIDGES, CMB_BAR, IOVA, SWITCH, World } from './rdma-nic-world.ts';

/** Ranges of the drive's buffer memory, by buffer. */
const BUFFERS = [
  [{ offset: 0, length: 2 * PAGE_SIZE }],
  [
    { offset: 5 * PAGE_SIZE, length: PAGE_SIZE },
    { offset: 3 * PAGE_SIZE, length: PAGE_SIZE },
  ],
  [{ offset: 8 * PAGE_SIZE, length: 2 * PAGE_SIZE }],
] as const;

type UserStep =
  | {
      readonly kind: 'register';
      readonly buffer: number;
      readonly offset: number;
      readonly length: number;
      readonly mode: MrMode;
    }
  | { readonly kind: 'dereg'; readonly region: number }
  | { readonly kind: 'close'; readonly buffer: number }
  | { readonly kind: 'close-context' };

type AdminStep = 'reset' | 'off' | 'on';

interface PeerStep {
  readonly kind: 'write' | 'read';
  /** Taken modulo what there is. */
  readonly region: number;
  readonly at: number;
  readonly length: number;
}

interface Plan {
  readonly seed: number;
  readonly spec: MachineSpec;
  readonly pathMtu: number;
  readonly user: readonly UserStep[];
  readonly admin: readonly AdminStep[];
  readonly peer: readonly PeerStep[];
}

const buffer = fc.nat({ max: BUFFERS.length - 1 });
/** Mostly windows that the buffer has. */
const place = fc.nat({ max: PAGE_SIZE + 100 });

const userStep: fc.Arbitrary<UserStep> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('register' as const),
      buffer,
      offset: place,
      length: fc.oneof({ weight: 1, arbitrary: place }, { weight: 3, arbitrary: fc.nat(700) }),
      mode: fc.constantFrom<MrMode>('on-demand', 'on-demand', 'pinned-revocable', 'pinned'),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('dereg' as const), region: fc.nat({ max: 3 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('close' as const), buffer }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('close-context' as const) }) },
);

const peerStep: fc.Arbitrary<PeerStep> = fc.record({
  kind: fc.constantFrom('write', 'read'),
  region: fc.nat({ max: 5 }),
  at: fc.nat(),
  length: fc.nat({ max: 200 }),
});

const plan: fc.Arbitrary<Plan> = fc.record({
  seed: fc.nat(),
  spec: fc.constantFrom(SWITCH, BRIDGES),
  pathMtu: fc.constantFrom(32, 4096),
  user: fc.array(userStep, { minLength: 1, maxLength: 8 }),
  admin: fc.array(fc.constantFrom<AdminStep>('reset', 'off', 'on'), { maxLength: 4 }),
  peer: fc.array(peerStep, { maxLength: 12 }),
});

/** Codes and reasons with which a registration may fail in such a program. */
const EXPECTED_REFUSALS: ReadonlySet<string> = new Set([
  'EBADF descriptor-is-not-open',
  'EINVAL umem-window-ends-beyond-the-buffer',
  'EINVAL umem-window-is-empty',
  'EINVAL umem-is-revoked',
  'ENODEV attach-to-revoked-memory',
  'ENODEV map-of-revoked-memory',
  'EOPNOTSUPP importer-cannot-give-memory-back',
  'ENOENT mr-is-not-registered',
]);

const EXPECTED_STATUSES: ReadonlySet<string> = new Set([
  'success',
  'remote-access-error',
  'remote-operational-error',
]);

class ProgramRun {
  readonly world: World;
  readonly counts = new Map<string, number>();
  private readonly plan: Plan;
  private readonly exported: Completion;
  /** There is something to write to, or never will be. */
  private readonly ready: Completion;
  private readonly over: Completion;
  private readonly fds: number[] = [];
  /** Buffer that each write went to, by the value that it wrote. */
  private readonly written = new Map<number, number>();

  constructor(made: Plan) {
    const { spec, pathMtu } = made;
    this.plan = made;
    this.world = new World({ spec, nicOptions: { pathMtu } });
    this.exported = new Completion(this.world.scheduler, 'exported');
    this.ready = new Completion(this.world.scheduler, 'ready');
    this.over = new Completion(this.world.scheduler, 'over');
    this.world.user(this.program());
    this.world.user(this.admin(), 'admin');
    const half = made.peer.length / 2;
    this.world.remote(this.initiator(this.world.peer, 0, half));
    this.world.remote(this.initiator(this.world.secondPeer, half, made.peer.length), 'second');
  }

  run(): void {
    const { world, plan } = this;
    world.expectClean(world.run(new RandomStrategy(plan.seed)));
    expect(strayAccesses(world.trace, this.monitored())).toEqual([]);
  }

  private *program(): Task {
    const { world, plan } = this;
    for (const ranges of BUFFERS) this.fds.push(yield* world.exportCmb(ranges));
    yield* this.exported.complete();
    for (const step of plan.user) yield* this.tolerating(this.userStep(step));
    yield* this.ready.complete();
    yield* this.ready.complete();
    for (let i = 0; i < 3; i += 1) yield* this.over.wait();
    yield* world.nic.closeContext(world.spdk);
    yield* world.spdk.exit();
  }

  private *userStep(step: UserStep): Task {
    const { nic, spdk, regions } = this.world;
    switch (step.kind) {
      case 'register': {
        const { offset, length, mode } = step;
        const iova = IOVA + (offset % PAGE_SIZE);
        const fd = this.fds[step.buffer] as number;
        const request = { fd, offset, length, iova, access: ALL_ACCESS, mode };
        regions.push(yield* nic.regDmabufMr(spdk, request));
        yield* this.ready.complete();
        break;
      }
      case 'dereg': {
        const region = regions[step.region];
        if (region !== undefined) yield* nic.deregMr(spdk, region);
        break;
      }
      case 'close': {
        const fd = this.fds[step.buffer] as number;
        if (spdk.fds.value.has(fd)) yield* spdk.close(fd);
        break;
      }
      case 'close-context':
        yield* nic.closeContext(spdk);
        break;
    }
  }

  private *tolerating(task: Task): Task {
    try {
      yield* task;
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      const name = `${error.code} ${error.reason}`;
      expect(EXPECTED_REFUSALS).toContain(name);
      this.count(name);
    }
  }

  private *admin(): Task {
    const { vfio, spdk } = this.world;
    yield* this.exported.wait();
    for (const step of [...this.plan.admin, 'on']) {
      if (step === 'reset') yield* vfio.reset(spdk);
      else if (step === 'off') yield* vfio.writeCommand(spdk, COMMAND_BUS_MASTER);
      else yield* vfio.writeCommand(spdk, COMMAND_BUS_MASTER | COMMAND_MEMORY);
    }
    yield* this.over.complete();
  }

  /** Does the steps of the plan from `start` up to `end`. */
  private *initiator(peer: RemotePeer, start: number, end: number): Task {
    const { regions } = this.world;
    yield* this.ready.wait();
    for (const [i, { kind, region: index, at, length }] of this.plan.peer.entries()) {
      if (i < start || i >= end) continue;
      // The youngest is the likeliest to be there.
      const region = regions.at(-1 - (index % Math.max(1, regions.length)));
      const rkey = region?.rkey ?? 0;
      const va = (region?.iova ?? 0) + (at % ((region?.length ?? 0) + 8));
      const from = (region?.umem.dmabuf.number ?? 0) - 1;
      if (kind === 'write') {
        this.written.set(i + 1, from);
        this.count((yield* peer.write(rkey, va, new Uint8Array(length).fill(i + 1))).status);
      } else {
        const { status, bytes } = yield* peer.read(rkey, va, length);
        this.count(status);
        for (const byte of bytes) expect(byte === 0 || this.written.get(byte) === from).toBe(true);
      }
    }
    yield* this.over.complete();
  }

  private count(what: string): void {
    if (!what.includes(' ')) expect(EXPECTED_STATUSES).toContain(what);
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  private monitored(): readonly MonitoredBuffer[] {
    const bar = `${this.world.driveFn.name} BAR${CMB_BAR}`;
    return BUFFERS.flatMap((ranges, i) =>
      ranges.map((range) => ({ buffer: i + 1, bar, ...range })),
    );
  }
}

describe('any program', () => {
  test('in any order leaves nothing, touches nothing late, and mixes no buffers up', () => {
    const counts = new Map<string, number>();
    fc.assert(
      fc.property(plan, (made) => {
        const run = new ProgramRun(made);
        run.run();
        for (const [what, count] of run.counts) counts.set(what, (counts.get(what) ?? 0) + count);
      }),
      { numRuns: 1000 },
    );
    // The programs went to the corners.
    expect([...counts.keys()]).toEqual(expect.arrayContaining([...EXPECTED_STATUSES]));
    expect(counts.get('ENODEV map-of-revoked-memory')).toBeGreaterThan(0);
  });
});
