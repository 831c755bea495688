import { describe, expect, test } from 'vitest';
import {
  dmaAddr,
  IOMMU_IOAS_MAP,
  IOMMU_IOCTL,
  type IommuIoasMapFile,
  iommuIoasMapFile,
  physAddr,
  type Struct,
  type UserAddr,
} from '../../src/base/index.ts';
import {
  Iommufd,
  IOMMUFD_IOCTL,
  IOMMUFD_PATH,
  IommufdFile,
  iommuDestroy,
  type IommuIoasAlloc,
  iommuIoasAlloc,
  type IommuIoasUnmap,
  iommuIoasUnmap,
} from '../../src/drivers/index.ts';
import {
  DmaBuf,
  type DmaBufOps,
  offer,
  PHYSICAL_WINDOW,
  type RevocableBacking,
  type Vma,
} from '../../src/framework/index.ts';
import { IoptPages } from '../../src/drivers/iommufd/iopt-pages.ts';
import { anonymousMemory } from '../../src/framework/user/anonymous-memory.ts';
import { findMapping, type Task } from '../../src/machine/index.ts';
import { FakeExporter } from '../framework/kernel-rig.ts';
import { refused } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';
import { BAR, OWNED, VfioRig } from './vfio-pci-rig.ts';

const PAGE = 4096;
const { FIXED_IOVA, WRITEABLE, READABLE } = IOMMU_IOAS_MAP;
const READ_WRITE = WRITEABLE | READABLE;
const CLIENT = '0a:00.0';
const ALL = 2n ** 64n - 1n;

/** A program with `/dev/iommu` open. */
class IommufdRig extends VfioRig {
  private scratch: UserAddr | null = null;
  private opened: IommufdFile | null = null;

  constructor(iommu: 'translated' | 'off' = 'translated') {
    super(wideMachine({ iommu, peerForwarding: 'all' }));
    new Iommufd(this.kernel);
  }

  get file(): IommufdFile {
    return this.opened ?? expect.fail('nothing is open');
  }

  /** Opens the device and makes an address space; gives back its number. */
  *begin(): Task<number> {
    const node = this.kernel.nodes.find(IOMMUFD_PATH) ?? expect.fail('no node');
    const mode = { read: true, write: true, isNonBlocking: false };
    const file = yield* node.open(this.process, mode);
    if (!(file instanceof IommufdFile)) return expect.fail('another file');
    this.opened = file;
    yield* this.vdev.open();
    return (yield* this.alloc()).outIoasId;
  }

  *ioctl(request: number, arg: number): Task<number> {
    const ioctl = this.file.operations.ioctl ?? expect.fail('no ioctls');
    return yield* this.process.syscall(ioctl(this.file, request, arg, this.process));
  }

  *call<V extends object>(request: number, layout: Struct<V>, values: Partial<V>): Task<V> {
    if (this.scratch === null) {
      const wish = { size: PAGE, pgoff: 0, read: true, write: true, isShared: false, file: null };
      this.scratch = (yield* this.process.mm.map(wish, anonymous)).start;
    }
    const at = this.scratch;
    yield* this.process.mm.store(at, layout.encode({ size: layout.size, ...values }));
    yield* this.ioctl(request, at);
    return layout.decode(yield* this.process.mm.load(at, layout.size));
  }

  *alloc(values: Partial<IommuIoasAlloc> = {}): Task<IommuIoasAlloc> {
    return yield* this.call(IOMMUFD_IOCTL.IOAS_ALLOC, iommuIoasAlloc, values);
  }

  *mapFile(values: Partial<IommuIoasMapFile>): Task<IommuIoasMapFile> {
    const given = { flags: READ_WRITE, length: BigInt(PAGE), ...values };
    return yield* this.call(IOMMU_IOCTL.IOAS_MAP_FILE, iommuIoasMapFile, given);
  }

  *unmap(values: Partial<IommuIoasUnmap>): Task<IommuIoasUnmap> {
    return yield* this.call(IOMMUFD_IOCTL.IOAS_UNMAP, iommuIoasUnmap, values);
  }

  *destroy(id: number): Task {
    yield* this.call(IOMMUFD_IOCTL.DESTROY, iommuDestroy, { id });
  }

  /** Pages of the BAR as a descriptor. */
  *pages(...ranges: readonly (readonly [number, number])[]): Task<number> {
    return yield* this.exportBytes(
      ranges.map(([page, pages]) => ({ offset: page * PAGE, length: pages * PAGE })),
    );
  }

  *end(): Task {
    yield* this.file.put();
    yield* this.process.exit();
  }

  expectNothingLeft(): void {
    expect(this.kernel.bufferList.value).toBe(0);
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

describe('IOMMU_IOAS_MAP_FILE', () => {
  test('puts a BAR of another device into a device’s I/O address space (S003-6, F.2)', () => {
    const rig = new IommufdRig();
    rig.do(reachTheBar(rig));
    expect(rig.device(OWNED).bar(BAR).writes).toEqual([{ offset: 2 * PAGE + 8, bytes: [1, 2] }]);
    rig.expectNothingLeft();
  });

  test('refuses in the kernel’s order (F.2)', () => {
    const rig = new IommufdRig();
    rig.do(refuseMaps(rig));
    rig.expectNothingLeft();
  });

  test('refuses other exporters with EOPNOTSUPP, and passes their errors on (F.2)', () => {
    const rig = new IommufdRig();
    rig.do(refuseExporters(rig));
    rig.expectNothingLeft();
  });

  test('refuses several ranges, and memory that is taken back (F.2)', () => {
    const rig = new IommufdRig();
    rig.do(refuseRanges(rig));
    rig.expectNothingLeft();
  });

  test('refuses addresses that are crooked, taken or too high (F.2)', () => {
    const rig = new IommufdRig();
    rig.do(refuseAddresses(rig));
    rig.expectNothingLeft();
  });

  test('checks the size that a struct says', () => {
    const rig = new IommufdRig();
    rig.do(refuseStructs(rig));
  });
});

describe('A window onto memory', () => {
  test('is refused with ENODEV if the memory went between attach and query (F.2)', () => {
    const rig = new IommufdRig();
    rig.do(revokedBetween(rig));
    rig.expectNothingLeft();
  });

  test('needs an address in the space: ENOSPC if there is none', () => {
    const rig = new IommufdRig();
    rig.do(spaceIsFull(rig));
    rig.expectNothingLeft();
  });
});

describe('An exporter that takes memory back', () => {
  test('finds it out of every table before its reset goes on, and for good (F.2)', () => {
    const rig = new IommufdRig();
    rig.do(revokeIt(rig));
    // A mapping was never counted, so the reset had nobody to wait for.
    expect(rig.kinds('attachment.map')).toEqual([]);
    rig.expectNothingLeft();
  });

  test('does so while the memory is being mapped, in whatever order', () => {
    const rig = new IommufdRig();
    const fd = rig.do(beginAndExport(rig));
    rig.user(rig.mapFile({ ioasId: 1, fd, flags: READ_WRITE | FIXED_IOVA }), 'mapper');
    rig.user(rig.vdev.reset(rig.process), 'resetter');
    rig.run();
    rig.scheduler.findings.splice(0);
    rig.do(rig.end());
    rig.expectNothingLeft();
  });
});

describe('An I/O address space', () => {
  test('fills the tables of a device that comes later, without what was taken back (F.2)', () => {
    const rig = new IommufdRig();
    rig.do(attachLate(rig));
    rig.expectNothingLeft();
  });

  test('is unmapped by whole areas, and cannot be cut (F.2)', () => {
    const rig = new IommufdRig();
    rig.do(unmapAreas(rig));
    rig.expectNothingLeft();
  });

  test('is not destroyed while a device uses it, and takes everything with it', () => {
    const rig = new IommufdRig();
    rig.do(destroyIt(rig));
    rig.expectNothingLeft();
  });

  test('needs an IOMMU', () => {
    const rig = new IommufdRig('off');
    rig.do(withoutIommu(rig));
  });
});

function* reachTheBar(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const fd = yield* rig.pages([1, 3]);
  const client = rig.at(CLIENT);
  const before = client.domain.value;
  const ioas = yield* rig.file.ioas(ioasId);
  yield* ioas.attachDevice(client);
  const wish = { ioasId, fd, start: BigInt(PAGE), length: BigInt(2 * PAGE) };
  const { iova } = yield* rig.mapFile(wish);
  // The descriptor may go.
  yield* rig.process.close(fd);
  yield* rig.machine.dma.write(client, dmaAddr(Number(iova) + 8), Uint8Array.of(1, 2));
  const { length } = yield* rig.unmap({ ioasId, iova, length: BigInt(2 * PAGE) });
  expect(length).toBe(BigInt(2 * PAGE));
  expect(client.domain.value?.value).toEqual([]);
  yield* ioas.detachDevice(client);
  expect(client.domain.value).toBe(before);
  yield* rig.end();
}

function* refuseMaps(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const fd = yield* rig.pages([0, 2]);
  const noDmaBuf = yield* rig.process.fds.install(rig.file);
  yield* rig.file.get();
  // Each wish has all the mistakes of those after it.
  const worst = { flags: 8, iova: ALL, ioasId: 99, length: 0n, start: ALL, fd: 77 };
  const expected = [
    [{ ...worst }, 'EOPNOTSUPP flags-of-a-map-unknown'],
    [{ ...worst, flags: 0 }, 'EOVERFLOW io-address-wraps'],
    [{ ...worst, flags: 0, iova: 0n, length: ALL }, 'EOVERFLOW io-address-wraps'],
    [{ ...worst, flags: FIXED_IOVA, iova: 0n }, 'EINVAL map-neither-to-read-nor-to-write'],
    [{ ...worst, flags: READABLE, iova: 0n }, 'ENOENT no-such-address-space'],
    [{ ...worst, flags: READABLE, iova: 0n, ioasId }, 'EINVAL map-of-nothing'],
    [{ ...worst, flags: READABLE, iova: 0n, ioasId, length: 2n }, 'EOVERFLOW file-offset-wraps'],
    [{ ioasId, fd: 77 }, 'EBADF descriptor-is-not-open'],
    [{ ioasId, fd: noDmaBuf ?? 0 }, 'EINVAL descriptor-is-no-dma-buf'],
    [{ ioasId, fd, length: BigInt(3 * PAGE) }, 'EINVAL map-beyond-the-file'],
    [{ ioasId, fd, start: BigInt(2 * PAGE), length: 1n }, 'EINVAL map-beyond-the-file'],
    [{ ioasId, fd, length: 2n ** 50n }, 'EINVAL map-beyond-the-file'],
    [{ ioasId, fd, start: 8n }, 'EINVAL file-offset-is-crooked'],
    [{ ioasId, fd, length: 8n }, 'EINVAL length-is-crooked'],
  ] as const;
  for (const [wish, reason] of expected) expect(yield* why(rig.mapFile(wish))).toBe(reason);
  expect(yield* why(rig.ioctl(0x1234, 0))).toBe('ENOTTY no-such-iommufd-command');
  const buf = yield* DmaBuf.get(rig.process, fd);
  expect(buf.attachments.value).toEqual([]);
  expect(buf.file.refs.value).toBe(2);
  yield* buf.put();
  yield* rig.end();
}

function* refuseExporters(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  for (const isDynamic of [false, true]) {
    const exporter = new FakeExporter({ isDynamic });
    const fd = yield* (yield* rig.export(exporter)).fd(rig.process);
    expect(yield* why(rig.mapFile({ ioasId, fd }))).toBe('EOPNOTSUPP kind-of-mapping-not-offered');
    expect(exporter.pins).toBe(0);
    const pins = isDynamic ? ['pin locked', 'unpin locked'] : [];
    expect(exporter.calls).toEqual(['attach iommu', ...pins, 'detach iommu']);
  }
  const pinError = (yield* refused(rig.mapFile({ ioasId: 99 }))) as never;
  const exporter = new FakeExporter({ isDynamic: true, pinError });
  const fd = yield* (yield* rig.export(exporter)).fd(rig.process);
  expect(yield* why(rig.mapFile({ ioasId, fd }))).toBe('ENOENT no-such-address-space');
  expect(exporter.calls).toEqual(['attach iommu', 'pin locked', 'detach iommu']);
  yield* rig.end();
}

function* refuseRanges(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const several = yield* rig.pages([0, 1], [4, 1]);
  expect(yield* why(rig.mapFile({ ioasId, fd: several }))).toBe(
    'EOPNOTSUPP window-onto-one-range-only',
  );
  const fd = yield* rig.pages([0, 1]);
  yield* rig.setMemory(false);
  expect((yield* refused(rig.mapFile({ ioasId, fd }))).code).toBe('ENODEV');
  yield* rig.setMemory(true);
  yield* rig.mapFile({ ioasId, fd });
  yield* rig.end();
}

function* refuseAddresses(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const fd = yield* rig.pages([0, 2]);
  const fixed = { ioasId, fd, flags: READ_WRITE | FIXED_IOVA, length: BigInt(2 * PAGE) };
  yield* rig.mapFile({ ...fixed, iova: 0x10000n });
  const expected = [
    [0x10008n, 'EINVAL io-address-or-length-crooked'],
    [0x11000n, 'EEXIST io-address-has-an-area'],
    [2n ** 48n - BigInt(PAGE), 'EINVAL io-address-beyond-all-tables'],
  ] as const;
  for (const [iova, reason] of expected) {
    expect(yield* why(rig.mapFile({ ...fixed, iova }))).toBe(reason);
  }
  // Whatever fits beside what is there.
  const { iova } = yield* rig.mapFile({ ...fixed, flags: READABLE });
  expect(iova).toBe(BigInt(PAGE));
  yield* rig.end();
}

function* refuseStructs(rig: IommufdRig): Task {
  yield* rig.begin();
  expect(yield* why(rig.alloc({ size: 8 }))).toBe('EINVAL iommufd-struct-is-too-short');
  expect(yield* why(rig.alloc({ flags: 1 }))).toBe('EOPNOTSUPP flags-of-an-address-space');
  expect(yield* why(rig.mapFile({ ioasId: 1, iova: 7n }))).toBe('EBADF descriptor-is-not-open');
  expect(yield* why(rig.alloc({ size: 40 }))).toBe('E2BIG iommufd-struct-says-more');
  expect((yield* refused(rig.ioctl(IOMMUFD_IOCTL.IOAS_ALLOC, 0x1000))).code).toBe('EFAULT');
}

function* describeGone(): Task<RevocableBacking> {
  return { ranges: [{ paddr: physAddr(0x1000), length: PAGE }], isRevoked: true };
}

/** An exporter whose memory went just after its attach had said yes. */
function* revokedBetween(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const exporter = new FakeExporter();
  const ops: DmaBufOps<FakeExporter> = {
    ...exporter.ops,
    offers: [offer(PHYSICAL_WINDOW, describeGone)],
  };
  const info = { exporterName: 'fake', ops, size: PAGE, priv: exporter };
  const fd = yield* (yield* DmaBuf.export(rig.kernel, info)).fd(rig.process);
  expect(yield* why(rig.mapFile({ ioasId, fd }))).toBe('ENODEV window-onto-revoked-memory');
  yield* rig.end();
}

function* spaceIsFull(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const fd = yield* rig.pages([0, 1]);
  const buf = yield* DmaBuf.get(rig.process, fd);
  const pages = yield* IoptPages.create(rig.at(CLIENT), buf);
  const ioas = yield* rig.file.ioas(ioasId);
  const rights = { readable: true, writable: true };
  const memory = { size: 2 ** 48, pages, offset: 0, rights };
  expect(yield* why(ioas.map(null, memory))).toBe('ENOSPC no-io-addresses-for-the-area');
  yield* pages.release();
  yield* rig.end();
}

function* revokeIt(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const fd = yield* rig.pages([0, 2]);
  const client = rig.at(CLIENT);
  const ioas = yield* rig.file.ioas(ioasId);
  yield* ioas.attachDevice(client);
  const { iova } = yield* rig.mapFile({ ioasId, fd });
  const again = yield* rig.mapFile({ ioasId, fd, start: BigInt(PAGE) });
  const table = (): readonly unknown[] => client.domain.value?.value ?? [];
  expect(table()).toHaveLength(2);
  yield* rig.vdev.reset(rig.process);
  expect(table()).toEqual([]);
  // The memory is there again, but not for who lost it.
  yield* rig.machine.dma.write(client, dmaAddr(Number(iova)), Uint8Array.of(1));
  expect(rig.machine.faults.map(({ kind }) => kind)).toEqual(['iommu.fault']);
  // The address is still taken, and unmapped as ever.
  const fixed = { ioasId, fd, flags: READABLE | FIXED_IOVA, iova };
  expect(yield* why(rig.mapFile(fixed))).toBe('EEXIST io-address-has-an-area');
  yield* rig.unmap({ ioasId, iova, length: BigInt(PAGE) });
  yield* rig.mapFile(fixed);
  expect(findMapping(client.domain.value?.value ?? [], Number(iova))?.writable).toBe(false);
  yield* rig.unmap({ ioasId, iova: again.iova, length: BigInt(PAGE) });
  yield* ioas.detachDevice(client);
  yield* rig.end();
}

function* beginAndExport(rig: IommufdRig): Task<number> {
  yield* rig.begin();
  // A first map, so that the argument's page is there before two threads run.
  const fd = yield* rig.pages([0, 1]);
  yield* rig.mapFile({ ioasId: 1, fd });
  return fd;
}

function* attachLate(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const lost = yield* rig.pages([0, 1]);
  yield* rig.mapFile({ ioasId, fd: lost });
  yield* rig.vdev.reset(rig.process);
  const kept = yield* rig.pages([1, 1]);
  const { iova } = yield* rig.mapFile({ ioasId, fd: kept });
  const ioas = yield* rig.file.ioas(ioasId);
  const [one, other] = [rig.at(CLIENT), rig.at('41:00.0')];
  yield* ioas.attachDevice(one);
  yield* ioas.attachDevice(other);
  for (const fn of [one, other]) {
    expect(fn.domain.value?.value.map((entry) => BigInt(entry.iova))).toEqual([iova]);
  }
  yield* ioas.detachDevice(one);
  const left = other.domain.value;
  yield* ioas.detachDevice(other);
  expect(left?.value).toEqual([]);
  yield* rig.end();
}

function* unmapAreas(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const fd = yield* rig.pages([0, 2]);
  const { iova } = yield* rig.mapFile({ ioasId, fd, length: BigInt(2 * PAGE) });
  const expected = [
    [{ iova, length: BigInt(PAGE) }, 'EINVAL unmap-of-a-part-of-an-area'],
    [{ iova: 0x100000n, length: BigInt(PAGE) }, 'ENOENT nothing-is-mapped-in-the-range'],
    [{ iova, length: 0n }, 'EINVAL unmap-of-nothing'],
    [{ iova: 1n, length: ALL }, 'EOVERFLOW range-to-unmap-wraps'],
    [{ iova, length: 1n, ioasId: 9 }, 'ENOENT no-such-address-space'],
  ] as const;
  for (const [wish, reason] of expected) {
    expect(yield* why(rig.unmap({ ioasId, ...wish }))).toBe(reason);
  }
  const ioas = yield* rig.file.ioas(ioasId);
  expect(yield* why(ioas.cut(Number(iova) + PAGE))).toBe('EOPNOTSUPP area-of-a-buffer-is-not-cut');
  expect(yield* why(ioas.cut(Number(iova)))).toBe('ENOENT no-area-to-cut');
  expect((yield* rig.unmap({ ioasId, length: ALL })).length).toBe(BigInt(2 * PAGE));
  expect((yield* rig.unmap({ ioasId, length: ALL })).length).toBe(0n);
  yield* rig.end();
}

function* destroyIt(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const fd = yield* rig.pages([0, 1]);
  yield* rig.mapFile({ ioasId, fd });
  const client = rig.at(CLIENT);
  const ioas = yield* rig.file.ioas(ioasId);
  yield* ioas.attachDevice(client);
  expect(yield* why(rig.destroy(ioasId))).toBe('EBUSY address-space-is-in-use');
  yield* ioas.detachDevice(client);
  yield* rig.destroy(ioasId);
  expect(yield* why(rig.destroy(ioasId))).toBe('ENOENT no-such-address-space');
  const buf = yield* DmaBuf.get(rig.process, fd);
  expect(buf.attachments.value).toEqual([]);
  yield* buf.put();
  yield* rig.end();
}

function* withoutIommu(rig: IommufdRig): Task {
  const ioasId = yield* rig.begin();
  const ioas = yield* rig.file.ioas(ioasId);
  expect(yield* why(ioas.attachDevice(rig.at(CLIENT)))).toBe('ENODEV machine-without-an-iommu');
}
