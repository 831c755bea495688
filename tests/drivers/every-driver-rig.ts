/**
 * A machine with every driver there is, a program in it that knows system calls only, and a count
 * of everything that must be back when the program is gone.
 */

import { expect, vi } from 'vitest';
import { isDmaBufError, PAGE_SIZE, physAddr, V4L2_BUF_TYPE } from '../../src/base/index.ts';
import {
  addCmaHeap,
  addSystemHeap,
  captureWork,
  DEFAULT_CMA_REGION,
  Display,
  DmaHeaps,
  Gntdev,
  GrantTables,
  Iommufd,
  ProbeDevice,
  reserveCmaArea,
  sinkWork,
  UdmabufDevice,
  VB2_DMA_CONTIG,
  VB2_DMA_SG,
  VB2_VMALLOC,
  vgemDevice,
  VfioDeviceNode,
  VfioPciDevice,
  VideoDevice,
} from '../../src/drivers/index.ts';
import { RoundRobinStrategy } from '../../src/explorer/index.ts';
import { Kernel, ModelSys, Process, swSyncInit } from '../../src/framework/index.ts';
import {
  type Actor,
  Machine,
  MachinePlan,
  RefCount,
  Scheduler,
  type Task,
} from '../../src/machine/index.ts';
import { wideMachine } from '../machine/test-machines.ts';

/** Bytes of a buffer. */
export const SIZE = 8192;
/** The device for which the probe imports. */
export const IMPORTER = '0000:04:00.0';
/** The device that a program owns through VFIO. */
export const OWNED = '0000:07:00.0';
/** Guests under Xen: ours, and the one that lends us pages. */
const OURS = 1;
export const OTHER = 7;

const AT = { display: '0000:03:00.0', camera: '0000:08:00.0', screen: '0000:0a:00.0' };
const DEVICES = [IMPORTER, OWNED, ...Object.values(AT)];
/** Numbers of cells from there on were given after boot. */
const BOOT_CELLS = 2 ** 24;
/** Counts mappings, and one for the buffer itself, which goes without giving it back. */
const VFIO_COUNT = 'vfio_pci_dma_buf.kref';
/** Who does what is done at boot. */
const NOBODY = {} as Actor;
const PLAN = new MachinePlan({ ...wideMachine({ iommu: 'translated', peerForwarding: 'all' }) });

/** The files in `/dev`, by what they are. */
export const NODES = {
  heap: '/dev/dma_heap/system',
  contiguous: `/dev/dma_heap/${DEFAULT_CMA_REGION}`,
  udmabuf: '/dev/udmabuf',
  probe: '/dev/peerbuf-probe',
  card: '/dev/dri/card0',
  display: '/dev/dri/card1',
  render: '/dev/dri/renderD128',
  camera: '/dev/video0',
  screen: '/dev/video1',
  scattered: '/dev/video2',
  virtual: '/dev/video3',
  vfio: '/dev/vfio/devices/vfio0',
  iommu: '/dev/iommu',
  gntdev: '/dev/xen/gntdev',
  swSync: '/sys/kernel/debug/sync/sw_sync',
} as const;

/** What there is of things that are counted. */
export interface Counted {
  readonly buffers: number;
  readonly descriptors: readonly number[];
  /** Mappings in the I/O page tables of each device. */
  readonly addresses: readonly number[];
  /** Entries in the guests' grant tables, and how often they are mapped. */
  readonly grants: number;
  readonly grantsMapped: number;
  readonly vfioBuffers: number;
}

/** What is left of a program. */
export interface Left extends Counted {
  readonly status: string;
  readonly findings: readonly string[];
  readonly pages: number;
  /** Counts that somebody touched and that did not come to zero. */
  readonly references: readonly string[];
}

/** What shall be left. */
export const NOTHING: Left = {
  status: 'done',
  findings: [],
  pages: 0,
  references: [],
  buffers: 0,
  descriptors: [],
  addresses: DEVICES.map(() => 0),
  grants: 2,
  grantsMapped: 0,
  vfioBuffers: 0,
};

/** Runs something, and takes note of every reference count that it touches. */
function watchReferences<T>(run: () => T): readonly [T, ReadonlySet<RefCount>] {
  const seen = new Set<RefCount>();
  const spies = (['get', 'getHeld', 'put'] as const).map((name) => {
    const real = RefCount.prototype[name] as () => never;
    return vi.spyOn(RefCount.prototype, name).mockImplementation(function (this: RefCount) {
      seen.add(this);
      return real.call(this);
    });
  });
  try {
    return [run(), seen];
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** The machine and its kernel. */
export class EveryDriver {
  readonly scheduler: Scheduler;
  readonly machine: Machine;
  readonly kernel: Kernel;
  readonly process: Process;
  readonly tables: GrantTables;
  readonly vdev: VfioPciDevice;
  /** Entries by which another guest lends us pages. */
  readonly refs: number[] = [];
  /** What was left of the program, once it ran. */
  left: Left = NOTHING;

  /** @param failAt - The step that fails; 0: none does. */
  constructor(failAt = 0) {
    this.scheduler = new Scheduler(failAt === 0 ? {} : { failAt });
    this.machine = new Machine(PLAN, this.scheduler);
    this.kernel = new Kernel(this.machine);
    this.process = new Process(this.kernel, 'app');
    this.tables = new GrantTables(this.scheduler);
    this.vdev = new VfioPciDevice(this.kernel, this.machine.function(OWNED));
    this.boot();
  }

  private boot(): void {
    const { kernel, machine, tables } = this;
    const heaps = new DmaHeaps(kernel);
    addSystemHeap(heaps);
    addCmaHeap(heaps, reserveCmaArea(machine, DEFAULT_CMA_REGION, 2 ** 20));
    void new UdmabufDevice(kernel);
    void new ProbeDevice(kernel);
    vgemDevice(kernel);
    void new Display(kernel, machine.function(AT.display), ['syncobj']);
    this.video();
    void new VfioDeviceNode(this.vdev, 0);
    void new Iommufd(kernel);
    void new Gntdev(kernel, { tables, domid: OURS, isPv: false });
    swSyncInit(kernel);
    this.lend();
  }

  private video(): void {
    const { kernel, machine } = this;
    const sizes = { planeSizes: [SIZE - 100] };
    const [camera, screen] = [AT.camera, AT.screen].map((at) => machine.function(at));
    if (camera === undefined || screen === undefined) return expect.fail('devices');
    const painted = { work: captureWork(machine, camera), device: camera };
    const kinds = [
      [NODES.camera, VB2_DMA_CONTIG],
      [NODES.scattered, VB2_DMA_SG],
      [NODES.virtual, VB2_VMALLOC],
    ] as const;
    for (const [path, memOps] of kinds) {
      const queues = [{ type: V4L2_BUF_TYPE.VIDEO_CAPTURE, memOps, ...sizes }];
      void new VideoDevice(kernel, { path, ...painted, queues });
    }
    void new VideoDevice(kernel, {
      path: NODES.screen,
      device: screen,
      work: sinkWork(machine, screen, { pictures: [] }),
      queues: [{ type: V4L2_BUF_TYPE.VIDEO_OUTPUT, memOps: VB2_DMA_SG, ...sizes }],
    });
  }

  /** Pages of the other guest, which it lends to us. */
  private lend(): void {
    const { memory } = this.machine;
    const start = memory.reserve(2, PAGE_SIZE) ?? expect.fail('two pages');
    for (const page of [start, start + PAGE_SIZE]) {
      const ref = this.tables.grant(OTHER, OURS, physAddr(page)).apply(NOBODY);
      this.refs.push(ref ?? expect.fail('an entry'));
    }
  }

  /** Runs a program, and ends it. What it ended with. */
  run(body: (sys: ModelSys) => Task): string {
    const { process, scheduler } = this;
    const before = this.machine.memory.pagesInUse;
    const ended: string[] = [];
    function* main(): Task {
      try {
        yield* body(new ModelSys(process));
        ended.push('well');
      } catch (error) {
        if (!isDmaBufError(error)) throw error;
        ended.push(`${error.code} ${error.reason}`);
      }
      yield* process.exit();
    }
    scheduler.spawn(main(), { name: 'app', role: 'user' });
    const [{ status, findings }, counts] = watchReferences(() => {
      return scheduler.run(new RoundRobinStrategy());
    });
    const held = [...counts].filter(
      ({ id, name, value }) => id >= BOOT_CELLS && value > (name === VFIO_COUNT ? 1 : 0),
    );
    this.left = {
      status,
      findings: findings.map(({ title }) => title),
      pages: this.machine.memory.pagesInUse - before,
      references: held.map(({ name, value }) => `${name}: ${value}`),
      ...this.counted(),
    };
    return ended[0] ?? 'nothing';
  }

  /** What there is of things that are counted. */
  counted(): Counted {
    const { kernel, machine, process, tables, vdev } = this;
    const grants = [...tables.value.values()];
    return {
      buffers: kernel.bufferList.value,
      descriptors: [...process.fds.value.keys()],
      addresses: DEVICES.map((at) => machine.function(at).domain.value?.value.length ?? 0),
      grants: grants.length,
      grantsMapped: grants.reduce((sum, { mapped }) => sum + mapped, 0),
      vfioBuffers: vdev.dmabufs.value.length,
    };
  }
}
