/**
 * Goal: buffers are numbered, found by descriptor and counted as Linux does it, and every call that
 * fails says why and leaves all as it was. Method: one process; reference A.3, A.4.
 */

import { describe, expect, test } from 'vitest';
import {
  DmaBuf,
  type DmaBufOps,
  DmaResv,
  FD_MAX,
  type FileOperations,
  KernelFile,
  Process,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { oneStep, refused } from '../machine/fabric-rig.ts';
import { FakeExporter, KernelRig } from './kernel-rig.ts';

const FAKE_FILE_OPERATIONS: FileOperations = { *release(): Task {} };

/** Descriptors until none is free. */
function* fill(rig: KernelRig, file: KernelFile): Task {
  for (let fd: number | null = 0; fd !== null;) {
    yield* file.get();
    fd = yield* rig.process.fds.install(file);
    if (fd === null) yield* file.put();
  }
}

describe('Exporting', () => {
  test.each(['pin', 'unpin'] as const)(
    'with %s alone is EINVAL and a kernel warning (DB-001)',
    (op) => {
      const rig = new KernelRig();
      const exporter = new FakeExporter({ isDynamic: true });
      const other = op === 'pin' ? 'unpin' : 'pin';
      const { [other]: _, ...ops } = exporter.ops;
      const info = { exporterName: 'fake', ops: ops as DmaBufOps<FakeExporter>, size: 1 };
      const error = rig.do(refused(DmaBuf.export(rig.kernel, { ...info, priv: exporter })));
      expect(error).toMatchObject({ code: 'EINVAL', reason: 'pin-without-unpin' });
      expect(rig.warnings).toEqual(['dma_buf_export: pin and unpin come together']);
      expect(rig.kernel.bufferList.value).toBe(0);
    },
  );

  test('numbers buffers from 1 and uses no number twice', () => {
    const rig = new KernelRig();
    function* program(): Task<readonly number[]> {
      const numbers: number[] = [];
      for (let i = 0; i < 3; i += 1) {
        const buf = yield* rig.export();
        numbers.push(buf.number);
        if (i === 1) yield* buf.put();
      }
      return numbers;
    }
    expect(rig.do(program())).toEqual([1, 2, 3]);
    expect(rig.kernel.bufferList.value).toBe(2);
    expect(rig.events('buffer.export')).toMatchObject([
      { buffer: 1, exporter: 'fake', size: 4096 },
      { buffer: 2 },
      { buffer: 3 },
    ]);
  });

  test('takes any size, none too, and a reservation that is there already', () => {
    const rig = new KernelRig();
    const resv = new DmaResv(rig.kernel, 'shared');
    const exporter = new FakeExporter();
    const info = { exporterName: 'fake', ops: exporter.ops, size: 0, priv: exporter };
    const one = rig.do(DmaBuf.export(rig.kernel, { ...info, resv }));
    const other = rig.do(DmaBuf.export(rig.kernel, { ...info, resv: null }));
    expect([one.size, one.resv, other.resv === resv]).toEqual([0, resv, false]);
    expect(one.attachments.value).toEqual([]);
  });
});

describe('A descriptor (A.4)', () => {
  test('is the lowest that is free, from 3 on', () => {
    const rig = new KernelRig();
    function* program(): Task<readonly number[]> {
      const fds: number[] = [];
      for (let i = 0; i < 3; i += 1) fds.push(yield* (yield* rig.export()).fd(rig.process));
      yield* rig.process.close(4);
      fds.push(yield* rig.process.dup(5), yield* rig.process.dup(5));
      return fds;
    }
    expect(rig.do(program())).toEqual([3, 4, 5, 4, 6]);
    expect(rig.events('buffer.fd')).toMatchObject([
      { buffer: 1, process: 'app', fd: 3 },
      { buffer: 2, fd: 4 },
      { buffer: 3, fd: 5 },
    ]);
    expect(rig.events('fd.close')).toMatchObject([{ process: 'app', fd: 4 }]);
  });

  test('takes over the reference of who asked for it (DB-004)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    expect(buf.file.refs.value).toBe(1);
    const fd = rig.do(buf.fd(rig.process));
    expect(buf.file.refs.value).toBe(1);
    rig.do(rig.process.close(fd));
    expect(rig.kernel.bufferList.value).toBe(0);
  });

  test('made twice of one reference is found at the second close (DB-004)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const fds = [rig.do(buf.fd(rig.process)), rig.do(buf.fd(rig.process))];
    for (const fd of fds) rig.do(rig.process.close(fd));
    expect(rig.warnings).toEqual([
      'refcount: dma-buf 1 file decremented below zero; imbalanced put',
    ]);
    expect(buf.priv.calls).toEqual(['release']);
  });

  test('closes on exec if that is wanted; no other flag counts', () => {
    const rig = new KernelRig();
    const fds = [0, 0x80000, 0x802].map((flags) =>
      rig.do(rig.do(rig.export()).fd(rig.process, flags)),
    );
    const closes = fds.map((fd) => rig.do(oneStep(rig.process.fds.isCloseOnExec(fd))));
    expect(closes).toEqual([false, true, false]);
  });

  test('that was reserved gets the buffer when nothing can fail any more (DB-005)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const fd = rig.do(oneStep(rig.process.fds.reserve())) ?? expect.fail('a descriptor');
    // Nobody finds it before.
    expect(rig.do(refused(DmaBuf.get(rig.process, fd))).code).toBe('EBADF');
    rig.do(buf.fdInstall(rig.process, fd));
    expect(rig.do(DmaBuf.get(rig.process, fd))).toBe(buf);
    expect(buf.file.refs.value).toBe(2);
    expect(rig.events('buffer.fd')).toMatchObject([{ buffer: 1, process: 'app', fd }]);
  });

  test('is EMFILE when none is free, and who asked keeps its reference (DB-004)', () => {
    const rig = new KernelRig();
    const file = new KernelFile(rig.kernel, 'other', FAKE_FILE_OPERATIONS);
    rig.do(fill(rig, file));
    expect(rig.process.fds.value.size).toBe(FD_MAX - 3);
    const buf = rig.do(rig.export());
    const error = rig.do(refused(buf.fd(rig.process)));
    expect(error).toMatchObject({ code: 'EMFILE', call: 'fd', reason: 'descriptor-table-is-full' });
    expect(buf.file.refs.value).toBe(1);
    rig.do(buf.put());
    expect(buf.priv.calls).toEqual(['release']);
  });

  test('is gone with its last copy only (S003-17)', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const fd = rig.do(buf.fd(rig.process));
    const copy = rig.do(rig.process.dup(fd));
    rig.do(rig.process.close(fd));
    expect(rig.do(DmaBuf.get(rig.process, copy))).toBe(buf);
    expect(rig.do(refused(DmaBuf.get(rig.process, fd))).code).toBe('EBADF');
  });
});

describe('Getting the buffer of a descriptor', () => {
  test('gives it with a reference', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const fd = rig.do(buf.fd(rig.process));
    expect(rig.do(DmaBuf.get(rig.process, fd))).toBe(buf);
    expect(buf.file.refs.value).toBe(2);
    expect(rig.events('buffer.get')).toMatchObject([{ buffer: 1 }]);
  });

  test.each([3, 0, -1, 1e9, 3.5])('is EBADF for a descriptor that is not open: %d', (fd) => {
    const rig = new KernelRig();
    const error = rig.do(refused(DmaBuf.get(rig.process, fd)));
    expect(error).toMatchObject({ code: 'EBADF', call: 'get', reason: 'descriptor-is-not-open' });
  });

  test('is EINVAL for another kind of file, whose reference is given back', () => {
    const rig = new KernelRig();
    const file = new KernelFile(rig.kernel, 'socket', FAKE_FILE_OPERATIONS);
    const fd = rig.do(oneStep(rig.process.fds.install(file))) ?? expect.fail('a descriptor');
    const error = rig.do(refused(DmaBuf.get(rig.process, fd)));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'descriptor-is-no-dma-buf' });
    expect(file.refs.value).toBe(1);
  });

  test('is not to be had from another process', () => {
    const rig = new KernelRig();
    const fd = rig.do(rig.do(rig.export()).fd(rig.process));
    const other = new Process(rig.kernel, 'other');
    expect(rig.do(refused(DmaBuf.get(other, fd))).code).toBe('EBADF');
  });
});

describe('Closing and copying', () => {
  test('a descriptor that is not open is EBADF: closed-already, dup-of-a-closed-descriptor', () => {
    const rig = new KernelRig();
    const fd = rig.do(rig.do(rig.export()).fd(rig.process));
    rig.do(rig.process.close(fd));
    const closed = rig.do(refused(rig.process.close(fd)));
    expect(closed).toMatchObject({ code: 'EBADF', call: 'close', reason: 'closed-already' });
    const copied = rig.do(refused(rig.process.dup(fd)));
    expect(copied).toMatchObject({ code: 'EBADF', reason: 'dup-of-a-closed-descriptor' });
    expect(rig.events('fd.close')).toHaveLength(1);
  });

  test('a copy in a full table is EMFILE and takes no reference', () => {
    const rig = new KernelRig();
    const buf = rig.do(rig.export());
    const fd = rig.do(buf.fd(rig.process));
    rig.do(fill(rig, new KernelFile(rig.kernel, 'other', FAKE_FILE_OPERATIONS)));
    const error = rig.do(refused(rig.process.dup(fd)));
    expect(error).toMatchObject({ code: 'EMFILE', reason: 'no-descriptor-left-to-dup' });
    expect(buf.file.refs.value).toBe(1);
  });
});
