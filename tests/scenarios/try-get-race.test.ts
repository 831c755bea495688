/**
 * Goal: the walk over exported buffers is right as Linux has it, and each of the three mistakes
 * that thread S003 warns of goes wrong in some schedule. Method: the story as it is, and with one
 * method of the device changed, under many random schedules.
 */

import { describe, expect, test } from 'vitest';
import { VfioPciDevice } from '../../src/drivers/index.ts';
import type { VfioDmaBuf } from '../../src/drivers/vfio-pci/vfio-dma-buf.ts';
import { type Exploration, exploreRandom } from '../../src/explorer/index.ts';
import type { DmaBuf, Kernel } from '../../src/framework/index.ts';
import type { Atomic, PciFunction, Task } from '../../src/machine/index.ts';
import { findPreset, MachinePlan } from '../../src/machine/index.ts';
import { Production } from '../../src/scenarios/index.ts';
import { closeRacesReset } from '../../src/scenarios/vfio-close-races-reset.ts';

/** Mistake 1: takes a reference without asking whether the buffer still lives. */
class GetInsteadOfTryGet extends VfioPciDevice {
  protected override *takeReference(dmabuf: DmaBuf): Atomic<boolean> {
    yield* dmabuf.getDmaBuf();
    return true;
  }
}

/** Mistake 2: walks the list without the lock that guards it. */
class WalkWithoutLock extends VfioPciDevice {
  protected override *moveBuffers(revoked: boolean): Task {
    yield* this.memoryLock.upWrite();
    yield* super.moveBuffers(revoked);
    yield* this.memoryLock.downWrite();
  }
}

/** Mistake 3: frees the state of a buffer before it takes the buffer off the list. */
class FreeBeforeLock extends VfioPciDevice {
  override *releaseBuffer(buffer: VfioDmaBuf): Task {
    yield* buffer.memory.free();
    yield* this.memoryLock.downWrite();
    yield* this.unlink(buffer);
    yield* this.memoryLock.upWrite();
  }
}

const plan = new MachinePlan(findPreset('server-switch') ?? expect.fail('the preset is there'));

type DeviceClass = new (kernel: Kernel, fn: PciFunction) => VfioPciDevice;

function explore(Device: DeviceClass): Exploration {
  const scenario = closeRacesReset((kernel, fn) => new Device(kernel, fn), 2);
  return exploreRandom(new Production(scenario, plan), { executions: 5000, seed: 1 });
}

describe('The walk over exported buffers', () => {
  test('goes well in 5,000 schedules as Linux has it (S003-13, S003-14, S003-15)', () => {
    const { failed, failures, results } = explore(VfioPciDevice);
    expect(failures).toEqual([]);
    expect(failed).toBe(0);
    const [result, ...others] = results.keys();
    expect(result).toBe('every buffer was released once, and none was touched after');
    expect(others).toEqual([]);
  });

  test('with get for try-get revives a dead buffer in some schedule (S003-8, DB-003)', () => {
    const { failed, failures } = explore(GetInsteadOfTryGet);
    expect(failed).toBeGreaterThan(0);
    expect(failures[0]?.findings[0]?.title).toContain('incremented from zero');
  });

  test('without the list lock touches freed memory in some schedule (S003-9)', () => {
    const { failed, failures } = explore(WalkWithoutLock);
    expect(failed).toBeGreaterThan(0);
    expect(failures.flatMap((f) => f.findings.map((finding) => finding.kind))).toContain('oops');
  });

  test('with a release that frees before it takes the lock does so, too (S003-10, S003-12)', () => {
    const { failed, failures } = explore(FreeBeforeLock);
    expect(failed).toBeGreaterThan(0);
    expect(failures.flatMap((f) => f.findings.map((finding) => finding.kind))).toContain('oops');
  });
});
