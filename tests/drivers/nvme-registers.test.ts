import { describe, expect, test } from 'vitest';
import { NvmeController } from '../../src/drivers/nvme/controller.ts';
import {
  decodeAqa,
  decodeCmbPlace,
  encodeAqa,
  encodeCmbPlace,
  readyTimeoutNs,
} from '../../src/drivers/nvme/registers.ts';
import type { Task } from '../../src/machine/index.ts';
import { bar, bar0Only, CMB_BASE, NvmeRig, TWO_BARS } from './nvme-rig.ts';

/** Values of registers, read by the CPU after the engine has settled. */
function* values(rig: NvmeRig, offsets: readonly number[]): Task<number[]> {
  yield* rig.scheduler.sleep(1);
  const read: number[] = [];
  for (const offset of offsets) read.push(yield* rig.access.readRegister(0, offset, 4));
  return read;
}

function* openedAt(rig: NvmeRig, cmbmsc: number): Task<number[]> {
  yield* rig.access.writeRegister(0, 0x50, cmbmsc, 8);
  return yield* values(rig, [0x38, 0x3c, 0x58]);
}

describe('registers of an NVMe controller', () => {
  test('show capabilities and version, and are not ready', () => {
    const rig = new NvmeRig();
    const actor = rig.user(values(rig, [0x00, 0x04, 0x08, 0x14, 0x1c]));
    expect(rig.run().status).toBe('done');
    expect(actor.result).toEqual([
      // MQES 63, CQR, TO 1.
      0x0101_003f,
      // CSS NVM (bit 37), CMBS (bit 57).
      0x0200_0020, 0x0001_0400, 0, 0,
    ]);
    expect(readyTimeoutNs(0x0101_003f)).toBe(500_000_000);
  });

  test('read-only ones ignore writes', () => {
    const rig = new NvmeRig();
    function* attempt(): Task<number[]> {
      for (const offset of [0x00, 0x04, 0x08, 0x1c, 0x38, 0x3c, 0x58]) {
        yield* rig.access.writeRegister(0, offset, 0x5555_5555, 4);
      }
      return yield* values(rig, [0x00, 0x08, 0x1c, 0x38, 0x3c, 0x58]);
    }
    const actor = rig.user(attempt());
    rig.run();
    expect(actor.result).toEqual([0x0101_003f, 0x0001_0400, 0, 0, 0, 0]);
  });

  test('words without a register read 0, those that were left out among them', () => {
    const rig = new NvmeRig();
    const actor = rig.user(values(rig, [0x0c, 0x10, 0x20, 0xffc, 0x1ffc]));
    rig.run();
    expect(actor.result).toEqual([0, 0, 0, 0, 0]);
  });

  test('AQA counts entries from 0', () => {
    expect(encodeAqa(8, 64)).toBe(0x003f_0007);
    expect(decodeAqa(0x003f_0007)).toEqual({ submission: 8, completion: 64 });
  });
});

describe('CMBLOC and CMBSZ', () => {
  test('are 0 until CMBMSC.CRE is set, and again when it is cleared', () => {
    const rig = new NvmeRig();
    function* steps(): Task<number[][]> {
      const before = yield* values(rig, [0x38, 0x3c]);
      const shown = yield* openedAt(rig, 0x1);
      const hidden = yield* openedAt(rig, 0x0);
      return [before, shown, hidden];
    }
    const actor = rig.user(steps());
    rig.run();
    expect(actor.result).toEqual([
      [0, 0],
      // BIR 2, offset 0, CDPMLS, CDPCILS; 256 units of 4 KiB, everything supported.
      [0x0000_0062, 0x0010_001f, 0],
      [0, 0, 0],
    ]);
  });

  test('CMBMSC may be written in halves', () => {
    const rig = new NvmeRig();
    function* halves(): Task<number[]> {
      yield* rig.access.writeRegister(0, 0x54, CMB_BASE / 2 ** 32, 4);
      yield* rig.access.writeRegister(0, 0x50, 0x3, 4);
      return yield* values(rig, [0x38, 0x3c, 0x50, 0x54, 0x58]);
    }
    const actor = rig.user(halves());
    rig.run();
    expect(actor.result).toEqual([0x62, 0x0010_001f, 0x3, 7, 0]);
  });

  test('CMBSTS tells of a base that the buffer does not fit behind', () => {
    const rig = new NvmeRig();
    const base = 2 ** 52 - 0x8_0000;
    const actor = rig.user(openedAt(rig, base + 0x3));
    rig.run();
    expect(actor.result).toEqual([0x62, 0x0010_001f, 1]);
  });

  test('behind registers and doorbells where BAR0 is the only one', () => {
    const rig = new NvmeRig({ bars: bar0Only(0x4000) });
    const actor = rig.user(openedAt(rig, 0x1));
    rig.run();
    // BIR 0, offset 2 and size 2 units of 4 KiB.
    expect(actor.result).toEqual([0x0000_2060, 0x0000_201f, 0]);
    expect(rig.drive.cmb?.place).toEqual({ bar: 0, offset: 0x2000, size: 0x2000 });
  });

  test('in the largest of several BARs', () => {
    const bars = [...TWO_BARS, bar(4, 0x38_0040_0000, 0x40_0000)];
    const rig = new NvmeRig({ bars });
    expect(rig.drive.cmb?.place).toEqual({ bar: 4, offset: 0, size: 0x40_0000 });
  });

  test('stay 0 without a buffer, and CMBMSC ignores writes', () => {
    for (const options of [{ bars: bar0Only(0x2000) }, { drive: { cmb: null } }]) {
      const rig = new NvmeRig(options);
      function* attempt(): Task<number[]> {
        const opened = yield* openedAt(rig, CMB_BASE + 0x3);
        return [...opened, ...(yield* values(rig, [0x04, 0x50, 0x54]))];
      }
      const actor = rig.user(attempt());
      rig.run();
      expect(actor.result).toEqual([0, 0, 0, 0x0000_0020, 0, 0]);
      expect(rig.drive.cmb).toBeNull();
    }
  });

  test('say what the drive does not support: without submission queues no lists either', () => {
    const cmb = { submissionQueues: false, mixedData: false };
    const rig = new NvmeRig({ drive: { cmb } });
    const actor = rig.user(openedAt(rig, 0x1));
    rig.run();
    expect(actor.result).toEqual([0x0000_0042, 0x0010_001a, 0]);
  });

  test('take the smallest unit that can tell the size', () => {
    for (const [size, power] of [
      [0x1000, 0],
      [2 ** 31, 0],
      [2 ** 32, 1],
      [2 ** 36, 2],
      [2 ** 45, 4],
    ] as const) {
      const place = { bar: 2, offset: 0, size };
      const registers = encodeCmbPlace(place, 0, 0);
      expect(((registers?.cmbsz ?? 0) >>> 8) & 0xf).toBe(power);
      expect(decodeCmbPlace(registers?.cmbloc ?? 0, registers?.cmbsz ?? 0)).toEqual(place);
    }
    expect(encodeCmbPlace({ bar: 2, offset: 0, size: 2 ** 60 }, 0, 0)).toBeNull();
    expect(encodeCmbPlace({ bar: 2, offset: 512, size: 4096 }, 0, 0)).toBeNull();
  });
});

describe('building a drive into a function', () => {
  test('fails without room for registers and doorbells', () => {
    expect(() => new NvmeRig({ bars: bar0Only(0x1000) })).toThrow(
      expect.objectContaining({ code: 'ENODEV', reason: 'nvme-bar0-too-small' }),
    );
  });

  test('fails a second time', () => {
    const rig = new NvmeRig();
    expect(() => new NvmeController(rig.fn)).toThrow('has its hardware already');
  });

  test('every cell that a reset changes is named, and the media is not', () => {
    const { drive } = new NvmeRig();
    const touched = new Set(drive.resetTouches);
    for (const register of drive.registers.all) expect(touched.has(register)).toBe(true);
    expect(touched.has(drive.resets)).toBe(true);
    expect(drive.cmb !== null && touched.has(drive.cmb.memory)).toBe(true);
    expect(touched.has(drive.media.cell)).toBe(false);
  });
});
