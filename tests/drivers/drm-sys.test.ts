/** Goal: a program that knows system calls only gets along with DRM nodes. */

import { describe, expect, test } from 'vitest';
import {
  DMA_BUF_IOCTL,
  DRM_IOCTL,
  dmaBufExportSyncFile,
  drmModeCreateDumb,
  drmModeMapDumb,
  drmPrimeHandle,
  drmVgemFenceAttach,
  drmVgemFenceSignal,
  ioctlNumber,
  MAP,
  O,
  PAGE_SIZE,
  PROT,
  SEEK,
  type Struct,
  type UserAddr,
} from '../../src/base/index.ts';
import { ModelSys, POLLIN, POLLOUT } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { DrmRig } from './drm-rig.ts';

const READ_WRITE = PROT.READ | PROT.WRITE;

/** A program in the machine with vgem. */
class SysRig extends DrmRig {
  readonly sys = new ModelSys(this.process);

  *ioctl<V extends object>(fd: number, nr: number, layout: Struct<V>, args: Partial<V>): Task<V> {
    const at = yield* this.sys.alloc(layout.size);
    yield* this.sys.store(at, layout.encode(args));
    yield* this.sys.ioctl(fd, nr, at);
    return layout.decode(yield* this.sys.load(at, layout.size));
  }

  /** Opens the card and makes a buffer of one page. */
  *buffer(): Task<{ readonly card: number; readonly handle: number }> {
    const card = yield* this.sys.open('/dev/dri/card0', O.RDWR);
    const args = { width: 32, height: 32, bpp: 32 };
    const { handle } = yield* this.ioctl(card, DRM_IOCTL.MODE_CREATE_DUMB, drmModeCreateDumb, args);
    return { card, handle };
  }

  *toFd(card: number, handle: number, flags: number): Task<number> {
    const request = DRM_IOCTL.PRIME_HANDLE_TO_FD;
    return (yield* this.ioctl(card, request, drmPrimeHandle, { handle, flags })).fd;
  }

  *map(fd: number, prot: number, offset = 0): Task<UserAddr> {
    return yield* this.sys.mmap({ length: PAGE_SIZE, prot, flags: MAP.SHARED, fd, offset });
  }
}

describe('A program with a vgem buffer', () => {
  test('sees one inode behind two descriptors of it (N22)', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.do(
      (function* () {
        const { card, handle } = yield* rig.buffer();
        const one = yield* rig.toFd(card, handle, 2);
        const other = yield* rig.toFd(card, handle, 2);
        expect(other).not.toBe(one);
        expect((yield* sys.fstat(other)).ino).toBe((yield* sys.fstat(one)).ino);
        expect(yield* sys.lseek(one, 0, SEEK.END)).toBe(PAGE_SIZE);
        expect(yield* sys.readFile(`/proc/self/fdinfo/${one}`)).toContain('exp_name:\tdrm\n');
        yield* sys.exit(0);
      })(),
    );
    expect(rig.machine.memory.pagesInUse).toBe(0);
    expect(rig.vgem.refs.value).toBe(1);
  });

  test('draws through the node and reads through the dma-buf, and so does its child', () => {
    const rig = new SysRig();
    const { sys } = rig;
    const seen: number[] = [];
    rig.do(
      (function* () {
        const { card, handle } = yield* rig.buffer();
        const told = yield* rig.ioctl(card, DRM_IOCTL.MODE_MAP_DUMB, drmModeMapDumb, { handle });
        const drawn = yield* rig.map(card, READ_WRITE, Number(told.offset));
        const fd = yield* rig.toFd(card, handle, 2);
        const read = yield* rig.map(fd, PROT.READ);
        yield* sys.close(card);
        yield* sys.close(fd);
        yield* sys.store(drawn, Uint8Array.of(1, 2));
        const pid = yield* sys.fork(function* (child): Task {
          seen.push(...(yield* child.load(read, 2)));
          yield* child.store(drawn, Uint8Array.of(9));
        });
        yield* sys.waitpid(pid);
        seen.push(...(yield* sys.load(read, 2)));
        yield* sys.exit(0);
      })(),
    );
    expect(seen).toEqual([1, 2, 9, 2]);
    expect(rig.machine.memory.pagesInUse).toBe(0);
    expect(rig.vgem.refs.value).toBe(1);
  });

  test('cannot write through a descriptor exported without DRM_RDWR: EACCES (E.5)', () => {
    const rig = new SysRig();
    rig.do(
      (function* () {
        const { card, handle } = yield* rig.buffer();
        const fd = yield* rig.toFd(card, handle, 0);
        expect((yield* refused(rig.map(fd, READ_WRITE))).code).toBe('EACCES');
        yield* rig.map(fd, PROT.READ);
        // The file stays as the first call made it.
        const again = yield* rig.toFd(card, handle, 2);
        expect((yield* refused(rig.map(again, READ_WRITE))).code).toBe('EACCES');
      })(),
    );
  });

  test('polls its fences and takes them out as sync files (E.4)', () => {
    const rig = new SysRig();
    const { sys } = rig;
    rig.do(
      (function* () {
        const { card, handle } = yield* rig.buffer();
        const fd = yield* rig.toFd(card, handle, 2);
        const request = [{ fd, events: POLLIN | POLLOUT }];
        expect(yield* sys.poll(request, 0)).toEqual([POLLIN | POLLOUT]);
        const attach = DRM_IOCTL.VGEM_FENCE_ATTACH;
        const args = { handle, flags: 1 };
        const { outFence } = yield* rig.ioctl(card, attach, drmVgemFenceAttach, args);
        expect(yield* sys.poll(request, 0)).toEqual([0]);
        const exported = yield* rig.ioctl(
          fd,
          DMA_BUF_IOCTL.EXPORT_SYNC_FILE,
          dmaBufExportSyncFile,
          { flags: 1 },
        );
        const sync = [{ fd: exported.fd, events: POLLIN }];
        expect(yield* sys.poll(sync, 5)).toEqual([0]);
        const signal = { fence: outFence };
        yield* rig.ioctl(card, DRM_IOCTL.VGEM_FENCE_SIGNAL, drmVgemFenceSignal, signal);
        expect(yield* sys.poll(sync, -1)).toEqual([POLLIN]);
        expect(yield* sys.poll(request, -1)).toEqual([POLLIN | POLLOUT]);
        yield* sys.exit(0);
      })(),
    );
    expect(rig.scheduler.t).toBeLessThan(1e9);
    expect(rig.warnings).toEqual([]);
  });

  test('gets EINVAL for an unknown number, on the render node as well (N7)', () => {
    const rig = new SysRig();
    rig.do(
      (function* () {
        const fd = yield* rig.sys.open('/dev/dri/renderD128', O.RDWR);
        const request = ioctlNumber('none', 'd', 0xfe, 0);
        expect((yield* refused(rig.sys.ioctl(fd, request, 0))).code).toBe('EINVAL');
      })(),
    );
  });
});
