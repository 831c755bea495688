/**
 * Goal: a program gets through the probe what the kernel API gives, and nothing that it did is left
 * when it closes the file. Method: programs that play exporter and importer.
 */

import { describe, expect, test } from 'vitest';
import {
  dmaAddr,
  PAGE_SIZE,
  PROBE_ATTACH,
  PROBE_ATTACHED,
  PROBE_DIRECTION,
  PROBE_EXPORT,
  PROBE_USAGE,
  PROBE_VERSION,
  PROBE_IOCTL,
  probeAttach,
  probeEntry,
  probeExport,
  probeFenceSignal,
  probeId,
  probeImport,
  probeMap,
  probeVersion,
  userAddr,
  ERRNO,
  type DmaBufError,
} from '../../src/base/index.ts';
import { PROBE_EVENTS_MAX, PROBE_HANDLES_MAX } from '../../src/drivers/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { DmaBuf, FD_MAX, POLLIN, PollTable } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { type CallName, type ProbeProgram, ProbeRig } from './probe-rig.ts';

const { DYNAMIC, PEER2PEER, INVALIDATE, UNMAP_AT_ONCE } = PROBE_ATTACH;
const FOLLOWS = DYNAMIC | PEER2PEER | INVALIDATE;
const CARD = '0000:03:00.0';

/** Runs a program to its end, and expects that nothing is left of it. */
function run<T>(body: (program: ProbeProgram) => Task<T>, rig = new ProbeRig()): T {
  function* main(): Task<T> {
    const program = yield* rig.program();
    const result = yield* body(program);
    yield* program.exit();
    return result;
  }
  const actor = rig.user(main(), 'program');
  expect(rig.run().status).toBe('done');
  expectNothingLeft(rig);
  return actor.result as T;
}

function expectNothingLeft(rig: ProbeRig): void {
  expect(rig.run().findings.filter(({ kind }) => kind !== 'warn')).toEqual([]);
  expect(rig.machine.memory.pagesInUse).toBe(0);
  expect([...rig.process.fds.value]).toEqual([]);
}

describe('A probe file', () => {
  test('tells its version', () => {
    const said = run((program) => program.call('VERSION', probeVersion, {}));
    expect(said).toEqual({ version: PROBE_VERSION, reserved: 0, features: 0n });
  });

  test('lets one program export, import, map and see the same bytes', () => {
    function* body(program: ProbeProgram): Task {
      const { fd, id } = yield* program.export({ pages: 2 });
      const buffer = yield* program.import(fd);
      const { attachment, state } = yield* program.attach(buffer, CARD, 0);
      expect(state).toBe(0);
      const { id: mapping, entries } = yield* program.map(attachment);
      expect(entries.reduce((sum, { length }) => sum + Number(length), 0)).toBe(2 * PAGE_SIZE);
      expect(yield* program.info(id)).toEqual({ attachments: 1, mappings: 1, pins: 0 });
      yield* program.cpu('BEGIN_CPU', buffer, PROBE_DIRECTION.TO_DEVICE);
      const vmap = yield* program.vmap(buffer);
      yield* program.vwrite(vmap, PAGE_SIZE - 2, Uint8Array.of(1, 2, 3, 4));
      expect(yield* program.vread(vmap, PAGE_SIZE - 3, 6)).toEqual(Uint8Array.of(0, 1, 2, 3, 4, 0));
      yield* program.byId('VUNMAP', vmap);
      yield* program.cpu('END_CPU', buffer, PROBE_DIRECTION.TO_DEVICE);
      const { rig } = program;
      const [entry] = entries;
      const address = Number(entry?.address) + PAGE_SIZE - 2;
      const read = yield* rig.machine.dma.read(rig.at(CARD), dmaAddr(address), 4);
      expect(read).toMatchObject({ ok: true, bytes: Uint8Array.of(1, 2, 3, 4) });
      yield* program.byId('UNMAP', mapping);
      yield* program.byId('DETACH', attachment);
      yield* program.byId('PUT', buffer);
      expect(yield* program.info(id)).toEqual({ attachments: 0, mappings: 0, pins: 0 });
    }
    run(body);
  });

  test('is known by its path, and each open of it is a file of its own', () => {
    const rig = new ProbeRig();
    function* body(one: ProbeProgram): Task {
      const other = yield* rig.program();
      const { fd } = yield* one.export();
      const buffer = yield* one.import(fd);
      expect((yield* other.failsById('PUT', buffer)).code).toBe('ENOENT');
      yield* one.byId('PUT', buffer);
    }
    run(body, rig);
  });

  test('never uses a number twice', () => {
    function* body(program: ProbeProgram): Task {
      const { fd } = yield* program.export();
      const first = yield* program.import(fd);
      yield* program.byId('PUT', first);
      expect(yield* program.import(fd)).toBeGreaterThan(first);
      expect((yield* program.failsById('PUT', first)).reason).toBe('probe-has-no-such-thing');
    }
    run(body);
  });

  test('gives everything back when it is closed, in the order in which that is safe', () => {
    const rig = new ProbeRig();
    function* body(program: ProbeProgram): Task {
      const { fd } = yield* program.export({ pages: 3, flags: PROBE_EXPORT.DYNAMIC });
      const buffer = yield* program.import(fd);
      const { attachment } = yield* program.attach(buffer, CARD, FOLLOWS);
      yield* program.map(attachment);
      yield* program.byId('PIN', attachment);
      yield* program.byId('PIN', attachment);
      yield* program.vmap(buffer);
      yield* program.fenceAdd(buffer, PROBE_USAGE.KERNEL);
    }
    run(body, rig);
    const kinds = ['fence.signal', 'attachment.unmap', 'attachment.unpin', 'attachment.detach'];
    expect(rig.kinds(...(kinds as never[]), 'buffer.release')).toEqual([
      'fence.signal',
      'attachment.unmap',
      'attachment.unpin',
      'attachment.unpin',
      'attachment.detach',
      'buffer.release',
      'buffer.release',
    ]);
    expect(rig.events('fence.signal')).toMatchObject([{ error: -125 }]);
    expect(rig.warnings).toEqual([]);
  });

  test('gives things back also if the exporter waits for them with its lock held', () => {
    const rig = new ProbeRig();
    rig.do(rig.open([0, 1]));
    const vfio = [...rig.process.fds.value.keys()][0] ?? -1;
    function* program(): Task {
      const program = yield* rig.program();
      const buffer = yield* program.import(vfio);
      const { attachment } = yield* program.attach(buffer, CARD, FOLLOWS);
      yield* program.map(attachment);
      yield* program.fenceAdd(buffer, PROBE_USAGE.BOOKKEEP);
      rig.user(rig.vdev.reset(rig.process), 'owner');
      yield* rig.scheduler.sleep(1000);
      yield* rig.process.exit();
    }
    rig.user(program(), 'program');
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(rig.events('device.reset')).toHaveLength(2);
  });
});

describe('Numbers of things', () => {
  test('cannot be given up while something rests on them (EBUSY)', () => {
    function* body(program: ProbeProgram): Task {
      const { fd } = yield* program.export();
      const buffer = yield* program.import(fd);
      const { attachment } = yield* program.attach(buffer, 'probe', DYNAMIC);
      const { id } = yield* program.map(attachment);
      for (const [call, number] of [
        ['PUT', buffer],
        ['DETACH', attachment],
      ] as const) {
        const error = yield* program.failsById(call, number);
        expect([error.code, error.reason]).toEqual(['EBUSY', 'probe-thing-is-in-use']);
      }
      yield* program.byId('UNMAP', id);
      yield* program.byId('PIN', attachment);
      expect((yield* program.failsById('DETACH', attachment)).code).toBe('EBUSY');
      yield* program.byId('UNPIN', attachment);
      const error = yield* program.failsById('UNPIN', attachment);
      expect([error.code, error.reason]).toEqual(['EINVAL', 'probe-has-no-pin']);
      yield* program.byId('DETACH', attachment);
      const vmap = yield* program.vmap(buffer);
      expect((yield* program.failsById('PUT', buffer)).code).toBe('EBUSY');
      yield* program.byId('VUNMAP', vmap);
      yield* program.byId('PUT', buffer);
    }
    run(body);
  });

  test('of one kind mean nothing to calls for another (ENOENT)', () => {
    function* body(program: ProbeProgram): Task {
      const { fd, id } = yield* program.export();
      const buffer = yield* program.import(fd);
      const { attachment } = yield* program.attach(buffer, 'probe', 0);
      const mapping = (yield* program.map(attachment)).id;
      const vmap = yield* program.vmap(buffer);
      const fence = yield* program.fenceAdd(buffer, PROBE_USAGE.READ);
      const kinds = { PUT: buffer, DETACH: attachment, UNMAP: mapping, VUNMAP: vmap };
      const more = { PIN: attachment, UNPIN: attachment, INVALIDATE: id };
      for (const [call, right] of Object.entries({ ...kinds, ...more })) {
        for (const wrong of [id, buffer, attachment, mapping, vmap, fence, 0, 0xffff_ffff]) {
          if (wrong === right) continue;
          expect((yield* program.failsById(call as CallName, wrong)).code).toBe('ENOENT');
        }
      }
    }
    run(body);
  });

  test(`are ${PROBE_HANDLES_MAX} at most (ENOSPC)`, () => {
    function* body(program: ProbeProgram): Task {
      const { fd } = yield* program.export();
      for (let i = 1; i < PROBE_HANDLES_MAX; i += 1) yield* program.import(fd);
      const error = yield* program.fails('IMPORT', probeImport, { fd });
      expect([error.code, error.reason]).toEqual(['ENOSPC', 'probe-holds-too-much']);
    }
    run(body);
  });
});

describe('An importer of the probe', () => {
  test('hears of a move in its log and in poll, and gives back at once if it said so', () => {
    function* body(program: ProbeProgram): Task {
      const { fd, id } = yield* program.export();
      const buffer = yield* program.import(fd);
      const at = yield* program.attach(buffer, CARD, FOLLOWS | UNMAP_AT_ONCE);
      expect(at.state).toBe(PROBE_ATTACHED.PEER2PEER | PROBE_ATTACHED.REVOCABLE);
      const later = yield* program.attach(buffer, 'probe', FOLLOWS);
      const gone = yield* program.map(at.attachment);
      const kept = yield* program.map(later.attachment);
      expect(yield* program.events()).toEqual([]);
      const table = new PollTable(POLLIN);
      const poll = (): Task<number> => program.file.operations.poll?.(program.file, table) as never;
      expect(yield* poll()).toBe(0);
      yield* program.byId('INVALIDATE', id);
      expect(yield* poll()).toBe(POLLIN);
      expect(table.entries[0]?.queue.value).toBe(2);
      expect(yield* program.info(id)).toEqual({ attachments: 2, mappings: 1, pins: 0 });
      expect(yield* program.events(1)).toEqual([
        { sequence: 1n, attachment: later.attachment, unmapped: 0 },
      ]);
      expect(yield* program.events()).toEqual([
        { sequence: 2n, attachment: at.attachment, unmapped: 1 },
      ]);
      yield* program.byId('UNMAP', gone.id);
      yield* program.byId('UNMAP', kept.id);
    }
    run(body);
  });

  test('that does not invalidate hears nothing', () => {
    function* body(program: ProbeProgram): Task {
      const { fd, id } = yield* program.export();
      const buffer = yield* program.import(fd);
      yield* program.attach(buffer, CARD, 0);
      yield* program.attach(buffer, CARD, DYNAMIC | PEER2PEER);
      yield* program.byId('INVALIDATE', id);
      expect(yield* program.events()).toEqual([]);
    }
    run(body);
  });

  test(`loses the oldest news beyond ${PROBE_EVENTS_MAX}, and can tell`, () => {
    function* body(program: ProbeProgram): Task {
      const { fd, id } = yield* program.export();
      yield* program.attach(yield* program.import(fd), CARD, FOLLOWS);
      for (let i = 0; i < PROBE_EVENTS_MAX + 2; i += 1) yield* program.byId('INVALIDATE', id);
      expect((yield* program.events(1))[0]?.sequence).toBe(3n);
    }
    run(body);
  });

  test('that shows fewer entries than there are has mapped them all the same', () => {
    function* body(program: ProbeProgram): Task {
      const { fd } = yield* program.export({ pages: 3, flags: PROBE_EXPORT.SCATTERED });
      const { attachment } = yield* program.attach(yield* program.import(fd), 'probe', 0);
      const args = { attachment, entries: program.listsAt, capacity: 2 };
      const said = yield* program.call('MAP', probeMap, args);
      expect(said.count).toBe(3);
      const [, second, beyond] = yield* program.list(probeEntry, 3);
      expect(second?.length).toBe(BigInt(PAGE_SIZE));
      expect(beyond).toEqual({ address: 0n, length: 0n });
    }
    run(body);
  });
});

describe('An exporter of the probe', () => {
  test('refuses as it was told, and the errors pass unchanged', () => {
    function* body(program: ProbeProgram): Task {
      const closed = yield* program.export({ attachErrno: ERRNO.EBUSY });
      const to = { device: CARD, mode: DYNAMIC };
      const refusing = { ...to, import: yield* program.import(closed.fd) };
      const attach = yield* program.fails('ATTACH', probeAttach, refusing);
      expect([attach.code, attach.reason]).toEqual(['EBUSY', 'probe-exporter-refuses-to-attach']);

      const unmappable = yield* program.export({ mapErrno: ERRNO.EREMOTEIO });
      const one = yield* program.attach(yield* program.import(unmappable.fd), CARD, 0);
      const map = yield* program.fails('MAP', probeMap, { attachment: one.attachment });
      expect([map.code, map.reason]).toEqual(['EREMOTEIO', 'probe-exporter-refuses-to-map']);

      const flags = PROBE_EXPORT.DYNAMIC;
      const unpinnable = yield* program.export({ pinErrno: ERRNO.ENOMEM, flags });
      const two = yield* program.attach(yield* program.import(unpinnable.fd), CARD, DYNAMIC);
      const pin = yield* program.failsById('PIN', two.attachment);
      expect([pin.code, pin.reason]).toEqual(['ENOMEM', 'probe-exporter-refuses-to-pin']);
    }
    run(body);
  });

  test('knows a buffer no more when its last descriptor is closed (ENOENT)', () => {
    function* body(program: ProbeProgram): Task {
      const { fd, id } = yield* program.export();
      yield* program.process.close(fd);
      expect((yield* program.failsById('INVALIDATE', id)).reason).toBe('probe-has-no-such-thing');
    }
    run(body);
  });

  test('finds a buffer gone whose release is under way, in any order', () => {
    const answers = new Set<string>();
    for (let seed = 0; seed < 300; seed += 1) {
      const rig = new ProbeRig();
      const { program, fd, id } = rig.do(withBuffer(rig));
      function* ask(): Task {
        const values = { id, reserved: 0 };
        yield* program.process.mm.store(program.base, probeId.encode(values));
        try {
          yield* program.raw(PROBE_IOCTL.INVALIDATE, program.base);
          answers.add('done');
        } catch (error) {
          answers.add((error as DmaBufError).reason);
        }
      }
      rig.user(ask(), 'asker');
      rig.user(program.process.close(fd), 'closer');
      expect(rig.run(new RandomStrategy(seed))).toMatchObject({ status: 'done', findings: [] });
    }
    expect([...answers].sort()).toEqual([
      'done',
      'probe-buffer-is-gone',
      'probe-has-no-such-thing',
    ]);
  });

  test('maps its pages shared only', () => {
    function* body(program: ProbeProgram): Task {
      const { fd } = yield* program.export({ pages: 2 });
      const buf = yield* DmaBuf.get(program.process, fd);
      const { mm } = program.process;
      const size = 2 * PAGE_SIZE;
      const request = { size, pgoff: 0, read: true, write: true, file: null };
      const mmap = buf.ops.mmap?.bind(buf.ops);
      if (mmap === undefined) expect.fail('it can be mapped');
      const vma = yield* mm.map({ ...request, isShared: true }, (made) => mmap(buf, made));
      yield* mm.store(userAddr(vma.start + PAGE_SIZE), Uint8Array.of(7));
      const vmap = yield* program.vmap(yield* program.import(fd));
      expect(yield* program.vread(vmap, PAGE_SIZE, 1)).toEqual(Uint8Array.of(7));
      const error = yield* refused(mm.map({ ...request, isShared: false }, (m) => mmap(buf, m)));
      expect([error.code, error.reason]).toEqual(['EINVAL', 'probe-buffer-is-mapped-privately']);
      yield* buf.put();
    }
    run(body);
  });

  test('says ENOMEM if there are not so many pages, and EMFILE without a descriptor', () => {
    const rig = new ProbeRig();
    function* body(program: ProbeProgram): Task {
      const { free } = rig.machine.memory as { free?: unknown };
      expect(free).toBeDefined();
      const kept: number[] = [];
      for (;;) {
        const phys = yield* rig.machine.memory.allocate(16384);
        if (phys === null) break;
        kept.push(phys);
      }
      const error = yield* program.fails('EXPORT', probeExport, { pages: 16384 });
      expect([error.code, error.reason]).toEqual(['ENOMEM', 'probe-has-no-pages']);
      for (const phys of kept) yield* rig.machine.memory.free(phys as never, 16384);
      for (let i = program.process.fds.value.size; i < FD_MAX - 3; i += 1) {
        yield* program.process.dup(program.fd);
      }
      const full = yield* program.fails('EXPORT', probeExport, { pages: 1 });
      expect([full.code, full.reason]).toEqual(['EMFILE', 'probe-finds-no-descriptor']);
    }
    run(body, rig);
  });
});

function* withBuffer(
  rig: ProbeRig,
): Task<{ readonly program: ProbeProgram; readonly fd: number; readonly id: number }> {
  const program = yield* rig.program();
  return { program, ...(yield* program.export()) };
}

describe('A fence of the probe', () => {
  test('is listed up to its usage until it is signaled, once', () => {
    function* body(program: ProbeProgram): Task {
      const { fd } = yield* program.export();
      const buffer = yield* program.import(fd);
      const read = yield* program.fenceAdd(buffer, PROBE_USAGE.READ);
      const kernel = yield* program.fenceAdd(buffer, PROBE_USAGE.KERNEL);
      for (const [usage, count] of [1, 1, 2, 2].entries()) {
        expect(yield* program.fences(buffer, usage)).toBe(count);
      }
      yield* program.fenceSignal(kernel, -ERRNO.EIO);
      expect(yield* program.fences(buffer, PROBE_USAGE.KERNEL)).toBe(0);
      const again = yield* program.fails('FENCE_SIGNAL', probeFenceSignal, { fence: kernel });
      expect(again.code).toBe('ENOENT');
      yield* program.fenceSignal(read);
    }
    run(body);
  });
});
