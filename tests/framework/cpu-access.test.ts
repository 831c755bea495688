/**
 * Goal: the CPU's ways to a buffer do what Linux does, in its order, and on a machine whose devices
 * do not see the cache only who uses the bracket sees right bytes. Method: RAM with a cache, every
 * refusal; reference A.15.
 */

import { describe, expect, test } from 'vitest';
import { DmaBufError, type DmaDirection, PAGE_SIZE, type UserAddr } from '../../src/base/index.ts';
import {
  type DmaBuf,
  IosysMap,
  KernelFile,
  type SgTable,
  type Vma,
} from '../../src/framework/index.ts';
import { PlatformDevice, type Task } from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { CoreRig, type RamExporter } from './core-rig.ts';
import { FakeExporter, locked } from './kernel-rig.ts';

const READ_ONLY = { read: true, write: false, isShared: true, file: null };
const BYTES = Uint8Array.from([1, 2, 3, 4]);
const ZEROS = new Uint8Array(4);

function bootRam(...of: Parameters<CoreRig['exportRam']>) {
  const rig = new CoreRig();
  return { rig, buf: rig.do(rig.exportRam(...of)) };
}

/** `mmap(2)` of a buffer's file. */
function* mmap(rig: CoreRig, { file }: DmaBuf, pages: number, pgoff = 0): Task<Vma> {
  const call = file.operations.mmap ?? expect.fail('mmap');
  const request = { ...READ_ONLY, write: true, size: pages * PAGE_SIZE, pgoff, file };
  return yield* rig.process.mm.map(request, (vma) => call(file, vma));
}

/** A driver's own mmap, forwarded. */
function* forward(rig: CoreRig, buf: DmaBuf, file: KernelFile | null, pgoff: number): Task<Vma> {
  const request = { ...READ_ONLY, size: PAGE_SIZE, pgoff: 77, file };
  return yield* rig.process.mm.map(request, (vma) => buf.mmapBuffer(vma, pgoff));
}

describe('Beginning an access by the CPU (A.15)', () => {
  /** What a CPU access in one direction waits for. */
  function waits(direction: DmaDirection, usage: 'kernel' | 'write' | 'read' | 'bookkeep') {
    const { rig, buf } = bootRam();
    const fence = rig.do(rig.publish(buf, usage));
    const order: string[] = [];
    function* cpu(): Task {
      yield* buf.beginCpuAccess(direction);
      order.push('begun');
    }
    function* device(): Task {
      yield* rig.scheduler.sleep(10);
      order.push('done', ...buf.priv.calls);
      yield* fence.signal();
    }
    rig.kthread(cpu(), 'cpu');
    rig.kthread(device(), 'device');
    expect(rig.run().findings).toEqual([]);
    return order;
  }

  test.each([
    ['from-device', 'kernel', true],
    ['from-device', 'write', true],
    ['from-device', 'read', false],
    ['from-device', 'bookkeep', false],
    ['to-device', 'write', true],
    ['to-device', 'read', true],
    ['to-device', 'bookkeep', false],
    ['bidirectional', 'read', true],
  ] as const)('%s waits for a %s fence: %s', (direction, usage, isWaited) => {
    const order = waits(direction, usage);
    expect(order.indexOf('begun') > order.indexOf('done')).toBe(isWaited);
    // The exporter's caches come first, before the wait.
    expect(order).toContain(`begin ${direction}`);
  });

  test('of an exporter that needs no maintenance only waits', () => {
    const { rig, buf } = bootRam(1, { without: ['beginCpuAccess', 'endCpuAccess'] });
    rig.do(buf.beginCpuAccess('bidirectional'));
    rig.do(buf.endCpuAccess('bidirectional'));
    expect(buf.priv.calls).toEqual([]);
    expect(rig.events('buffer.begin-cpu-access', 'buffer.end-cpu-access')).toMatchObject([
      { kind: 'buffer.begin-cpu-access', buffer: 1, direction: 'bidirectional' },
      { kind: 'buffer.end-cpu-access', buffer: 1 },
    ]);
  });

  test('that the exporter refuses does not wait', () => {
    const begin = new DmaBufError('EINVAL', 'begin', 'test-no-begin');
    const end = new DmaBufError('EINVAL', 'end', 'test-no-end');
    const { rig, buf } = bootRam(1, { fails: { begin, end } });
    rig.do(rig.publish(buf, 'kernel'));
    expect(rig.do(refused(buf.beginCpuAccess('to-device')))).toBe(begin);
    expect(rig.do(refused(buf.endCpuAccess('to-device')))).toBe(end);
    expect(rig.events('buffer.begin-cpu-access', 'buffer.end-cpu-access')).toEqual([]);
  });

  test('and ending it with the reservation held are kernel warnings (LK-002)', () => {
    const { rig, buf } = bootRam();
    rig.do(locked(buf.resv, buf.beginCpuAccess('to-device')));
    rig.do(locked(buf.resv, buf.endCpuAccess('to-device')));
    expect(rig.warnings).toEqual([
      'dma_buf_begin_cpu_access: called with dma-buf 1 resv held',
      'dma_buf_end_cpu_access: called with dma-buf 1 resv held',
    ]);
  });

  test('by a thread that gets a signal is ERESTARTSYS, and EINTR for the program', () => {
    const { rig, buf } = bootRam();
    rig.do(rig.publish(buf, 'write'));
    const codes: string[] = [];
    function* program(): Task {
      const error = yield* refused(rig.process.syscall(buf.beginCpuAccess('from-device')));
      codes.push(error.code);
    }
    const thread = rig.user(program());
    function* killer(): Task {
      yield* rig.scheduler.sleep(5);
      yield* rig.kernel.signals.kill(thread);
    }
    rig.kthread(killer(), 'killer');
    expect(rig.run().findings).toEqual([]);
    expect(codes).toEqual(['EINTR']);
  });
});

describe('A program that maps a buffer (A.15)', () => {
  test('shares its bytes with the device', () => {
    const { rig, buf } = bootRam(2);
    const vma = rig.do(mmap(rig, buf, 2));
    rig.do(rig.process.mm.store(vma.start, BYTES));
    const { phys } = buf.priv.range;
    expect(rig.ram(phys, 4)).toEqual([...BYTES]);
    expect(rig.events('buffer.mmap')).toMatchObject([{ buffer: 1, pages: 2, forwarded: false }]);
  });

  test('of an exporter without mmap is EINVAL: exporter-has-no-mmap', () => {
    const { rig, buf } = bootRam(1, { without: ['mmap'] });
    expect(rig.do(refused(mmap(rig, buf, 1)))).toMatchObject({
      code: 'EINVAL',
      reason: 'exporter-has-no-mmap',
    });
    expect(rig.do(refused(forward(rig, buf, null, 0)))).toMatchObject({
      code: 'EINVAL',
      reason: 'no-mmap-to-forward-to',
    });
  });

  test.each([
    [0, 2, true],
    [1, 1, true],
    [0, 3, false],
    [1, 2, false],
    [2, 1, false],
  ])('from page %d on, %d pages of 2 and a half: %s', (pgoff, pages, fits) => {
    const { rig, buf } = bootRam(3, {}, PAGE_SIZE / 2);
    const call = mmap(rig, buf, pages, pgoff);
    if (fits) expect(rig.do(call).pages).toBe(pages);
    else expect(rig.do(refused(call))).toMatchObject({ reason: 'map-beyond-the-buffer' });
    expect(rig.events('buffer.mmap')).toHaveLength(fits ? 1 : 0);
  });

  test('by way of another driver has the map of the buffer then, and its file', () => {
    const { rig, buf } = bootRam(2);
    const node = new KernelFile(rig.kernel, '/dev/video0', { *release(): Task {} });
    const vma = rig.do(forward(rig, buf, node, 1));
    expect([vma.file, vma.pgoff, buf.file.refs.value]).toEqual([buf.file, 1, 2]);
    // What is left is the caller's own: the map gave its reference back.
    expect(node.refs.value).toBe(1);
    expect(rig.events('buffer.mmap')).toMatchObject([{ forwarded: true, pages: 1 }]);
  });

  test('by way of another driver is EOVERFLOW if the pages wrap, EINVAL beyond the end', () => {
    const { rig, buf } = bootRam(2);
    expect(rig.do(refused(forward(rig, buf, null, 2 ** 52 - 1)))).toMatchObject({
      code: 'EOVERFLOW',
      reason: 'page-offset-wraps',
    });
    expect(rig.do(refused(forward(rig, buf, null, 2)))).toMatchObject({
      code: 'EINVAL',
      reason: 'forwarded-map-beyond-the-buffer',
    });
    expect(buf.file.refs.value).toBe(1);
  });

  test('by way of another driver keeps the file also if the exporter refuses', () => {
    const mmapError = new DmaBufError('EINVAL', 'mmap', 'test-no-private-map');
    const { rig, buf } = bootRam(2, { fails: { mmap: mmapError } });
    const files: unknown[] = [];
    function* prepare(vma: Vma): Task {
      const error = yield* refused(buf.mmapBuffer(vma, 1));
      files.push(error, vma.file);
    }
    rig.do(rig.process.mm.map({ ...READ_ONLY, size: PAGE_SIZE, pgoff: 0 }, prepare));
    expect(files).toEqual([mmapError, buf.file]);
  });

  test('with the reservation held is a kernel warning (LK-002)', () => {
    const { rig, buf } = bootRam();
    rig.do(locked(buf.resv, mmap(rig, buf, 1)));
    expect(rig.warnings).toEqual(['dma_buf_mmap: called with dma-buf 1 resv held']);
  });
});

describe("The kernel's map of a buffer (A.15)", () => {
  test('is made once for all, and goes with the last user', () => {
    const { rig, buf } = bootRam();
    const one = rig.do(buf.vmapUnlocked());
    const other = rig.do(locked(buf.resv, buf.vmap()));
    expect(one).toBe(other);
    rig.do(buf.vunmapUnlocked(one));
    expect(buf.priv.calls).toEqual(['vmap locked']);
    rig.do(locked(buf.resv, buf.vunmap(other)));
    expect(buf.priv.calls).toEqual(['vmap locked', 'vunmap locked']);
    expect(rig.events('buffer.vmap', 'buffer.vunmap')).toMatchObject([
      { mappings: 1 },
      { mappings: 2 },
      { mappings: 1 },
      { kind: 'buffer.vunmap', mappings: 0 },
    ]);
    expect(rig.do(buf.vmapUnlocked())).not.toBe(one);
    expect(rig.warnings).toEqual([]);
  });

  test('is EINVAL where the exporter has none: exporter-has-no-vmap (S000-11)', () => {
    const { rig, buf } = bootRam(1, { without: ['vmap'] });
    const error = rig.do(refused(buf.vmapUnlocked()));
    expect(error).toMatchObject({ code: 'EINVAL', reason: 'exporter-has-no-vmap' });
    // The importer can fall back to its DMA path.
    expect(rig.do(buf.attach(rig.at('03:00.0'))).device.name).toBe('0000:03:00.0');
    expect([buf.vmapping.value, rig.warnings]).toEqual([null, []]);
  });

  test('that the exporter cannot make is a kernel warning, and not counted', () => {
    const vmap = new DmaBufError('ENOMEM', 'vmap', 'test-no-room-to-vmap');
    const { rig, buf } = bootRam(1, { fails: { vmap } });
    expect(rig.do(refused(buf.vmapUnlocked()))).toBe(vmap);
    expect(rig.warnings).toEqual(['dma_buf_vmap: the exporter cannot map']);
    expect([buf.vmapping.value, buf.resv.lockCell.value.owner]).toEqual([null, null]);
  });

  test.each([
    ['that is not there', false, 'dma_buf_vunmap: dma-buf 1 is not mapped'],
    ['with another', true, 'dma_buf_vunmap: this is not the map of dma-buf 1'],
  ])('given back %s stops the kernel (CP-003)', (_, isMapped, title) => {
    const { rig, buf } = bootRam();
    if (isMapped) rig.do(buf.vmapUnlocked());
    const other = new IosysMap(rig.machine, [buf.priv.range], false);
    const { outcome } = rig.try(buf.vunmapUnlocked(other));
    expect(outcome.findings).toMatchObject([{ kind: 'oops', title }]);
    expect(buf.priv.calls).not.toContain('vunmap locked');
  });

  test('that is left at the last put stops the kernel (A.5, DB-009)', () => {
    const { rig, buf } = bootRam();
    rig.do(buf.vmapUnlocked());
    const { outcome } = rig.try(buf.put());
    expect(outcome.findings).toMatchObject([
      { kind: 'oops', title: 'dma_buf_release: the kernel still maps dma-buf 1' },
    ]);
    expect(buf.priv.calls).toEqual(['vmap locked']);
  });

  test('is made and given back with the reservation only (LK-001)', () => {
    const { rig, buf } = bootRam();
    const map = rig.do(buf.vmap());
    rig.do(buf.vunmap(map));
    expect(rig.warnings).toEqual([
      'dma_buf_vmap: called without dma-buf 1 resv',
      'dma_buf_vunmap: called without dma-buf 1 resv',
    ]);
  });
});

describe('A device that does not see the cache', () => {
  /** A device writes into the buffer; the CPU, which has it cached, reads. */
  function readAfterDma(isBracketed: boolean): readonly number[] {
    const rig = new CoreRig({ coherentDma: false });
    const buf = rig.do(rig.exportRam());
    function* program(): Task<readonly number[]> {
      const attachment = yield* buf.attach(rig.at('03:00.0'));
      const map = yield* buf.vmapUnlocked();
      const table: SgTable = yield* attachment.mapAttachmentUnlocked('bidirectional');
      yield* map.load(0, 4);
      const [entry] = table.entries;
      if (entry === undefined) return expect.fail('an entry');
      yield* rig.machine.dma.write(attachment.device, entry.address, BYTES);
      if (isBracketed) yield* buf.beginCpuAccess('from-device');
      const bytes = yield* map.load(0, 4);
      if (isBracketed) yield* buf.endCpuAccess('from-device');
      return [...bytes];
    }
    return rig.do(program());
  }

  test('is read right within the bracket, and stale without (S000-10, CP-001)', () => {
    expect(readAfterDma(true)).toEqual([...BYTES]);
    expect(readAfterDma(false)).toEqual([...ZEROS]);
  });

  /** The CPU writes; the device reads. */
  function dmaAfterWrite(isBracketed: boolean): readonly number[] {
    const rig = new CoreRig({ coherentDma: false });
    const buf = rig.do(rig.exportRam());
    function* program(): Task<readonly number[]> {
      const attachment = yield* buf.attach(rig.at('03:00.0'));
      const map = yield* buf.vmapUnlocked();
      const table: SgTable = yield* attachment.mapAttachmentUnlocked('bidirectional');
      if (isBracketed) yield* buf.beginCpuAccess('to-device');
      yield* map.store(0, BYTES);
      if (isBracketed) yield* buf.endCpuAccess('to-device');
      const [entry] = table.entries;
      if (entry === undefined) return expect.fail('an entry');
      const { bytes } = yield* rig.machine.dma.read(attachment.device, entry.address, 4);
      return [...bytes];
    }
    return rig.do(program());
  }

  test('reads what the CPU wrote within the bracket, and not without (S000-10)', () => {
    expect(dmaAfterWrite(true)).toEqual([...BYTES]);
    expect(dmaAfterWrite(false)).toEqual([...ZEROS]);
  });
});

/** A software card: it copies with the CPU what a real one would move by DMA. */
class CopyingNic extends PlatformDevice {
  readonly rig: CoreRig;

  constructor(rig: CoreRig) {
    super('siw0', true);
    this.rig = rig;
  }

  /** What its driver makes of a device address: a pointer of the kernel. */
  *sendFromAddress(address: number): Task<Uint8Array> {
    return yield* this.rig.process.mm.load(address as UserAddr, 4);
  }

  *sendFromBuffer(buf: DmaBuf<RamExporter>): Task<Uint8Array> {
    const map = yield* buf.vmapUnlocked();
    yield* buf.beginCpuAccess('from-device');
    const bytes = yield* map.load(0, 4);
    yield* buf.endCpuAccess('from-device');
    yield* buf.vunmapUnlocked(map);
    return bytes;
  }
}

describe('A card that copies with the CPU', () => {
  test('faults on a device address, and sends right bytes through the CPU path (S000-12)', () => {
    const { rig, buf } = bootRam();
    const nic = new CopyingNic(rig);
    const other = rig.do(rig.do(buf.attach(rig.at('03:00.0'))).mapAttachmentUnlocked('to-device'));
    const address = other.entries[0]?.address ?? expect.fail('an entry');
    expect(rig.codeOf(nic.sendFromAddress(address))).toBe('EFAULT');
    const vma = rig.do(mmap(rig, buf, 1));
    rig.do(rig.process.mm.store(vma.start, BYTES));
    expect(rig.do(nic.sendFromBuffer(buf))).toEqual(BYTES);
  });

  test('needs no attachment, and is refused one without a device (S000-2, S000-12)', () => {
    const rig = new CoreRig();
    const buf = rig.do(rig.export(new FakeExporter()));
    expect(rig.codeOf(buf.attach(null))).toBe('EINVAL');
  });
});
