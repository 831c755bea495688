/**
 * Goal: fences of a buffer come out as a sync file, and those of a sync file go in, errno by errno.
 * Method: ioctls with arguments in a program's memory; reference A.16.
 */

import { describe, expect, test } from 'vitest';
import {
  DMA_BUF_IOCTL,
  dmaBufExportSyncFile,
  dmaBufImportSyncFile,
  SYNC_IOC,
  syncFileInfo,
} from '../../src/base/index.ts';
import {
  type DmaBuf,
  DmaFence,
  FD_MAX,
  KernelFile,
  syncFileCreate,
  syncFileFence,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { oneStep } from '../machine/fabric-rig.ts';
import { CoreRig } from './core-rig.ts';
import { FakeExporter } from './kernel-rig.ts';

const { EXPORT_SYNC_FILE, IMPORT_SYNC_FILE } = DMA_BUF_IOCTL;
const READ = 1;
const WRITE = 2;
const NOWHERE = 0x10;

function boot() {
  const rig = new CoreRig();
  return { rig, buf: rig.do(rig.export(new FakeExporter())) };
}

function* exportFile(rig: CoreRig, buf: DmaBuf, flags: number): Task<KernelFile> {
  const bytes = yield* rig.ioctl(buf, EXPORT_SYNC_FILE, dmaBufExportSyncFile.encode({ flags }));
  const { fd } = dmaBufExportSyncFile.decode(bytes);
  const file = yield* rig.process.fds.fget(fd);
  return file ?? expect.fail('a sync file');
}

function importFile(rig: CoreRig, buf: DmaBuf, flags: number, fd: number): Task<unknown> {
  return rig.ioctl(buf, IMPORT_SYNC_FILE, dmaBufImportSyncFile.encode({ flags, fd }));
}

/** A sync file of a new pending fence, in the process. */
function* pendingFile(rig: CoreRig, context: number): Task<{ fd: number; fence: DmaFence }> {
  const origin = { driver: 'card', timeline: 'jobs', context, seqno: 1 };
  const fence = new DmaFence(rig.kernel, origin);
  const fd = yield* rig.process.fds.install(syncFileCreate(rig.kernel, fence));
  return { fd: fd ?? expect.fail('a descriptor'), fence };
}

function* pendingIn(buf: DmaBuf, usage: 'kernel' | 'write' | 'read'): Task<readonly number[]> {
  return (yield* buf.resv.getFences(usage)).map(({ origin }) => origin.context);
}

describe('EXPORT_SYNC_FILE (A.16)', () => {
  test.each([0, 4, 5, 0x80000001])(
    'with flags %d is EINVAL: export-for-neither-read-nor-write (N8)',
    (flags) => {
      const { rig, buf } = boot();
      expect(rig.codeOf(exportFile(rig, buf, flags))).toBe('EINVAL');
      expect(rig.process.fds.value.size).toBe(0);
    },
  );

  test('of an idle buffer gives one fence that is signaled (N9)', () => {
    const { rig, buf } = boot();
    const file = rig.do(exportFile(rig, buf, READ | WRITE));
    function* info(): Task<Uint8Array> {
      const at = yield* rig.userBytes(syncFileInfo.encode({}));
      yield* (
        file.operations.ioctl?.(file, SYNC_IOC.FILE_INFO, at, rig.process) ??
        expect.fail('an ioctl')
      );
      return yield* rig.process.mm.load(at, syncFileInfo.size);
    }
    expect(syncFileInfo.decode(rig.do(info()))).toMatchObject({ numFences: 1, status: 1 });
  });

  test('for reading collects writers, for writing readers too', () => {
    const { rig, buf } = boot();
    const usages = ['kernel', 'write', 'read', 'bookkeep'] as const;
    for (const [i, usage] of usages.entries()) rig.do(rig.publish(buf, usage, 101 + i));
    const count = (flags: number) => {
      const fence = syncFileFence(rig.do(exportFile(rig, buf, flags)));
      return fence !== null && 'fences' in fence ? (fence.fences as DmaFence[]).length : 1;
    };
    expect([count(READ), count(WRITE), count(READ | WRITE)]).toEqual([2, 3, 3]);
  });

  test('is a snapshot: fences of later do not belong to it', () => {
    const { rig, buf } = boot();
    const first = rig.do(rig.publish(buf, 'write', 101));
    const file = rig.do(exportFile(rig, buf, READ));
    rig.do(rig.publish(buf, 'write', 102));
    expect(syncFileFence(file)).toBe(first);
    rig.do(first.signal());
    expect(syncFileFence(file)?.value.signaled).toBe(true);
  });

  test('takes no lock', () => {
    const { rig, buf } = boot();
    rig.do(oneStep(buf.resv.trylock()));
    expect(rig.do(exportFile(rig, buf, READ)).path).toBe('anon_inode:sync_file');
  });

  test('is EMFILE without a free descriptor: no-descriptor-to-export-to', () => {
    const { rig, buf } = boot();
    const file = new KernelFile(rig.kernel, 'other', { *release(): Task {} });
    function* fill(): Task {
      for (let fd = 3; fd < FD_MAX; fd += 1) yield* rig.process.fds.install(file);
    }
    rig.do(fill());
    expect(rig.codeOf(exportFile(rig, buf, READ))).toBe('EMFILE');
  });

  test('is EFAULT if the argument cannot be read, or the answer not written', () => {
    const { rig, buf } = boot();
    expect(rig.codeOf(rig.ioctlAt(buf, EXPORT_SYNC_FILE, NOWHERE))).toBe('EFAULT');
    function* readOnly(): Task<number> {
      const at = yield* rig.userBytes(dmaBufExportSyncFile.encode({ flags: READ }));
      const [vma] = yield* rig.process.mm.vmas.read();
      Object.assign(vma ?? expect.fail('a map'), { write: false });
      return yield* rig.ioctlAt(buf, EXPORT_SYNC_FILE, at);
    }
    expect(rig.codeOf(readOnly())).toBe('EFAULT');
    // The number is free again.
    expect(rig.process.fds.value.size).toBe(0);
  });

  test('is ENOMEM without memory: no-memory-to-export-a-sync-file', () => {
    const { rig, buf } = boot();
    const codes = [1, 2].map((failAt) => rig.codeOf(failing(rig, buf, failAt)));
    expect(new Set(codes)).toEqual(new Set(['EMFILE', 'ENOMEM']));
    expect(rig.process.fds.value.size).toBe(0);
  });

  /** An export whose argument is there already, and its error. */
  function* failing(rig: CoreRig, buf: DmaBuf, failAt: number): Task {
    const at = yield* rig.userBytes(dmaBufExportSyncFile.encode({ flags: READ }));
    Object.assign(rig.scheduler, { failAt, fallible: 0 });
    try {
      yield* rig.ioctlAt(buf, EXPORT_SYNC_FILE, at);
    } finally {
      Object.assign(rig.scheduler, { failAt: 0 });
    }
  }
});

describe('IMPORT_SYNC_FILE (A.16)', () => {
  test.each([0, 4, 7])('with flags %d is EINVAL: import-for-neither-read-nor-write', (flags) => {
    const { rig, buf } = boot();
    const { fd } = rig.do(pendingFile(rig, 101));
    expect(rig.codeOf(importFile(rig, buf, flags, fd))).toBe('EINVAL');
    expect(rig.do(pendingIn(buf, 'read'))).toEqual([]);
  });

  test('of a descriptor that is none is EINVAL: import-of-no-sync-file (N10)', () => {
    const { rig, buf } = boot();
    const file = new KernelFile(rig.kernel, 'regular', { *release(): Task {} });
    const fd = rig.do(oneStep(rig.process.fds.install(file))) ?? expect.fail('a descriptor');
    const own = rig.do(buf.fd(rig.process));
    for (const wrong of [-1, 99, fd, own]) {
      expect(rig.codeOf(importFile(rig, buf, READ, wrong))).toBe('EINVAL');
    }
    expect([file.refs.value, buf.file.refs.value]).toEqual([1, 1]);
  });

  test('with an argument that cannot be read is EFAULT', () => {
    const { rig, buf } = boot();
    expect(rig.codeOf(rig.ioctlAt(buf, IMPORT_SYNC_FILE, NOWHERE))).toBe('EFAULT');
  });

  test('adds the fence as a reader or as a writer', () => {
    const { rig, buf } = boot();
    const one = rig.do(pendingFile(rig, 101));
    const other = rig.do(pendingFile(rig, 102));
    rig.do(importFile(rig, buf, READ, one.fd));
    rig.do(importFile(rig, buf, READ | WRITE, other.fd));
    expect(rig.do(pendingIn(buf, 'write'))).toEqual([102]);
    expect(rig.do(pendingIn(buf, 'read'))).toEqual([101, 102]);
    expect(rig.warnings).toEqual([]);
  });

  test('adds every fence of an array by itself', () => {
    const { rig, buf } = boot();
    const source = rig.do(rig.export(new FakeExporter()));
    for (const context of [101, 102, 103]) rig.do(rig.publish(source, 'write', context));
    rig.do(exportFile(rig, source, READ));
    rig.do(importFile(rig, buf, WRITE, 3));
    expect(rig.do(pendingIn(buf, 'write'))).toEqual([101, 102, 103]);
    // A container in a reservation would be a warning (FN-002).
    expect(rig.warnings).toEqual([]);
  });

  test('of an idle buffer changes nothing that anybody waits for', () => {
    const { rig, buf } = boot();
    rig.do(exportFile(rig, buf, READ));
    rig.do(importFile(rig, buf, WRITE, 3));
    expect(rig.do(pendingIn(buf, 'read'))).toEqual([]);
  });

  test('is what a poller of the buffer then waits for (N11, N12)', () => {
    const { rig, buf } = boot();
    const { fd, fence } = rig.do(pendingFile(rig, 101));
    rig.do(importFile(rig, buf, WRITE, fd));
    expect(rig.do(buf.resv.testSignaled('write'))).toBe(false);
    rig.do(fence.signal());
    expect(rig.do(buf.resv.testSignaled('write'))).toBe(true);
  });
});
