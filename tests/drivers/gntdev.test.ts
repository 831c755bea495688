import { describe, expect, test } from 'vitest';
import {
  DmaBufError,
  GNTDEV_DMABUF,
  joinBytes,
  gntdevDmabufExpFromRefs,
  gntdevDmabufExpWaitReleased,
  gntdevDmabufImpRelease,
  gntdevDmabufImpToRefs,
  physAddr,
  type PhysAddr,
  struct,
  u32,
  type UserAddr,
} from '../../src/base/index.ts';
import {
  Gntdev,
  GNTDEV_PAGES_MAX,
  GNTDEV_PATH,
  GRANTS_MAX,
  GrantTables,
} from '../../src/drivers/index.ts';
import { DmaBuf, type KernelFile, type Vma } from '../../src/framework/index.ts';
import { anonymousMemory } from '../../src/framework/user/anonymous-memory.ts';
import type { Task } from '../../src/machine/index.ts';
import { FakeExporter, KernelRig } from '../framework/kernel-rig.ts';
import { refused, useUpAddresses } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';

const PAGE = 4096;
const OURS = 1;
const OTHER = 7;
const number = struct<{ readonly value: number }>({ value: u32 });

/** Our guest, and another one that is nothing but its pages. */
class GntdevRig extends KernelRig {
  readonly tables: GrantTables;
  private opened: KernelFile | null = null;
  private scratch = 0 as UserAddr;

  constructor(isPv = false) {
    super(wideMachine({ iommu: 'translated' }));
    this.tables = new GrantTables(this.scheduler);
    new Gntdev(this.kernel, { tables: this.tables, domid: OURS, isPv });
  }

  get file(): KernelFile {
    return this.opened ?? expect.fail('nothing is open');
  }

  *begin(): Task {
    const node = this.kernel.nodes.find(GNTDEV_PATH) ?? expect.fail('no node');
    const mode = { read: true, write: true, isNonBlocking: false };
    this.opened = yield* node.open(this.process, mode);
    const wish = { size: PAGE, pgoff: 0, read: true, write: true, isShared: false, file: null };
    this.scratch = (yield* this.process.mm.map(wish, anonymous)).start;
  }

  *end(): Task {
    yield* this.process.exit();
    yield* this.file.put();
  }

  *ioctl(request: number, arg: number): Task<number> {
    const ioctl = this.file.operations.ioctl ?? expect.fail('no ioctls');
    return yield* this.process.syscall(ioctl(this.file, request, arg, this.process));
  }

  /** Pages of the other guest, and the entries by which it lends them to us. */
  *lend(count: number): Task<{ readonly refs: readonly number[]; readonly pages: PhysAddr[] }> {
    const refs: number[] = [];
    const pages: PhysAddr[] = [];
    for (let i = 0; i < count; i += 1) {
      const phys = yield* this.machine.memory.allocate(1);
      const page = phys ?? expect.fail('no page');
      pages.push(page);
      refs.push((yield* this.tables.grant(OTHER, OURS, page)) ?? expect.fail('no entry'));
    }
    return { refs, pages };
  }

  /** Exports; gives back the descriptor. */
  *exportRefs(refs: readonly number[], count = refs.length, domid = OTHER): Task<number> {
    const head = gntdevDmabufExpFromRefs.encode({ count, domid, refs: refs.slice(0, 1) });
    const rest = refs.slice(1).map((value) => number.encode({ value }));
    yield* this.process.mm.store(this.scratch, joinBytes(head, ...rest));
    yield* this.ioctl(GNTDEV_DMABUF.EXP_FROM_REFS, this.scratch);
    const told = yield* this.process.mm.load(this.scratch, gntdevDmabufExpFromRefs.size);
    expect(gntdevDmabufExpFromRefs.decode(told).refs).toEqual(refs.slice(0, 1));
    return gntdevDmabufExpFromRefs.decode(told).fd;
  }

  *wait(fd: number, waitToMs: number): Task {
    const bytes = gntdevDmabufExpWaitReleased.encode({ fd, waitToMs });
    const at = (this.scratch + 2048) as UserAddr;
    yield* this.process.mm.store(at, bytes);
    yield* this.ioctl(GNTDEV_DMABUF.EXP_WAIT_RELEASED, at);
  }

  /** Lends a buffer of ours to the other guest; gives back the entries. */
  *importFd(fd: number, count: number): Task<readonly number[]> {
    yield* this.process.mm.store(
      this.scratch,
      gntdevDmabufImpToRefs.encode({ fd, count, domid: OTHER }),
    );
    yield* this.ioctl(GNTDEV_DMABUF.IMP_TO_REFS, this.scratch);
    const at = (this.scratch + gntdevDmabufImpToRefs.offsets.refs) as UserAddr;
    const refs: number[] = [];
    for (let i = 0; i < count; i += 1) {
      const bytes = yield* this.process.mm.load((at + 4 * i) as UserAddr, 4);
      refs.push(number.decode(bytes).value);
    }
    return refs;
  }

  *release(fd: number): Task {
    yield* this.process.mm.store(this.scratch, gntdevDmabufImpRelease.encode({ fd }));
    yield* this.ioctl(GNTDEV_DMABUF.IMP_RELEASE, this.scratch);
  }

  /** No buffer, and no page of ours that is lent. */
  expectNothingLeft(): void {
    expect(this.kernel.bufferList.value).toBe(0);
    expect(this.tables.lentBy(OURS)).toBe(0);
    expect([...this.tables.value.values()].every(({ mapped }) => mapped === 0)).toBe(true);
    expect(this.warnings).toEqual([]);
  }
}

function* anonymous(vma: Vma): Task {
  vma.operations = anonymousMemory;
}

function* why(call: Task<unknown>): Task<string> {
  const { code, reason } = yield* refused(call);
  return `${code} ${reason}`;
}

describe('EXP_FROM_REFS', () => {
  test('makes a buffer of another guest’s pages, which a device of ours reaches (F.4)', () => {
    const rig = new GntdevRig();
    rig.do(useLentPages(rig));
    rig.expectNothingLeft();
  });

  test('keeps one mapping for each attachment, and refuses another direction (F.4)', () => {
    const rig = new GntdevRig();
    rig.do(mapTwice(rig));
    expect(rig.at('0a:00.0').domain.value?.value).toEqual([]);
    rig.expectNothingLeft();
  });

  test('refuses in the kernel’s order, and keeps no page (F.4)', () => {
    const rig = new GntdevRig();
    rig.do(refuseExports(rig));
    rig.expectNothingLeft();
  });

  test('gives ENOMEM when the pages cannot be mapped (F.4)', () => {
    const rig = new GntdevRig();
    rig.do(mapWithoutAddresses(rig));
    rig.expectNothingLeft();
  });
});

describe('EXP_WAIT_RELEASED', () => {
  test('ends in time, too late, or has nothing to wait for (F.4)', () => {
    const rig = new GntdevRig();
    rig.do(waitForRelease(rig));
    rig.expectNothingLeft();
  });

  test('wakes when the last reference goes', () => {
    const rig = new GntdevRig();
    const fd = rig.do(beginAndExport(rig));
    const waiter = rig.user(rig.wait(fd, 1000), 'waiter');
    rig.user(closeLater(rig, fd), 'closer');
    rig.run();
    expect(waiter.step).toBe(null);
    expect(rig.scheduler.findings.filter(({ kind }) => kind === 'failure')).toEqual([]);
    expect(rig.scheduler.t).toBe(5_000_000);
  });
});

describe('IMP_TO_REFS', () => {
  test('lends every page of a buffer, in order, and takes it back (F.4)', () => {
    const rig = new GntdevRig();
    rig.do(lendOurs(rig));
    rig.expectNothingLeft();
  });

  test('refuses in the kernel’s order, and leaves nothing lent (F.4)', () => {
    const rig = new GntdevRig();
    rig.do(refuseImports(rig));
    rig.expectNothingLeft();
  });

  test('is undone when the file closes', () => {
    const rig = new GntdevRig();
    rig.do(forgetImport(rig));
    rig.expectNothingLeft();
  });
});

describe('A paravirtualised guest', () => {
  test('can do none of it: EINVAL (F.4)', () => {
    const rig = new GntdevRig(true);
    rig.do(paravirtualised(rig));
  });
});

function* useLentPages(rig: GntdevRig): Task {
  yield* rig.begin();
  const { refs, pages } = yield* rig.lend(3);
  const fd = yield* rig.exportRefs(refs);
  expect(rig.kinds('buffer.fd')).toEqual([]);
  const buf = yield* DmaBuf.get(rig.process, fd);
  expect(buf).toMatchObject({ size: 3 * PAGE, exporterName: 'xen_gntdev' });
  // The other guest cannot take back what we map.
  expect(yield* rig.tables.end(OTHER, refs[0] ?? 0)).toBe(false);
  const fn = rig.at('0a:00.0');
  const attachment = yield* buf.attach(fn);
  const table = yield* attachment.mapAttachmentUnlocked('from-device');
  const [entry] = table.entries;
  const address = entry?.address ?? expect.fail('no entry');
  yield* rig.machine.dma.write(fn, address, Uint8Array.of(3, 2, 1));
  expect(rig.ram(pages[0] ?? 0, 3)).toEqual([3, 2, 1]);
  yield* attachment.unmapAttachmentUnlocked(table, 'from-device');
  yield* buf.detach(attachment);
  yield* buf.put();
  yield* rig.end();
}

function* mapTwice(rig: GntdevRig): Task {
  yield* rig.begin();
  const { refs } = yield* rig.lend(2);
  const buf = yield* DmaBuf.get(rig.process, yield* rig.exportRefs(refs));
  const attachment = yield* buf.attach(rig.at('0a:00.0'));
  const table = yield* attachment.mapAttachmentUnlocked('to-device');
  yield* attachment.unmapAttachmentUnlocked(table, 'to-device');
  expect(yield* attachment.mapAttachmentUnlocked('to-device')).toBe(table);
  expect(yield* why(attachment.mapAttachmentUnlocked('bidirectional'))).toBe(
    'EBUSY mapped-in-another-direction',
  );
  yield* attachment.unmapAttachmentUnlocked(table, 'to-device');
  const other = yield* buf.attach(rig.at('0a:00.0'));
  const second = yield* other.mapAttachmentUnlocked('bidirectional');
  yield* other.unmapAttachmentUnlocked(second, 'bidirectional');
  yield* buf.detach(attachment);
  yield* buf.detach(other);
  yield* buf.put();
  yield* rig.end();
}

function* refuseExports(rig: GntdevRig): Task {
  yield* rig.begin();
  const { refs } = yield* rig.lend(2);
  expect(yield* why(rig.ioctl(0x1234, 0))).toBe('ENOTTY no-such-gntdev-command');
  for (const request of Object.values(GNTDEV_DMABUF)) {
    expect((yield* refused(rig.ioctl(request, 0x1000))).code).toBe('EFAULT');
  }
  const expected = [
    [rig.exportRefs(refs, 0), 'EINVAL export-of-no-page'],
    [rig.exportRefs(refs, GNTDEV_PAGES_MAX + 1), 'EINVAL export-of-too-many-pages'],
    [rig.exportRefs([...refs, 99]), 'EINVAL page-was-not-lent-to-us'],
    [rig.exportRefs(refs, 2, OURS), 'EINVAL page-was-not-lent-to-us'],
  ] as const;
  for (const [call, reason] of expected) expect(yield* why(call)).toBe(reason);
  expect(rig.process.fds.value.size).toBe(0);
  const copies: number[] = [yield* rig.exportRefs(refs)];
  for (;;) {
    const copy = yield* rig.process.fds.reserve();
    if (copy === null) break;
    copies.push(copy);
  }
  expect(yield* why(rig.exportRefs(refs))).toBe('EMFILE no-descriptor-for-the-export');
  for (const copy of copies.slice(1)) yield* rig.process.fds.unreserve(copy);
  yield* rig.end();
}

function* mapWithoutAddresses(rig: GntdevRig): Task {
  yield* rig.begin();
  const { refs } = yield* rig.lend(1);
  const buf = yield* DmaBuf.get(rig.process, yield* rig.exportRefs(refs));
  const fn = rig.at('0a:00.0');
  useUpAddresses(fn);
  const attachment = yield* buf.attach(fn);
  expect(yield* why(attachment.mapAttachmentUnlocked('to-device'))).toBe(
    'ENOMEM lent-pages-cannot-be-mapped',
  );
  yield* buf.detach(attachment);
  yield* buf.put();
  yield* rig.end();
}

function* waitForRelease(rig: GntdevRig): Task {
  yield* rig.begin();
  expect(yield* why(rig.wait(3, 10))).toBe('ENOENT nothing-to-wait-for');
  const { refs } = yield* rig.lend(1);
  const fd = yield* rig.exportRefs(refs);
  const before = rig.scheduler.t;
  expect(yield* why(rig.wait(fd, 10))).toBe('ETIMEDOUT buffer-is-still-in-use');
  expect(rig.scheduler.t - before).toBe(10_000_000);
  // The number stays known while somebody has the buffer.
  const buf = yield* DmaBuf.get(rig.process, fd);
  yield* rig.process.close(fd);
  expect(yield* why(rig.wait(fd, 0))).toBe('ETIMEDOUT buffer-is-still-in-use');
  yield* buf.put();
  yield* rig.scheduler.sleep(1);
  expect(yield* why(rig.wait(fd, 10))).toBe('ENOENT nothing-to-wait-for');
  yield* rig.end();
}

function* beginAndExport(rig: GntdevRig): Task<number> {
  yield* rig.begin();
  const { refs } = yield* rig.lend(1);
  return yield* rig.exportRefs(refs);
}

function* closeLater(rig: GntdevRig, fd: number): Task {
  yield* rig.scheduler.sleep(5_000_000);
  yield* rig.process.close(fd);
}

/** A buffer of ours: pages that the other guest lent us serve as well as any. */
function* ourBuffer(rig: GntdevRig): Task<{ readonly fd: number; readonly pages: PhysAddr[] }> {
  const { refs, pages } = yield* rig.lend(2);
  return { fd: yield* rig.exportRefs(refs), pages };
}

function* lendOurs(rig: GntdevRig): Task {
  yield* rig.begin();
  const { fd, pages } = yield* ourBuffer(rig);
  const refs = yield* rig.importFd(fd, 2);
  for (const [i, ref] of refs.entries()) {
    expect(yield* rig.tables.map(OURS, ref, OTHER)).toBe(pages[i]);
    yield* rig.tables.unmap(OURS, ref);
  }
  const buf = yield* DmaBuf.get(rig.process, fd);
  expect(buf.attachments.value).toHaveLength(1);
  yield* buf.put();
  yield* rig.release(fd);
  expect(buf.attachments.value).toEqual([]);
  expect(yield* why(rig.release(fd))).toBe('ENOENT nothing-imported-by-that-number');
  yield* rig.end();
}

function* refuseImports(rig: GntdevRig): Task {
  yield* rig.begin();
  const { fd } = yield* ourBuffer(rig);
  const mapError = new DmaBufError('ENODEV', 'map', 'test-does-not-map');
  const unmappable = yield* rig.export(new FakeExporter({ mapError }));
  const bad = yield* unmappable.fd(rig.process);
  const expected = [
    [rig.importFd(-1, 0), 'EINVAL import-of-no-page'],
    [rig.importFd(-1, GNTDEV_PAGES_MAX + 1), 'EINVAL import-of-too-many-pages'],
    [rig.importFd(77, 1), 'EBADF descriptor-is-not-open'],
    [rig.importFd(bad, 1), 'ENODEV test-does-not-map'],
    [rig.importFd(fd, 1), 'EINVAL buffer-of-another-size'],
    [rig.importFd(fd, 3), 'EINVAL buffer-of-another-size'],
  ] as const;
  for (const [call, reason] of expected) expect(yield* why(call)).toBe(reason);
  for (let i = 1; i < GRANTS_MAX; i += 1) yield* rig.tables.grant(OURS, OTHER, physAddr(0));
  expect(yield* why(rig.importFd(fd, 2))).toBe('ENOSPC grant-table-is-full');
  expect(rig.tables.lentBy(OURS)).toBe(GRANTS_MAX - 1);
  for (let i = 1; i < GRANTS_MAX; i += 1) yield* rig.tables.end(OURS, i);
  const buf = yield* DmaBuf.get(rig.process, fd);
  expect(buf.attachments.value).toEqual([]);
  expect(buf.file.refs.value).toBe(2);
  yield* buf.put();
  expect(unmappable.attachments.value).toEqual([]);
  yield* rig.end();
}

function* forgetImport(rig: GntdevRig): Task {
  yield* rig.begin();
  const exporter = new FakeExporter();
  const fd = yield* (yield* rig.export(exporter, 2 * PAGE)).fd(rig.process);
  yield* rig.importFd(fd, 2);
  yield* rig.end();
}

function* paravirtualised(rig: GntdevRig): Task {
  yield* rig.begin();
  const { refs } = yield* rig.lend(1);
  expect(yield* why(rig.exportRefs(refs))).toBe('EINVAL export-of-a-pv-guest');
  expect(yield* why(rig.importFd(3, 1))).toBe('EINVAL import-by-a-pv-guest');
}
