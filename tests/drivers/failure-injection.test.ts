/**
 * Goal: whatever the kernel cannot get, memory, a descriptor, an I/O address, the call that needed
 * it fails and nothing else happens: nothing leaks, hangs or warns. Method: programs of system
 * calls; one run for each step of theirs that can fail, in which that step does; afterwards the
 * program ends and the books must balance.
 */

import { describe, expect, test } from 'vitest';
import {
  DMA_BUF_IOCTL,
  DMA_HEAP_IOCTL,
  dmaBufExportSyncFile,
  dmaBufImportSyncFile,
  dmaBufSync,
  dmaHeapAllocationData,
  DRM_IOCTL,
  drmModeCreateDumb,
  drmModeMapDumb,
  drmPrimeHandle,
  F,
  F_SEAL,
  isDmaBufError,
  MAP,
  MFD,
  O,
  PROBE_ATTACH,
  PROBE_DIRECTION,
  PROBE_EXPORT,
  PROBE_IOCTL,
  probeAttach,
  probeCpu,
  probeExport,
  probeFenceAdd,
  probeFenceSignal,
  probeId,
  probeImport,
  probeMap,
  probeVmap,
  PROT,
  type Struct,
  UDMABUF_IOCTL,
  udmabufCreate,
  type UserAddr,
} from '../../src/base/index.ts';
import {
  addCmaHeap,
  addSystemHeap,
  DEFAULT_CMA_REGION,
  Display,
  DmaHeaps,
  ProbeDevice,
  reserveCmaArea,
  UdmabufDevice,
  vgemDevice,
} from '../../src/drivers/index.ts';
import { RoundRobinStrategy } from '../../src/explorer/index.ts';
import { Kernel, ModelSys, Process } from '../../src/framework/index.ts';
import { Machine, MachinePlan, Scheduler, type Task } from '../../src/machine/index.ts';
import { wideMachine } from '../machine/test-machines.ts';

const SIZE = 8192;
const IMPORTER = '0000:04:00.0';
const PLAN = new MachinePlan({ ...wideMachine({ iommu: 'translated' }) });

/** Warnings that Linux has in these places, too. */
const ALLOWED = ['dma_buf_vmap: the exporter cannot map'];

/** A program: straight on; the first call that fails ends it. */
class Program {
  readonly sys: ModelSys;
  private at: UserAddr | null = null;

  constructor(sys: ModelSys) {
    this.sys = sys;
  }

  *call<V extends object>(
    fd: number,
    request: number,
    layout: Struct<V>,
    values: Partial<V>,
  ): Task<V & { readonly result: number }> {
    const { sys } = this;
    this.at ??= yield* sys.alloc(4096);
    yield* sys.store(this.at, layout.encode(values));
    const result = yield* sys.ioctl(fd, request, this.at);
    return { ...layout.decode(yield* sys.load(this.at, layout.size)), result };
  }

  *heap(path: string): Task<number> {
    const heap = yield* this.sys.open(path, O.RDWR);
    const asked = { len: BigInt(SIZE), fdFlags: O.RDWR | O.CLOEXEC };
    return (yield* this.call(heap, DMA_HEAP_IOCTL.ALLOC, dmaHeapAllocationData, asked)).fd;
  }

  /** What a program does with a buffer that it has. */
  *use(fd: number, isShared = true): Task {
    const { sys } = this;
    const flags = isShared ? MAP.SHARED : MAP.PRIVATE;
    const prot = PROT.READ | PROT.WRITE;
    const map = yield* sys.mmap({ length: SIZE, prot, flags, fd, offset: 0 });
    yield* this.call(fd, DMA_BUF_IOCTL.SYNC, dmaBufSync, { flags: 2n });
    yield* sys.store(map, Uint8Array.of(1, 2, 3));
    yield* this.call(fd, DMA_BUF_IOCTL.SYNC, dmaBufSync, { flags: 6n });
    const { fd: sync } = yield* this.call(
      fd,
      DMA_BUF_IOCTL.EXPORT_SYNC_FILE,
      dmaBufExportSyncFile,
      { flags: 3 },
    );
    yield* this.call(fd, DMA_BUF_IOCTL.IMPORT_SYNC_FILE, dmaBufImportSyncFile, {
      flags: 3,
      fd: sync,
    });
    yield* sys.dup(fd);
    yield* sys.munmap(map, SIZE);
  }

  /** What an importing driver does with it. */
  *import(fd: number, mode: number): Task {
    const probe = yield* this.sys.open('/dev/peerbuf-probe', O.RDWR);
    const { import: id } = yield* this.call(probe, PROBE_IOCTL.IMPORT, probeImport, { fd });
    const asked = { import: id, mode, device: IMPORTER };
    const { attachment } = yield* this.call(probe, PROBE_IOCTL.ATTACH, probeAttach, asked);
    if (mode !== 0) yield* this.call(probe, PROBE_IOCTL.PIN, probeId, { id: attachment });
    const { mapping } = yield* this.call(probe, PROBE_IOCTL.MAP, probeMap, { attachment });
    yield* this.call(probe, PROBE_IOCTL.VMAP, probeVmap, { import: id });
    yield* this.call(probe, PROBE_IOCTL.BEGIN_CPU, probeCpu, {
      import: id,
      direction: PROBE_DIRECTION.TO_DEVICE,
    });
    yield* this.call(probe, PROBE_IOCTL.END_CPU, probeCpu, {
      import: id,
      direction: PROBE_DIRECTION.TO_DEVICE,
    });
    const { fence } = yield* this.call(probe, PROBE_IOCTL.FENCE_ADD, probeFenceAdd, {
      import: id,
    });
    yield* this.call(probe, PROBE_IOCTL.FENCE_SIGNAL, probeFenceSignal, { fence });
    yield* this.call(probe, PROBE_IOCTL.UNMAP, probeId, { id: mapping });
  }
}

const DYNAMIC = PROBE_ATTACH.DYNAMIC | PROBE_ATTACH.PEER2PEER | PROBE_ATTACH.INVALIDATE;

/** What is tried, by name. */
const PROGRAMS: Readonly<Record<string, (program: Program) => Task>> = {
  *'a heap buffer, imported statically'(program): Task {
    const fd = yield* program.heap('/dev/dma_heap/system');
    yield* program.use(fd);
    yield* program.import(fd, 0);
  },
  *'a contiguous heap buffer, imported dynamically'(program): Task {
    const fd = yield* program.heap(`/dev/dma_heap/${DEFAULT_CMA_REGION}`);
    yield* program.use(fd);
    yield* program.import(fd, DYNAMIC);
  },
  *'a udmabuf'(program): Task {
    const { sys } = program;
    const memfd = yield* sys.memfdCreate('pages', MFD.ALLOW_SEALING);
    yield* sys.ftruncate(memfd, SIZE);
    yield* sys.fcntl(memfd, F.ADD_SEALS, F_SEAL.SHRINK);
    const driver = yield* sys.open('/dev/udmabuf', O.RDWR);
    const asked = { memfd, size: BigInt(SIZE) };
    const made = yield* program.call(driver, UDMABUF_IOCTL.CREATE, udmabufCreate, asked);
    yield* program.use(made.result);
    yield* program.import(made.result, 0);
  },
  *'a buffer of the probe, exported dynamically'(program): Task {
    const probe = yield* program.sys.open('/dev/peerbuf-probe', O.RDWR);
    const asked = { pages: 2, flags: PROBE_EXPORT.DYNAMIC };
    const { fd } = yield* program.call(probe, PROBE_IOCTL.EXPORT, probeExport, asked);
    yield* program.import(fd, 0);
  },
  *'a picture from vgem to a display'(program): Task {
    const { sys } = program;
    const card = yield* sys.open('/dev/dri/card0', O.RDWR);
    const size = { width: 64, height: 32, bpp: 32 };
    const dumb = yield* program.call(card, DRM_IOCTL.MODE_CREATE_DUMB, drmModeCreateDumb, size);
    const { handle } = dumb;
    yield* program.call(card, DRM_IOCTL.MODE_MAP_DUMB, drmModeMapDumb, { handle });
    const asked = { handle, flags: O.RDWR };
    const { fd } = yield* program.call(card, DRM_IOCTL.PRIME_HANDLE_TO_FD, drmPrimeHandle, asked);
    const other = yield* sys.open('/dev/dri/card1', O.RDWR);
    yield* program.call(other, DRM_IOCTL.PRIME_FD_TO_HANDLE, drmPrimeHandle, { fd });
  },
};

/** One run, in which the given step fails. */
function run(body: (program: Program) => Task, failAt: number) {
  const scheduler = new Scheduler({ failAt });
  const machine = new Machine(PLAN, scheduler);
  const kernel = new Kernel(machine);
  const heaps = new DmaHeaps(kernel);
  addSystemHeap(heaps);
  const area = reserveCmaArea(machine, DEFAULT_CMA_REGION, 2 ** 20);
  addCmaHeap(heaps, area);
  void new UdmabufDevice(kernel);
  void new ProbeDevice(kernel);
  vgemDevice(kernel);
  void new Display(kernel, machine.function('0000:03:00.0'));
  const devices = [IMPORTER, '0000:03:00.0'].map((at) => machine.function(at));
  const before = machine.memory.pagesInUse;
  const process = new Process(kernel, 'app');
  const ended: string[] = [];
  function* main(): Task {
    try {
      yield* body(new Program(new ModelSys(process)));
      ended.push('well');
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      ended.push(error.code);
    }
    yield* process.exit();
  }
  scheduler.spawn(main(), { name: 'app', role: 'user' });
  const { status, findings } = scheduler.run(new RoundRobinStrategy());
  return {
    ended: ended[0],
    fallible: scheduler.fallible,
    left: {
      status,
      findings: findings.map(({ title }) => title).filter((title) => !ALLOWED.includes(title)),
      pages: machine.memory.pagesInUse - before,
      buffers: kernel.bufferList.value,
      descriptors: process.fds.value.size,
      addresses: devices.map(({ domain }) => domain.value?.value.length),
    },
  };
}

const NOTHING = {
  status: 'done',
  findings: [],
  pages: 0,
  buffers: 0,
  descriptors: 0,
  addresses: [0, 0],
};

describe('A kernel that lacks something once', () => {
  test.each(Object.keys(PROGRAMS))('refuses one call and leaves nothing of %s', (name) => {
    const body = PROGRAMS[name] ?? expect.fail('a program');
    const well = run(body, Number.POSITIVE_INFINITY);
    expect(well).toMatchObject({ ended: 'well', left: NOTHING });
    const endings = new Map<string, number>();
    for (let failAt = 1; failAt <= well.fallible; failAt += 1) {
      const { ended = 'nothing', left } = run(body, failAt);
      expect(left, `${name}: step ${failAt} of ${well.fallible}: ${ended}`).toEqual(NOTHING);
      endings.set(ended, (endings.get(ended) ?? 0) + 1);
    }
    console.log(`${name}: ${well.fallible} failures: ${JSON.stringify([...endings])}`);
    expect(well.fallible).toBeGreaterThan(10);
  });
});
