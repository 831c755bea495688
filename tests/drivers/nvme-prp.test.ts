import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/base/index.ts';
import { ioRead, ioWrite } from '../../src/drivers/nvme/commands.ts';
import type { QueueMemory } from '../../src/drivers/nvme/controller-access.ts';
import type { Task } from '../../src/machine/index.ts';
import { CMB_BASE, type HostMemory, NvmeRig, pattern } from './nvme-rig.ts';

/** Pages of host memory in an order of our own, and a list that names them. */
function* scattered(rig: NvmeRig, pages: number): Task<HostMemory[]> {
  const found: HostMemory[] = [];
  for (let page = 0; page < pages; page += 1) found.push(yield* rig.hostMemory(1));
  return found.reverse();
}

function listOf(pages: readonly { readonly deviceAddress: number }[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 * pages.length));
  pages.forEach(({ deviceAddress }, index) => {
    view.setBigUint64(8 * index, BigInt(deviceAddress), true);
  });
  return new Uint8Array(view.buffer);
}

describe('physical region pages', () => {
  test('two pages stand in the command, the first from an offset', () => {
    const rig = new NvmeRig({ iommu: 'translated' });
    function* story(): Task {
      const { io } = yield* rig.bringUp();
      const [first, second] = (yield* scattered(rig, 2)) as [HostMemory, HostMemory];
      const all = pattern(PAGE_SIZE, 5);
      yield* first.write(PAGE_SIZE - 516, all.subarray(0, 516));
      yield* second.write(0, all.subarray(516));
      const prp1 = first.deviceAddress + PAGE_SIZE - 516;
      const prp2 = second.deviceAddress;
      const done = yield* io.execute(ioWrite({ cid: 1, lba: 0, blocks: 8, prp1, prp2 }));
      expect(done.status).toBe('success');
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(rig.blocks(0, 8)).toEqual(pattern(PAGE_SIZE, 5));
  });

  test('a list names five pages more, for writing and for reading', () => {
    const rig = new NvmeRig({ iommu: 'translated' });
    const all = pattern(6 * PAGE_SIZE, 6);
    function* story(): Task<Uint8Array> {
      const { io } = yield* rig.bringUp();
      const pages = yield* scattered(rig, 6);
      const list = yield* rig.hostMemory(1);
      yield* list.write(0, listOf(pages.slice(1)));
      const [prp1, prp2] = [(pages[0] as HostMemory).deviceAddress, list.deviceAddress];
      for (const [index, page] of pages.entries()) {
        yield* page.write(0, all.subarray(index * PAGE_SIZE, (index + 1) * PAGE_SIZE));
      }
      const range = { lba: 64, blocks: 48, prp1, prp2 };
      expect((yield* io.execute(ioWrite({ cid: 1, ...range }))).status).toBe('success');
      for (const page of pages) yield* page.write(0, new Uint8Array(PAGE_SIZE));
      expect((yield* io.execute(ioRead({ cid: 2, ...range }))).status).toBe('success');
      const back = new Uint8Array(all.length);
      for (const [index, page] of pages.entries()) {
        back.set(yield* page.read(0, PAGE_SIZE), index * PAGE_SIZE);
      }
      return back;
    }
    const actor = rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(actor.result).toEqual(all);
    expect(rig.blocks(64, 48)).toEqual(all);
  });

  test('a list that fills its page goes on in another', () => {
    const rig = new NvmeRig();
    const all = pattern(5 * PAGE_SIZE, 8);
    function* story(): Task {
      const { io } = yield* rig.bringUp();
      const pages = yield* scattered(rig, 5);
      const [front, back] = [yield* rig.hostMemory(1), yield* rig.hostMemory(1)];
      for (const [index, page] of pages.entries()) {
        yield* page.write(0, all.subarray(index * PAGE_SIZE, (index + 1) * PAGE_SIZE));
      }
      // Two entries fit the end of the first page: one of data, and where the list goes on.
      yield* front.write(PAGE_SIZE - 16, listOf([pages[1] as HostMemory, back]));
      yield* back.write(0, listOf(pages.slice(2)));
      const prp1 = (pages[0] as HostMemory).deviceAddress;
      const prp2 = front.deviceAddress + PAGE_SIZE - 16;
      const done = yield* io.execute(ioWrite({ cid: 1, lba: 0, blocks: 40, prp1, prp2 }));
      expect(done.status).toBe('success');
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(rig.blocks(0, 40)).toEqual(all);
  });

  test('list and data may be in the buffer', () => {
    const rig = new NvmeRig();
    const all = pattern(3 * PAGE_SIZE, 4);
    function* story(): Task {
      const { driver, io } = yield* rig.bringUp('cmb');
      const page = (index: number): QueueMemory => driver.cmbMemory(CMB_BASE, index * PAGE_SIZE);
      yield* page(10).write(0, all);
      yield* page(20).write(0, listOf([page(11), page(12)]));
      const [prp1, prp2] = [page(10).deviceAddress, page(20).deviceAddress];
      const done = yield* io.execute(ioWrite({ cid: 1, lba: 0, blocks: 24, prp1, prp2 }));
      expect(done.status).toBe('success');
    }
    rig.user(story());
    expect(rig.run()).toMatchObject({ status: 'done', findings: [] });
    expect(rig.blocks(0, 24)).toEqual(all);
  });
});
