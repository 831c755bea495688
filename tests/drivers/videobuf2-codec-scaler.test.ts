import { describe, expect, test } from 'vitest';
import { dmaAddr, O, V4L2_BUF_TYPE } from '../../src/base/index.ts';
import {
  captureWork,
  scalerWork,
  testPattern,
  VB2_DMA_CONTIG,
  VB2_DMA_CONTIG_ADDRESSES,
  VideoDevice,
} from '../../src/drivers/index.ts';
import { declareCoherentMemory, reserveMemory } from '../../src/framework/index.ts';
import {
  findPreset,
  type IommuMode,
  type MachineSpec,
  type PciFunction,
  type Task,
} from '../../src/machine/index.ts';
import { refused } from '../machine/fabric-rig.ts';
import { DMABUF, IMAGE, MMAP, PAGE, VideoRig } from './videobuf2-rig.ts';

const { VIDEO_CAPTURE: CAPTURE, VIDEO_OUTPUT: OUTPUT } = V4L2_BUF_TYPE;
const FRAMES = 3;
const HALF = IMAGE / 2;

/** The Arm board: three kinds of address, and caches that see nothing of DMA. */
function armBoard(iommu: IommuMode): MachineSpec {
  const spec = findPreset('arm-soc') ?? expect.fail('no such preset');
  return { ...spec, iommu };
}

/** A codec that paints into memory of its own without pages, and a scaler that takes it in. */
class CodecRig extends VideoRig {
  readonly codec: PciFunction;
  readonly scaler: PciFunction;

  constructor(iommu: IommuMode, memOps = VB2_DMA_CONTIG_ADDRESSES) {
    super(armBoard(iommu));
    const [codec, scaler] = [...this.devices.keys()].map((address) => this.at(address));
    this.codec = codec ?? expect.fail('no codec');
    this.scaler = scaler ?? expect.fail('no scaler');
    new VideoDevice(this.kernel, {
      path: '/dev/video0',
      device: this.codec,
      work: captureWork(this.machine, this.codec),
      queues: [{ type: CAPTURE, memOps, planeSizes: [IMAGE] }],
    });
    new VideoDevice(this.kernel, {
      path: '/dev/video1',
      device: this.scaler,
      work: scalerWork(this.machine, this.scaler),
      queues: [
        { type: OUTPUT, memOps: VB2_DMA_CONTIG, planeSizes: [IMAGE] },
        { type: CAPTURE, memOps: VB2_DMA_CONTIG, planeSizes: [HALF] },
      ],
    });
    this.do(this.givePool());
  }

  /** What device trees do with a reserved memory region. */
  private *givePool(): Task {
    const { codec, machine } = this;
    const range = yield* reserveMemory(machine, 16 * PAGE);
    const domain = codec.domain.value;
    const rights = { readable: true, writable: true };
    const mapped = domain === null ? null : yield* domain.mapAnywhere([range], rights);
    const direct = dmaAddr(range.phys + codec.node.hostBridge.spec.dmaOffset);
    declareCoherentMemory(machine, codec, range, mapped ?? direct);
  }

  /** Decodes, scales, and gives back what the program sees of the small pictures. */
  *decodeAndScale(): Task<readonly Uint8Array[]> {
    const codec = yield* this.open('/dev/video0');
    const scaler = yield* this.open('/dev/video1');
    yield* this.reqbufs(codec, CAPTURE, MMAP, 1);
    const fd = yield* this.expbuf(codec, CAPTURE, 0);
    yield* this.reqbufs(scaler, OUTPUT, DMABUF, 1);
    yield* this.reqbufs(scaler, CAPTURE, MMAP, 1);
    const { m } = yield* this.querybuf(scaler, CAPTURE, 0);
    const view = yield* this.mmap(scaler, m.offset ?? 0, { size: PAGE });
    yield* this.streamon(codec, CAPTURE);
    yield* this.streamon(scaler, OUTPUT);
    yield* this.streamon(scaler, CAPTURE);
    const pictures: Uint8Array[] = [];
    for (let frame = 0; frame < FRAMES; frame += 1) {
      yield* this.qbuf(codec, CAPTURE, { index: 0 });
      const { bytesused } = yield* this.dqbuf(codec, CAPTURE);
      yield* this.qbuf(scaler, OUTPUT, { index: 0, memory: DMABUF, bytesused, m: { fd } });
      yield* this.qbuf(scaler, CAPTURE, { index: 0 });
      yield* this.dqbuf(scaler, CAPTURE);
      yield* this.dqbuf(scaler, OUTPUT, DMABUF);
      pictures.push(yield* this.process.mm.load(view.start, HALF));
    }
    yield* this.end(codec, scaler);
    return pictures;
  }
}

/** What a right scaler makes of the codec's pictures. */
function expected(): readonly Uint8Array[] {
  return Array.from({ length: FRAMES }, (_, frame) =>
    testPattern(frame, IMAGE).filter((_byte, i) => i % 2 === 0),
  );
}

describe.each(['off', 'translated'] as const)('Codec to scaler with the IOMMU %s', (iommu) => {
  test('shares memory without pages: every byte arrives (S002-9, S002-12, AC-19)', () => {
    const rig = new CodecRig(iommu);
    const before = rig.scaler.domain.value?.value;
    const pool = rig.machine.memory.pagesInUse;
    expect(rig.do(rig.decodeAndScale())).toEqual(expected());
    expect(rig.machine.faults).toEqual([]);
    // Memory that nobody caches needs no maintenance.
    expect(rig.events('cache.clean', 'cache.invalidate')).toEqual([]);
    expect(rig.warnings).toEqual([]);
    expect(rig.scaler.domain.value?.value).toEqual(before);
    expect(rig.machine.memory.pagesInUse).toBe(pool);
    expect(rig.kernel.bufferList.value).toBe(0);
  });

  test('is refused at the export when the table is to be of pages (AC-19, S002-21)', () => {
    const rig = new CodecRig(iommu, VB2_DMA_CONTIG);
    rig.do(exportOldWay(rig));
  });

  test('out of turn is reported, and shows in the picture (S002-17)', () => {
    const rig = new CodecRig(iommu);
    const [codec, scaler] = [rig.codec.name, rig.scaler.name];
    const [picture] = rig.do(outOfTurn(rig));
    expect(rig.warnings).toContain(`vb2: ${codec} uses vb2_dc_buf in the turn of ${scaler}`);
    expect(rig.warnings).toContain(`vb2: the CPU uses vb2_dc_buf in the turn of ${codec}`);
    expect(picture).not.toEqual(expected()[0]);
  });
});

function* exportOldWay(rig: CodecRig): Task {
  const codec = yield* rig.open('/dev/video0');
  yield* rig.reqbufs(codec, CAPTURE, MMAP, 1);
  const { code, detail } = yield* refused(rig.expbuf(codec, CAPTURE, 0, { flags: O.RDWR }));
  expect(code).toBe('EINVAL');
  expect(detail.reason).toBe('coherent-memory-without-pages');
  expect(rig.kernel.bufferList.value).toBe(0);
}

/** The codec gets the buffer back while the scaler still has it, and the CPU looks meanwhile. */
function* outOfTurn(rig: CodecRig): Task<readonly Uint8Array[]> {
  const codec = yield* rig.open('/dev/video0');
  const scaler = yield* rig.open('/dev/video1');
  yield* rig.reqbufs(codec, CAPTURE, MMAP, 1);
  const fd = yield* rig.expbuf(codec, CAPTURE, 0);
  yield* rig.reqbufs(scaler, OUTPUT, DMABUF, 1);
  yield* rig.reqbufs(scaler, CAPTURE, MMAP, 1);
  const { m } = yield* rig.querybuf(scaler, CAPTURE, 0);
  const view = yield* rig.mmap(scaler, m.offset ?? 0, { size: PAGE });
  yield* rig.streamon(codec, CAPTURE);
  yield* rig.streamon(scaler, OUTPUT);
  yield* rig.streamon(scaler, CAPTURE);
  yield* rig.qbuf(codec, CAPTURE, { index: 0 });
  yield* rig.dqbuf(codec, CAPTURE);
  // The scaler waits for a place to write to, and the codec paints the next picture meanwhile.
  yield* rig.qbuf(scaler, OUTPUT, { index: 0, memory: DMABUF, m: { fd } });
  yield* rig.qbuf(codec, CAPTURE, { index: 0 });
  yield* (yield* rig.bufferOf(fd)).beginCpuAccess('from-device');
  yield* rig.dqbuf(codec, CAPTURE);
  yield* rig.qbuf(scaler, CAPTURE, { index: 0 });
  yield* rig.dqbuf(scaler, CAPTURE);
  const picture = yield* rig.process.mm.load(view.start, HALF);
  yield* rig.end(codec, scaler);
  return [picture];
}
