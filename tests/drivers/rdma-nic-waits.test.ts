/**
 * Why a revocation waits twice, and what a card must do for it: each duty left out, one at a time.
 */

import { describe, expect, test } from 'vitest';
import { RdmaNic } from '../../src/drivers/rdma-nic/nic.ts';
import type { RegionGate } from '../../src/drivers/rdma-nic/region-gate.ts';
import type { VfioDmaBuf } from '../../src/drivers/vfio-pci/vfio-dma-buf.ts';
import { VfioPciDevice } from '../../src/drivers/vfio-pci/vfio-pci-device.ts';
import type { DmaBuf, DmaResv } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { ResetStory } from './rdma-nic-reset-story.ts';
import { BRIDGES, type WorldOptions } from './rdma-nic-world.ts';

/** Covers accesses by a fence, but unmaps although they are under way. */
class EarlyUnmapNic extends RdmaNic {
  protected override *stop(gate: RegionGate, resv: DmaResv): Task<boolean> {
    yield* super.stop(gate, resv);
    return true;
  }
}

/** Unmaps after the last access, but tells nobody that there are any. */
class NoFenceNic extends RdmaNic {
  protected override *stop(gate: RegionGate): Task<boolean> {
    return (yield* gate.close()).isIdle;
  }
}

/** Neither. */
class CarelessNic extends RdmaNic {
  protected override *stop(gate: RegionGate): Task<boolean> {
    yield* gate.close();
    return true;
  }
}

/** Goes on as if nothing were. */
class DeafNic extends RdmaNic {
  protected override *invalidate(): Task {}
}

/** Revokes with some of the two waits. */
abstract class HastyVfio extends VfioPciDevice {
  abstract readonly waitsForFences: boolean;
  abstract readonly waitsForUnmaps: boolean;

  protected override *moveBuffers(revoked: boolean): Task {
    if (!revoked) {
      yield* super.moveBuffers(false);
      return;
    }
    for (const buffer of yield* this.dmabufs.read()) {
      const dmabuf = yield* buffer.dmabuf.read();
      if (dmabuf === null || !(yield* dmabuf.tryGet())) continue;
      yield* this.revokeHastily(buffer, dmabuf);
      yield* dmabuf.put();
    }
  }

  private *revokeHastily(buffer: VfioDmaBuf, dmabuf: DmaBuf): Task {
    yield* dmabuf.resv.lock();
    yield* buffer.revoked.write(true);
    yield* dmabuf.invalidateMappings();
    if (this.waitsForFences) yield* dmabuf.resv.wait('bookkeep');
    yield* dmabuf.resv.unlock();
    if (!this.waitsForUnmaps) return;
    yield* buffer.putMapping();
    yield* buffer.allUnmapped.wait();
    yield* buffer.kref.reset();
    yield* buffer.allUnmapped.reinit();
  }
}

class NoFenceWaitVfio extends HastyVfio {
  readonly waitsForFences = false;
  readonly waitsForUnmaps = true;
}

class NoUnmapWaitVfio extends HastyVfio {
  readonly waitsForFences = true;
  readonly waitsForUnmaps = false;
}

class NoWaitVfio extends HastyVfio {
  readonly waitsForFences = false;
  readonly waitsForUnmaps = false;
}

/** The kinds of finding in up to `schedules` orders; stops at the first order that has one. */
function firstFindings(options: WorldOptions, schedules: number): readonly string[] {
  for (let seed = 1; seed <= schedules; seed += 1) {
    const { findings } = new ResetStory({ isTraced: false, ...options }, 'on-demand', 1).run(seed);
    if (findings.length > 0) return [...new Set(findings.map(({ kind }) => kind))];
  }
  return [];
}

/** Whether the monitor sees an access that comes too late in one of `schedules` orders. */
function hasStrays(options: WorldOptions, schedules: number): boolean {
  for (let seed = 1; seed <= schedules; seed += 1) {
    const story = new ResetStory(options, 'on-demand', 1);
    story.run(seed);
    if (story.strays().length > 0) return true;
  }
  return false;
}

describe('the two waits of a revocation', () => {
  const SCHEDULES = 600;
  const FAULT = ['fault'];
  /** Makes accesses so long that random orders find a reset in the middle of one. */
  const SHORT_MTU = 8;

  test.each([
    ['our card, both waits', RdmaNic, VfioPciDevice, []],
    ['our card, no wait for fences', RdmaNic, NoFenceWaitVfio, []],
    ['our card, no wait for unmaps', RdmaNic, NoUnmapWaitVfio, []],
    ['our card, no wait at all', RdmaNic, NoWaitVfio, FAULT],
    ['a card that unmaps early, both waits', EarlyUnmapNic, VfioPciDevice, []],
    ['a card that unmaps early, no wait for fences', EarlyUnmapNic, NoFenceWaitVfio, FAULT],
    ['a card without a fence, both waits', NoFenceNic, VfioPciDevice, []],
    ['a card without a fence, no wait for unmaps', NoFenceNic, NoUnmapWaitVfio, FAULT],
    ['a card that does neither, both waits', CarelessNic, VfioPciDevice, FAULT],
  ] as const)('keep accesses out of the reset as they should: %s (AC-14)', (...row) => {
    const [, nicClass, vfioClass, expected] = row;
    const nicOptions = { pathMtu: SHORT_MTU };
    expect(firstFindings({ nicClass, vfioClass, nicOptions }, SCHEDULES)).toEqual(expected);
  });

  test('do not help where an IOMMU holds a card to its word: who unmaps early faults', () => {
    expect(firstFindings({ nicClass: EarlyUnmapNic, spec: BRIDGES }, SCHEDULES)).toEqual(FAULT);
  });

  test('promise silence, and the monitor hears who breaks it without a fault (AC-14)', () => {
    expect(hasStrays({}, 200)).toBe(false);
    expect(hasStrays({ nicClass: EarlyUnmapNic }, 200)).toBe(false);
    expect(hasStrays({ nicClass: NoFenceNic }, 200)).toBe(true);
    expect(hasStrays({ nicClass: CarelessNic }, 200)).toBe(true);
  });

  test('do not end if the card is deaf: a deadlock that names who waits', () => {
    const story = new ResetStory({ nicClass: DeafNic });
    const { status, findings } = story.run(1);
    expect(status).toBe('deadlock');
    expect(findings[0]?.title).toMatch(/admin waits for ever to wait_for_completion vfio_pci/);
  });
});
