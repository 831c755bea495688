/**
 * Goal: whatever a program hands the probe, the kernel stays whole, and a call that fails has
 * changed nothing. Method: each check of docs/probe-abi.md; then random bytes in random calls,
 * against a snapshot of everything that a call could change.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type DmaBufError,
  isDmaBufError,
  PAGE_SIZE,
  PROBE_ATTACH,
  PROBE_EXPORT,
  PROBE_IOCTL,
  PROBE_USAGE,
  probeAttach,
  probeCopy,
  probeCpu,
  probeEvents,
  probeExport,
  probeExportInfo,
  probeFenceAdd,
  probeFences,
  probeFenceSignal,
  probeId,
  probeImport,
  probeMap,
  probeVersion,
  probeVmap,
  type Struct,
} from '../../src/base/index.ts';
import { PROBE_COPY_MAX, PROBE_PAGES_MAX } from '../../src/drivers/index.ts';
import type { ProbeFile } from '../../src/drivers/probe/probe-file.ts';
import type { Task } from '../../src/machine/index.ts';
import { type CallName, type ProbeProgram, ProbeRig } from './probe-rig.ts';

const FOLLOWS = PROBE_ATTACH.DYNAMIC | PROBE_ATTACH.PEER2PEER | PROBE_ATTACH.INVALIDATE;

/** The struct of each call. */
const LAYOUTS: Readonly<Record<CallName, Struct<object>>> = {
  VERSION: probeVersion,
  IMPORT: probeImport,
  ATTACH: probeAttach,
  MAP: probeMap,
  UNMAP: probeId,
  PIN: probeId,
  UNPIN: probeId,
  DETACH: probeId,
  PUT: probeId,
  BEGIN_CPU: probeCpu,
  END_CPU: probeCpu,
  VMAP: probeVmap,
  VREAD: probeCopy,
  VWRITE: probeCopy,
  VUNMAP: probeId,
  EVENTS: probeEvents,
  EXPORT: probeExport,
  EXPORT_INFO: probeExportInfo,
  INVALIDATE: probeId,
  FENCE_ADD: probeFenceAdd,
  FENCE_SIGNAL: probeFenceSignal,
  FENCES: probeFences,
} as unknown as Readonly<Record<CallName, Struct<object>>>;
const CALLS = Object.keys(LAYOUTS) as readonly CallName[];

/** One of each thing. */
interface Things {
  readonly fd: number;
  readonly export: number;
  readonly buffer: number;
  readonly attachment: number;
  readonly mapping: number;
  readonly vmap: number;
  readonly fence: number;
}

function* makeThings(program: ProbeProgram): Task<Things> {
  const { fd, id } = yield* program.export({ pages: 2, flags: PROBE_EXPORT.DYNAMIC });
  const buffer = yield* program.import(fd);
  const { attachment } = yield* program.attach(buffer, 'probe', FOLLOWS);
  const mapping = (yield* program.map(attachment)).id;
  const vmap = yield* program.vmap(buffer);
  const fence = yield* program.fenceAdd(buffer, PROBE_USAGE.BOOKKEEP);
  yield* program.byId('INVALIDATE', id);
  return { fd, export: id, buffer, attachment, mapping, vmap, fence };
}

/** Everything that a call of the program could change. */
function snapshot({ rig, process, file }: ProbeProgram): unknown {
  const { handles, news } = file as ProbeFile;
  const { slots, reserved } = handles.value;
  return {
    things: [...slots].map(([id, { handle, users }]) => [id, handle.constructor.name, users]),
    reserved,
    fds: [...process.fds.value.keys()],
    pages: rig.machine.memory.pagesInUse,
    events: news.events.value,
    attached: rig.kinds('attachment.attach').length - rig.kinds('attachment.detach').length,
    mapped: rig.kinds('attachment.map').length - rig.kinds('attachment.unmap').length,
    fences: rig.kinds('fence.init').length - rig.kinds('fence.signal').length,
  };
}

/** Runs a program with one of each thing, and expects that it can end. */
function withThings(body: (program: ProbeProgram, things: Things) => Task): void {
  const rig = new ProbeRig();
  function* main(): Task {
    const program = yield* rig.program();
    yield* body(program, yield* makeThings(program));
    yield* program.exit();
  }
  rig.user(main(), 'program');
  expect(rig.run().status).toBe('done');
  expect(rig.scheduler.findings.filter(({ kind }) => kind !== 'warn')).toEqual([]);
  expect(rig.machine.memory.pagesInUse).toBe(0);
  expect([...rig.process.fds.value]).toEqual([]);
}

/** An ioctl that may fail; if it does, nothing has changed. */
function* hostile(program: ProbeProgram, request: number, arg: number): Task<DmaBufError | null> {
  const before = snapshot(program);
  try {
    yield* program.raw(request, arg);
    return null;
  } catch (error) {
    if (!isDmaBufError(error)) throw error;
    // What a failed call made and took back goes on the way out of the kernel.
    yield* program.rig.kernel.returnToUser();
    expect(snapshot(program)).toEqual(before);
    return error;
  }
}

function* failing(
  program: ProbeProgram,
  name: CallName,
  values: Record<string, number | bigint | string>,
): Task<string> {
  const layout = LAYOUTS[name] as Struct<Record<string, number | bigint | string>>;
  yield* program.process.mm.store(program.base, layout.encode(values));
  const error = yield* hostile(program, PROBE_IOCTL[name], program.base);
  return error === null ? 'done' : `${error.code} ${error.reason}`;
}

const RESERVED = 'EINVAL probe-reserved-bits-are-set';
const RANGE = 'EINVAL probe-argument-is-out-of-range';

describe('A number that is no call', () => {
  test('is ENOTTY: another number, another size, another direction', () => {
    withThings(function* (program) {
      for (const request of [0, 0x7e16, 0x4008_6200, PROBE_IOCTL.PUT + 0x1_0000, 0xffff_ffff]) {
        const error = yield* hostile(program, request, program.base);
        expect([error?.code, error?.reason]).toEqual(['ENOTTY', 'probe-knows-no-such-ioctl']);
      }
    });
  });
});

describe('A bad pointer to the struct', () => {
  test.each(CALLS)('is EFAULT for %s', (name) => {
    withThings(function* (program) {
      const end = program.base + 4 * PAGE_SIZE;
      for (const arg of [0, 1, end, end - 4, 2 ** 47, 2 ** 52, 2 ** 64 - 1, -1, Number.NaN]) {
        expect((yield* hostile(program, PROBE_IOCTL[name], arg))?.code).toBe('EFAULT');
      }
    });
  });
});

describe('Memory that can be read but not written', () => {
  test('undoes what was made, if its number cannot be told (EFAULT)', () => {
    withThings(function* (program, { fd, buffer, attachment }) {
      const at = yield* program.readOnlyPage();
      const calls = [
        ['IMPORT', probeImport.encode({ fd })],
        ['ATTACH', probeAttach.encode({ import: buffer, device: 'probe' })],
        ['MAP', probeMap.encode({ attachment })],
        ['VMAP', probeVmap.encode({ import: buffer })],
        ['EXPORT', probeExport.encode({ pages: 1 })],
        ['FENCE_ADD', probeFenceAdd.encode({ import: buffer, usage: 3 })],
        ['EVENTS', probeEvents.encode({ events: program.listsAt, capacity: 9 })],
      ] as const;
      for (const [name, bytes] of calls) {
        yield* program.putReadOnly(bytes);
        expect((yield* hostile(program, PROBE_IOCTL[name], at))?.code).toBe('EFAULT');
      }
    });
  });

  test('keeps events that could not be copied (EFAULT)', () => {
    withThings(function* (program) {
      const values = { events: 16n, capacity: 1 };
      expect(yield* failing(program, 'EVENTS', values)).toBe('EFAULT segmentation-fault');
      expect(yield* program.events()).toHaveLength(1);
    });
  });

  test('unmaps what could not be told (EFAULT)', () => {
    withThings(function* (program, { attachment }) {
      const values = { attachment, entries: 2n ** 64n - 8n, capacity: 1 };
      expect((yield* failing(program, 'MAP', values)).slice(0, 6)).toBe('EFAULT');
    });
  });
});

describe('An argument', () => {
  type Row = readonly [CallName, Record<string, number | bigint | string>, string];
  const far = 2n ** 64n - 1n;
  const rows = (t: Things): readonly Row[] => [
    ['IMPORT', { fd: t.fd, flags: 1 }, RESERVED],
    ['IMPORT', { fd: -1, reserved: 1 }, RESERVED],
    ['IMPORT', { fd: -1 }, 'EBADF descriptor-is-not-open'],
    ['IMPORT', { fd: 3 }, 'EINVAL descriptor-is-no-dma-buf'],
    ['ATTACH', { import: t.buffer, flags: 1 }, RESERVED],
    ['ATTACH', { import: t.buffer, reserved: 1 }, RESERVED],
    ['ATTACH', { import: t.buffer, mode: 16 }, RESERVED],
    ['ATTACH', { import: t.buffer, mode: PROBE_ATTACH.PEER2PEER }, RANGE],
    ['ATTACH', { import: t.buffer, mode: 1 | PROBE_ATTACH.UNMAP_AT_ONCE }, RANGE],
    ['ATTACH', { import: t.buffer, device: 'x'.repeat(32) }, RANGE],
    ['ATTACH', { import: 999, device: 'nonsense' }, 'ENOENT probe-has-no-such-thing'],
    ['MAP', { attachment: t.attachment, flags: 1 }, RESERVED],
    ['MAP', { attachment: t.attachment, direction: 3 }, RANGE],
    ['MAP', { attachment: 0, direction: 2 }, 'ENOENT probe-has-no-such-thing'],
    ['UNMAP', { id: t.mapping, reserved: 1 }, RESERVED],
    ['PIN', { id: t.attachment, reserved: 1 }, RESERVED],
    ['UNPIN', { id: t.attachment }, 'EINVAL probe-has-no-pin'],
    ['DETACH', { id: t.attachment, reserved: 1 }, RESERVED],
    ['PUT', { id: t.buffer, reserved: 1 }, RESERVED],
    ['BEGIN_CPU', { import: t.buffer, direction: 3 }, RANGE],
    ['BEGIN_CPU', { import: t.buffer, reserved: 1n }, RESERVED],
    ['END_CPU', { import: t.buffer, direction: 0xffff_ffff }, RANGE],
    ['VMAP', { import: t.buffer, flags: 1 }, RESERVED],
    ['VMAP', { import: t.buffer, reserved: 1n << 63n }, RESERVED],
    ['VREAD', { vmap: t.vmap, reserved: 1 }, RESERVED],
    ['VREAD', { vmap: t.vmap, length: BigInt(PROBE_COPY_MAX) + 1n }, RANGE],
    ['VREAD', { vmap: t.vmap, offset: far, length: 1n }, RANGE],
    ['VREAD', { vmap: t.vmap, offset: 8192n, length: 1n }, RANGE],
    ['VREAD', { vmap: t.vmap, length: 8n, data: 8n }, 'EFAULT segmentation-fault'],
    ['VWRITE', { vmap: t.vmap, offset: 8191n, length: 2n }, RANGE],
    ['VWRITE', { vmap: t.vmap, length: 8n, data: 8n }, 'EFAULT segmentation-fault'],
    ['EVENTS', { flags: 1 }, RESERVED],
    ['EXPORT', { pages: 0 }, RANGE],
    ['EXPORT', { pages: PROBE_PAGES_MAX + 1 }, RANGE],
    ['EXPORT', { pages: 1, flags: 4 }, RESERVED],
    ['EXPORT', { pages: 1, openFlags: 0x800 }, RESERVED],
    ['EXPORT', { pages: 1, reserved: 1n }, RESERVED],
    ['EXPORT', { pages: 1, attachErrno: 4096 }, RANGE],
    ['EXPORT', { pages: 1, mapErrno: 512 }, RANGE],
    ['EXPORT_INFO', { export: t.export, reserved32: 1 }, RESERVED],
    ['INVALIDATE', { id: t.export, reserved: 1 }, RESERVED],
    ['FENCE_ADD', { import: t.buffer, usage: 4 }, RANGE],
    ['FENCE_ADD', { import: t.buffer, flags: 1 }, RESERVED],
    ['FENCE_SIGNAL', { fence: t.fence, error: 1 }, RANGE],
    ['FENCE_SIGNAL', { fence: t.fence, error: -4096 }, RANGE],
    ['FENCE_SIGNAL', { fence: t.fence, reserved: 1n }, RESERVED],
    ['FENCES', { import: t.buffer, usage: 4 }, RANGE],
    ['FENCES', { import: t.buffer, flags: 1 }, RESERVED],
    ['FENCES', { import: t.buffer, usage: 3, capacity: 1 }, 'EFAULT segmentation-fault'],
  ];

  test('that means nothing is refused, and nothing has changed', () => {
    withThings(function* (program, things) {
      for (const [name, values, answer] of rows(things)) {
        expect([name, values, yield* failing(program, name, values)]).toEqual([
          name,
          values,
          answer,
        ]);
      }
    });
  });
});

describe('Random bytes in a random call', () => {
  test('leave the kernel whole; if the call fails, nothing has changed', () => {
    const word = fc.oneof(
      fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 8, 0xffff_ffff, 0x8000_0000),
      fc.nat(0xffff_ffff),
    );
    const scenario = fc.record({
      name: fc.constantFrom(...CALLS),
      words: fc.array(word, { minLength: 14, maxLength: 14 }),
      zeros: fc.nat(2 ** 14 - 1),
      pointer: fc.constantFrom(null, 0n, 8n, 2n ** 64n - 1n),
    });
    fc.assert(
      fc.property(scenario, ({ name, words, zeros, pointer }) => {
        withThings(function* (program) {
          const kept = words.map((value, i) => ((zeros >> i) & 1 ? 0 : value));
          const bytes = new Uint8Array(Uint32Array.from(kept).buffer);
          if (pointer !== null) new DataView(bytes.buffer).setBigUint64(8, pointer, true);
          const { size } = LAYOUTS[name];
          yield* program.process.mm.store(program.base, bytes.subarray(0, size));
          yield* hostile(program, PROBE_IOCTL[name], program.base);
        });
      }),
      { numRuns: 400 },
    );
  });
});
