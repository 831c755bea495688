/**
 * Goal: whatever three processes do to four buffers with three devices, in whatever order, the
 * books balance: no lock, mapping, pin, attachment, descriptor or buffer is left, and the kernel
 * has nothing to warn of. Method: programs of 50 operations from a seed, each under a schedule of
 * the same seed; the seed of a program that goes wrong is in the message.
 */

import { expect, test } from 'vitest';
import { DmaBufError, isDmaBufError, Prng } from '../../src/base/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import {
  type Attachment,
  type AttachOps,
  DmaBuf,
  DmaFence,
  type DmaResvUsage,
  Kernel,
  Process,
  type SgTable,
} from '../../src/framework/index.ts';
import {
  Completion,
  Fifo,
  Machine,
  MachinePlan,
  type PciFunction,
  Scheduler,
  type Task,
} from '../../src/machine/index.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { FakeExporter, locked } from './kernel-rig.ts';

const PROGRAMS = 10_000;
const OPERATIONS = 50;
const BUFFERS_MAX = 4;
const PROCESSES = ['one', 'two', 'three'];
const DEVICES = ['03:00.0', '04:00.0', '41:00.0'];
const USAGES: readonly DmaResvUsage[] = ['kernel', 'write', 'read', 'bookkeep'];
const PLAN = new MachinePlan(wideMachine());

/** What a process holds of an attachment. */
interface Held {
  readonly buf: DmaBuf;
  attachment: Attachment | null;
  table: SgTable | null;
  pins: number;
}

const FOLLOWS: AttachOps = {
  allowPeer2Peer: true,
  *invalidateMappings(attachment): Task {
    const held = attachment.importerPriv as Held;
    if (held.table === null) return;
    const { table } = held;
    held.table = null;
    yield* attachment.unmapAttachment(table, 'bidirectional');
  },
};

/** Three processes, a card that signals fences, and what they did. */
class World {
  readonly scheduler = new Scheduler();
  readonly kernel: Kernel;
  readonly devices: readonly PciFunction[];
  readonly exporters: FakeExporter[] = [];
  readonly bufs: DmaBuf<FakeExporter>[] = [];
  readonly actors: RandomProcess[];
  readonly fences: Fifo<DmaFence>;
  readonly made: DmaFence[] = [];
  readonly ended: Completion;
  seqno = 0;

  constructor(seed: number) {
    const { scheduler } = this;
    this.ended = new Completion(scheduler, 'ended');
    this.kernel = new Kernel(new Machine(PLAN, scheduler));
    this.devices = DEVICES.map((at) => this.kernel.machine.function(`0000:${at}`));
    this.fences = new Fifo(scheduler, 'work', []);
    scheduler.spawn(this.card(), { name: 'card', role: 'device', daemon: true });
    this.actors = PROCESSES.map((name, i) => {
      const prng = new Prng(seed * PROCESSES.length + i);
      return new RandomProcess(this, new Process(this.kernel, name), prng);
    });
    for (const [i, actor] of this.actors.entries()) {
      const name = PROCESSES[i] ?? '';
      scheduler.spawn(actor.program(Math.ceil(OPERATIONS / PROCESSES.length)), {
        name,
        role: 'user',
      });
    }
    scheduler.spawn(this.reap(), { name: 'reaper', role: 'user' });
  }

  /** Closes all descriptors when everybody has ended. */
  private *reap(): Task {
    for (const _actor of this.actors) yield* this.ended.wait();
    for (const { process } of this.actors) yield* process.exit();
  }

  private *card(): Task {
    for (;;) {
      const fence = yield* this.fences.take();
      yield* this.scheduler.sleep(10);
      yield* fence.signal();
      yield* fence.put();
    }
  }
}

/** One process that does things at random, and cleans up. */
class RandomProcess {
  readonly process: Process;
  private readonly world: World;
  private readonly prng: Prng;
  private readonly fds: number[] = [];
  private readonly held: Held[] = [];

  constructor(world: World, process: Process, prng: Prng) {
    this.world = world;
    this.process = process;
    this.prng = prng;
  }

  /** So many operations; then everything is given back but descriptors, which others may send. */
  *program(operations: number): Task {
    for (let i = 0; i < operations; i += 1) {
      try {
        yield* this.process.syscall(this.operation(this.prng.below(11)));
      } catch (error) {
        if (!isDmaBufError(error) || error.reason !== 'test-of-the-dice') throw error;
      }
    }
    while (this.held.length > 0) yield* this.process.syscall(this.letGo(0));
    yield* this.world.ended.complete();
  }

  private pick<T>(list: readonly T[]): T | undefined {
    return list[this.prng.below(Math.max(1, list.length))];
  }

  private operation(which: number): Task {
    switch (which) {
      case 0:
        return this.export();
      case 1:
        return this.dup();
      case 2:
        return this.close();
      case 3:
      case 4:
        return this.attach();
      case 5:
        return this.mapOrUnmap();
      case 6:
        return this.pinOrUnpin();
      case 7:
        return this.letGo(this.prng.below(Math.max(1, this.held.length)));
      case 8:
        return this.invalidate();
      case 9:
        return this.work();
      default:
        return this.send();
    }
  }

  private *export(): Task {
    const { world, prng } = this;
    if (world.bufs.length >= BUFFERS_MAX) return;
    const refuses = prng.below(4) === 0;
    const exporter = new FakeExporter({
      isDynamic: prng.below(2) === 0,
      ...(refuses ? { mapError: new DmaBufError('ENOMEM', 'map', 'test-of-the-dice') } : {}),
    });
    const info = { exporterName: 'fake', ops: exporter.ops, size: 4096, priv: exporter };
    world.exporters.push(exporter);
    const buf = yield* DmaBuf.export(world.kernel, info);
    world.bufs.push(buf);
    this.fds.push(yield* buf.fd(this.process));
  }

  private *dup(): Task {
    const fd = this.pick(this.fds);
    if (fd !== undefined) this.fds.push(yield* this.process.dup(fd));
  }

  private *close(): Task {
    if (this.fds.length === 0) return;
    const [fd] = this.fds.splice(this.prng.below(this.fds.length), 1);
    if (fd !== undefined) yield* this.process.close(fd);
  }

  private *send(): Task {
    const fd = this.pick(this.fds);
    const to = this.pick(this.world.actors);
    if (fd === undefined || to === undefined) return;
    const file = yield* this.process.fds.fget(fd);
    if (file === null) return expect.fail('an open descriptor');
    const there = yield* to.process.fds.install(file);
    if (there !== null) to.fds.push(there);
  }

  private *attach(): Task {
    const { world, prng } = this;
    const fd = this.pick(this.fds);
    const device = this.pick(world.devices);
    if (fd === undefined || device === undefined) return;
    const buf = yield* DmaBuf.get(this.process, fd);
    const held: Held = { buf, attachment: null, table: null, pins: 0 };
    held.attachment =
      prng.below(2) === 0
        ? yield* buf.attach(device)
        : yield* buf.dynamicAttach(device, FOLLOWS, held);
    this.held.push(held);
  }

  private *mapOrUnmap(): Task {
    const held = this.pick(this.held);
    if (held !== undefined) yield* locked(held.buf.resv, this.toggleMap(held));
  }

  private *toggleMap(held: Held): Task {
    const { attachment, table } = held;
    if (attachment === null) return;
    if (table === null) {
      held.table = yield* attachment.mapAttachment('bidirectional');
    } else {
      held.table = null;
      yield* attachment.unmapAttachment(table, 'bidirectional');
    }
  }

  private *pinOrUnpin(): Task {
    const held = this.pick(this.held.filter(({ attachment }) => attachment?.isDynamic === true));
    if (held === undefined) return;
    const pins = held.pins > 0 && this.prng.below(2) === 0 ? -1 : 1;
    yield* locked(held.buf.resv, this.changePins(held, pins));
  }

  private *changePins(held: Held, by: 1 | -1): Task {
    if (held.attachment === null) return;
    yield* by === 1 ? held.attachment.pin() : held.attachment.unpin();
    held.pins += by;
  }

  /** Gives one attachment back, in the order that is due. */
  private *letGo(at: number): Task {
    const [held] = this.held.splice(at, 1);
    if (held === undefined) return;
    yield* locked(held.buf.resv, this.release(held));
    if (held.attachment !== null) yield* held.buf.detach(held.attachment);
    yield* held.buf.put();
  }

  private *release(held: Held): Task {
    if (held.table !== null) yield* this.toggleMap(held);
    while (held.pins > 0) yield* this.changePins(held, -1);
  }

  private *invalidate(): Task {
    const fd = this.pick(this.fds);
    if (fd === undefined) return;
    const buf = yield* DmaBuf.get(this.process, fd);
    yield* locked(buf.resv, buf.invalidateMappings());
    yield* buf.put();
  }

  /** Work for the card, and now and then a wait for all of it. */
  private *work(): Task {
    const held = this.pick(this.held);
    if (held === undefined) return;
    const usage = this.pick(USAGES) ?? 'bookkeep';
    yield* locked(held.buf.resv, this.publish(held.buf, usage));
    if (this.prng.below(3) === 0) yield* held.buf.resv.wait(usage);
  }

  private *publish(buf: DmaBuf, usage: DmaResvUsage): Task {
    const { world } = this;
    yield* buf.resv.reserveFences(1);
    world.seqno += 1;
    const origin = { driver: 'card', timeline: 'ring', context: 1, seqno: world.seqno };
    const fence = new DmaFence(world.kernel, origin);
    yield* buf.resv.addFence(fence, usage);
    world.made.push(fence);
    yield* world.fences.push(fence);
  }
}

function check(seed: number): void {
  const world = new World(seed);
  const outcome = world.scheduler.run(new RandomStrategy(seed));
  const { kernel, exporters, actors, bufs } = world;
  const picture = {
    status: outcome.status,
    findings: outcome.findings.map(({ title }) => title),
    pins: exporters.map(({ pins }) => pins),
    tables: exporters.map(({ tables }) => tables.length),
    attachments: bufs.map(({ attachments }) => attachments.value.length),
    references: bufs.map(({ file }) => file.refs.value),
    released: exporters.map(({ calls }) => calls.filter((call) => call === 'release').length),
    locks: bufs.filter(({ resv }) => resv.lockCell.value.owner !== null).length,
    descriptors: actors.map(({ process }) => process.fds.value.size),
    buffers: kernel.bufferList.value,
    fences: world.made.filter(({ refs }) => refs.value > 0).length,
  };
  const none = exporters.map(() => 0);
  expect(picture, `seed ${seed}`).toEqual({
    status: 'done',
    findings: [],
    pins: none,
    tables: none,
    attachments: none,
    references: none,
    released: exporters.map(() => 1),
    locks: 0,
    descriptors: [0, 0, 0],
    buffers: 0,
    fences: 0,
  });
}

test(`${PROGRAMS} random programs of ${OPERATIONS} operations leave nothing behind`, () => {
  for (let seed = 0; seed < PROGRAMS; seed += 1) check(seed);
  console.log(`random programs: seeds 0 to ${PROGRAMS - 1}`);
});
