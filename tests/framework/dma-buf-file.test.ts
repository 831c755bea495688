/**
 * Goal: a buffer's descriptor answers system calls as Linux does, errno by errno. Method: the
 * file's operations, with arguments in a program's memory; reference A.7, A.8, A.10, A.11.
 */

import { describe, expect, test } from 'vitest';
import { DMA_BUF_IOCTL, dmaBufSync, PAGE_SIZE } from '../../src/base/index.ts';
import { DmaBuf } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { oneStep } from '../machine/fabric-rig.ts';
import { CoreRig } from './core-rig.ts';
import { FakeExporter } from './kernel-rig.ts';

const NOWHERE = 0x10;

function boot(size = 3 * PAGE_SIZE) {
  const rig = new CoreRig();
  return { rig, buf: rig.do(rig.export(new FakeExporter(), size)) };
}

/** A C string. */
function text(value: string): Uint8Array {
  return Uint8Array.from([...value].map((character) => character.charCodeAt(0)).concat(0));
}

function fdinfo(rig: CoreRig, buf: DmaBuf<FakeExporter>): readonly string[] {
  // As procfs does it: with a reference of its own.
  function* show(): Task<readonly string[]> {
    yield* buf.file.get();
    const lines = yield* buf.file.operations.fdinfo?.(buf.file) ?? expect.fail('fdinfo');
    yield* buf.file.put();
    return lines;
  }
  return rig.do(show());
}

describe('Seeking (A.8)', () => {
  test.each([
    [0, 2, 3 * PAGE_SIZE],
    [0, 0, 0],
    [0, 1, 'EINVAL'],
    [1, 0, 'EINVAL'],
    [-1, 2, 'EINVAL'],
    [0, 3, 'EINVAL'],
  ])('to %d from %d is %s: seek-to-begin-or-end-only (N1)', (offset, whence, expected) => {
    const { rig, buf } = boot();
    const call = buf.file.operations.llseek?.(buf.file, offset, whence) ?? expect.fail('llseek');
    expect(typeof expected === 'number' ? rig.do(call) : rig.codeOf(call)).toBe(expected);
  });
});

describe("A buffer's file (A.8)", () => {
  test('neither reads nor writes, so the kernel answers EINVAL (N2)', () => {
    const { buf } = boot();
    expect(buf.file.operations.read).toBeUndefined();
    expect(buf.file.operations.write).toBeUndefined();
  });

  test('says its size, number and file system, and that it has no type', () => {
    const { rig } = boot();
    const second = rig.do(rig.export(new FakeExporter(), 5000));
    expect(second.file.operations.stat?.(second.file)).toEqual({
      ino: 2,
      size: 5000,
      mode: 0o600,
      magic: 0x444d4142,
    });
  });

  test('keeps of its flags the access mode and O_NONBLOCK (A.3)', () => {
    const { rig } = boot();
    const exporter = new FakeExporter();
    const info = { exporterName: 'fake', ops: exporter.ops, size: 1, priv: exporter };
    const modes = [0x80000, 0x80001, 0x80802, 3].map((flags) => {
      const { file } = rig.do(DmaBuf.export(rig.kernel, { ...info, flags }));
      return [file.flags, file.mode.read, file.mode.write, file.mode.isNonBlocking, file.modeBits];
    });
    expect(modes).toEqual([
      [0, true, false, false, 0x80005],
      [1, false, true, false, 0x80006],
      [0x802, true, true, true, 0x80007],
      [3, false, false, false, 0x80004],
    ]);
  });
});

describe('The name of a buffer (A.7)', () => {
  const SET_NAME = DMA_BUF_IOCTL.SET_NAME_B;

  test('has at most 31 characters; 32 are EINVAL: name-is-too-long (N3)', () => {
    const { rig, buf } = boot();
    rig.do(rig.ioctl(buf, SET_NAME, text('a'.repeat(31))));
    expect(buf.name.value).toBe('a'.repeat(31));
    expect(buf.file.path).toBe(`/dmabuf:${'a'.repeat(31)}`);
    expect(rig.codeOf(rig.ioctl(buf, SET_NAME, text('b'.repeat(32))))).toBe('EINVAL');
    expect(rig.codeOf(rig.ioctl(buf, SET_NAME, text('b'.repeat(100))))).toBe('EINVAL');
    expect(buf.name.value).toBe('a'.repeat(31));
  });

  test('is set by both numbers, again and while devices are attached', () => {
    const { rig, buf } = boot();
    expect(buf.file.path).toBe('/dmabuf:');
    rig.do(buf.attach(rig.at('03:00.0')));
    rig.do(rig.ioctl(buf, DMA_BUF_IOCTL.SET_NAME_A, text('one')));
    rig.do(rig.ioctl(buf, SET_NAME, text('other')));
    expect(rig.events('buffer.name')).toMatchObject([
      { buffer: 1, name: 'one' },
      { buffer: 1, name: 'other' },
    ]);
  });

  test('that cannot be read is EFAULT', () => {
    const { rig, buf } = boot();
    for (const address of [NOWHERE, 0, 2 ** 52, 2 ** 64]) {
      expect(rig.codeOf(rig.ioctlAt(buf, SET_NAME, address))).toBe('EFAULT');
    }
    // The map ends before the string does.
    const end = rig.do(rig.userBytes(text('x').slice(0, 1), 2 * PAGE_SIZE - 1));
    expect(rig.codeOf(rig.ioctlAt(buf, SET_NAME, end))).toBe('EFAULT');
    expect(buf.name.value).toBeNull();
  });

  test('is ENOMEM without memory, and stays as it was: no-memory-for-a-name', () => {
    const { rig, buf } = boot();
    const at = rig.do(rig.userBytes(text('frame')));
    Object.assign(rig.scheduler, { failAt: 1, fallible: 0 });
    expect(rig.codeOf(rig.ioctlAt(buf, SET_NAME, at))).toBe('ENOMEM');
    expect(buf.name.value).toBeNull();
  });

  test('that ends right before the end of the map, or crosses a page, is read', () => {
    const { rig, buf } = boot();
    const last = rig.do(rig.userBytes(text('edge'), 2 * PAGE_SIZE - 5));
    rig.do(rig.ioctlAt(buf, SET_NAME, last));
    expect(buf.name.value).toBe('edge');
    const crossing = rig.do(rig.userBytes(text('crossing'), PAGE_SIZE - 3));
    rig.do(rig.ioctlAt(buf, SET_NAME, crossing));
    expect(buf.name.value).toBe('crossing');
  });

  test('shows in fdinfo once it is set, also if it is empty (N4, A.11)', () => {
    const { rig, buf } = boot();
    const lines = [`size:\t${3 * PAGE_SIZE}`, 'count:\t1', 'exp_name:\tfake'];
    expect(fdinfo(rig, buf)).toEqual(lines);
    rig.do(rig.ioctl(buf, SET_NAME, text('')));
    expect(fdinfo(rig, buf)).toEqual([...lines, 'name:\t']);
    expect(buf.file.path).toBe('/dmabuf:');
    rig.do(oneStep(buf.file.get()));
    rig.do(rig.ioctl(buf, SET_NAME, text('frame')));
    expect(fdinfo(rig, buf)).toEqual([lines[0], 'count:\t2', lines[2], 'name:\tframe']);
  });
});

describe('DMA_BUF_IOCTL_SYNC (A.10)', () => {
  const sync = (flags: bigint) => dmaBufSync.encode({ flags });

  test.each([
    [0n, 'sync-neither-reads-nor-writes'],
    [4n, 'sync-neither-reads-nor-writes'],
    [8n, 'unknown-sync-flags'],
    [9n, 'unknown-sync-flags'],
    [1n << 63n, 'unknown-sync-flags'],
    [1n | (1n << 32n), 'unknown-sync-flags'],
  ])('with flags %d is EINVAL: %s (N5)', (flags, reason) => {
    const { rig } = boot();
    const buf = rig.do(rig.exportRam());
    expect(rig.codeOf(rig.ioctl(buf, DMA_BUF_IOCTL.SYNC, sync(flags)))).toBe('EINVAL');
    expect(reason).toMatch(/sync/);
    expect(buf.priv.calls).toEqual([]);
  });

  test.each([
    [1n, 'begin from-device'],
    [2n, 'begin to-device'],
    [3n, 'begin bidirectional'],
    [5n, 'end from-device'],
    [6n, 'end to-device'],
    [7n, 'end bidirectional'],
  ])('with flags %d asks the exporter to %s (N5)', (flags, call) => {
    const { rig } = boot();
    const buf = rig.do(rig.exportRam());
    rig.do(rig.ioctl(buf, DMA_BUF_IOCTL.SYNC, sync(flags)));
    expect(buf.priv.calls).toEqual([call]);
  });

  test('is not balanced: an END without START reaches the exporter (N6, CP-002)', () => {
    const { rig } = boot();
    const buf = rig.do(rig.exportRam());
    for (const flags of [7n, 7n, 3n, 3n]) {
      rig.do(rig.ioctl(buf, DMA_BUF_IOCTL.SYNC, sync(flags)));
    }
    expect(buf.priv.calls).toHaveLength(4);
  });

  test('of a read-only descriptor may write: nobody looks (A.10)', () => {
    const { rig } = boot();
    const exporter = new FakeExporter();
    const info = { exporterName: 'fake', ops: exporter.ops, size: 1, priv: exporter, flags: 0 };
    const buf = rig.do(DmaBuf.export(rig.kernel, info));
    rig.do(rig.ioctl(buf, DMA_BUF_IOCTL.SYNC, sync(2n)));
    rig.do(rig.ioctl(buf, DMA_BUF_IOCTL.SET_NAME_B, text('mine')));
    expect(buf.name.value).toBe('mine');
  });

  test('with an argument that cannot be read is EFAULT', () => {
    const { rig, buf } = boot();
    expect(rig.codeOf(rig.ioctlAt(buf, DMA_BUF_IOCTL.SYNC, NOWHERE))).toBe('EFAULT');
  });
});

describe('Any other command', () => {
  test.each([0x40086204, 0x40046200, 0x5413, 0, 0xffffffff])(
    '%d is ENOTTY: no-such-dma-buf-command (N7, A.10)',
    (request) => {
      const { rig, buf } = boot();
      expect(rig.codeOf(rig.ioctlAt(buf, request, NOWHERE))).toBe('ENOTTY');
    },
  );
});
