import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { describeEvent, formatSize, isMilestone, type TraceBody } from '../../src/base/index.ts';
import { arbitraryTrace, EVERY_KIND, traceOf, WIDE } from './trace-samples.ts';

function described(body: TraceBody): string {
  return traceOf([body]).map(describeEvent).join();
}

describe('formatSize', () => {
  test.each([
    [0, '0 B'],
    [1, '1 B'],
    [512, '512 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1280, '1.25 KiB'],
    [4096, '4 KiB'],
    [4097, '4097 B'],
    [12288, '12 KiB'],
    [2 ** 20 + 4096, '1028 KiB'],
    [1.5 * 2 ** 20, '1.5 MiB'],
    [16 * 2 ** 30, '16 GiB'],
    [2 ** 40, '1 TiB'],
    [2 ** 52, '4096 TiB'],
    [2 ** 53 - 1, '9007199254740991 B'],
  ])('shows %d bytes as %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });

  test('never rounds', () => {
    const units: Readonly<Record<string, number>> = {
      B: 1,
      KiB: 2 ** 10,
      MiB: 2 ** 20,
      GiB: 2 ** 30,
      TiB: 2 ** 40,
    };
    const sizes = fc.oneof(
      fc.maxSafeNat(),
      fc.nat(2 ** 20),
      fc.nat(2 ** 20).map((n) => n * 4096),
    );
    fc.assert(
      fc.property(sizes, (bytes) => {
        const [number, unit] = formatSize(bytes).split(' ');
        expect(Number(number) * (units[unit as string] as number)).toBe(bytes);
      }),
    );
  });
});

describe('describeEvent', () => {
  test('says in plain English what every kind of event is', () => {
    expect(EVERY_KIND.map(describeEvent)).toEqual([
      'begins peer-write on two-socket, strategy round-robin',
      'starts app (user)',
      'starts worker (kernel, daemon)',
      'starts nic (device, daemon)',
      'starts peer (remote, daemon)',
      'the application shares a buffer',
      'exports buffer 1 from vfio-pci, 64 KiB',
      'gives app fd 4 for buffer 1',
      'takes a reference to buffer 1',
      'tries to take buffer 1: has it',
      'takes dma_resv under context 1',
      'backs off from dma_resv: EDEADLK under context 1',
      'takes vfio_pci.memory_lock (shared)',
      'releases dma_resv',
      'releases vfio_pci.memory_lock',
      'attaches 0000:41:00.0 to buffer 1 (attachment 2, dynamic, p2p)',
      'refused: EINVAL (no route between the root ports): 0000:41:00.0, buffer 1',
      'pins attachment 2 of buffer 1',
      'IOMMU maps 4 KiB at 0x10000 to 0x2000 in nic',
      'maps buffer 1 for 0000:41:00.0: 2 ranges, 12 KiB',
      'makes fence 3: mlx5 qp0, 1:5',
      'adds fence 3 to reservation 1 (write)',
      'begins to wait for fence 3',
      'blocks on fence 3 (wait)',
      'lets time pass until 1500 ns',
      'writes 4 KiB to 0000:03:00.0 BAR2+0x2000',
      'cannot read 64 B at 0x30000: no translation',
      'IOMMU fault: 0000:41:00.0 may not read 0x30000: not mapped',
      'PCI fault at 0000:40:01.0: 0000:41:00.0 may not write 0x40000: no BAR there',
      'sends WRITE psn 7 on eth0, 64 B',
      'receives WRITE psn 7 on eth0, 64 B',
      'signals fence 3',
      'raises interrupt 2 of 0000:41:00.0',
      'has waited for fence 3',
      'reads 4 B (MMIO) from 0000:03:00.0 BAR0+0x10',
      'cannot write 4 B (MMIO): 0000:03:00.0 BAR0+0x10',
      'cleans the cache: 4 KiB at 0x2000',
      'invalidates the cache: 4 KiB at 0x2000',
      '0000:41:00.0 reads 3 B that are stale, at 0x2000',
      'begins to reset 0000:03:00.0',
      'begins to invalidate the mappings of buffer 1',
      'begins to invalidate attachment 2 of buffer 1',
      'unmaps buffer 1 for 0000:41:00.0',
      'IOMMU unmaps 4 KiB at 0x10000 in nic',
      'has invalidated attachment 2 of buffer 1',
      'has invalidated the mappings of buffer 1',
      'sets 0000:03:00.0: memory off, bus master on',
      'has reset 0000:03:00.0',
      'unpins attachment 2 of buffer 1',
      'detaches attachment 2 of buffer 1',
      'closes fd 4 of app',
      'names buffer 1 "frame"',
      'begins CPU access to buffer 1 (from-device)',
      'ends CPU access to buffer 1 (from-device)',
      'maps 16 pages of buffer 1 into a process',
      'maps buffer 1 into the kernel (1 user)',
      "gives the kernel's map of buffer 1 back (0 users left)",
      'drops the last reference to buffer 1',
      'begins to release buffer 1',
      'kernel warning in dma_buf_release: attachments are left',
      'has released buffer 1',
      'the story fails: wrong bytes at 0x10',
      'ends with wrong bytes at 0x10',
      'kernel oops: use after free',
      'ends: oops, 15 steps, 3 findings',
    ]);
  });

  test('is short for every kind', () => {
    for (const event of EVERY_KIND) expect(describeEvent(event).length).toBeLessThan(78);
  });

  test('tells the other outcomes apart', () => {
    expect(described({ kind: 'task.end', failed: null })).toBe('ends');
    expect(described({ kind: 'story.note', text: '' })).toBe('an empty note');
    expect(described({ kind: 'buffer.put', buffer: 1, last: false })).toBe(
      'drops a reference to buffer 1',
    );
    expect(described({ kind: 'buffer.try-get', buffer: 1, ok: false })).toBe(
      'tries to take buffer 1: too late',
    );
    expect(described({ kind: 'fence.signal', fence: 3, error: -5 })).toBe(
      'signals fence 3 with error -5',
    );
    expect(described({ kind: 'run.end', status: 'done', steps: 1, findings: 0 })).toBe(
      'ends: done, 1 step, 0 findings',
    );
  });

  test('is one line that cannot steer a terminal', () => {
    expect(described({ kind: 'story.note', text: 'red \u001b[31m\r\n\u2028next' })).toBe(
      'red  [31m next',
    );
    fc.assert(
      fc.property(arbitraryTrace(WIDE), (trace) => {
        for (const event of trace) {
          expect(describeEvent(event)).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
        }
      }),
    );
  });
});

describe('isMilestone', () => {
  test('leaves out locks, scheduling, caches, translations and the clock', () => {
    const fine = EVERY_KIND.filter((event) => !isMilestone(event)).map((event) => event.kind);
    expect([...new Set(fine)].sort()).toEqual([
      'cache.clean',
      'cache.invalidate',
      'clock.advance',
      'iommu.map',
      'iommu.unmap',
      'lock.acquire',
      'lock.backoff',
      'lock.release',
      'task.block',
      'task.spawn',
    ]);
  });

  test('has the end of a task only if it failed', () => {
    const ends = traceOf([
      { kind: 'task.end', failed: null },
      { kind: 'task.end', failed: 'EBUSY' },
    ]);
    expect(ends.map(isMilestone)).toEqual([false, true]);
  });
});
