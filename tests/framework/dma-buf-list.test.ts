/**
 * Goal: every buffer is on the list from export to release, newest first, and what makes no buffer
 * leaves nothing. Method: exporters that lack something, modules that go, walkers that race with
 * the last put; reference A.3, A.4, A.11.
 */

import { describe, expect, test } from 'vitest';
import { RandomStrategy } from '../../src/explorer/index.ts';
import {
  BUFINFO_PATH,
  bufinfo,
  DmaBuf,
  type DmaBufExportInfo,
  DmaResv,
  KernelModule,
} from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { oneStep, refused } from '../machine/fabric-rig.ts';
import { CoreRig } from './core-rig.ts';
import { FakeExporter, KernelRig, locked, PEER_OPS } from './kernel-rig.ts';

type Info = DmaBufExportInfo<FakeExporter>;

function infoOf(exporter = new FakeExporter()): Info {
  return { exporterName: 'fake', ops: exporter.ops, size: 4096, priv: exporter };
}

/** All buffers, as a walker finds them. */
function* walk(rig: KernelRig): Task<readonly number[]> {
  const numbers: number[] = [];
  let buf = yield* rig.kernel.bufferList.iterNext(null);
  while (buf !== null) {
    numbers.push(buf.number);
    buf = yield* rig.kernel.bufferList.iterNext(buf);
  }
  return numbers;
}

describe('An export (A.3)', () => {
  const without = (name: string) => (info: Info) => ({
    ...info,
    ops: { ...info.ops, [name]: null },
  });

  test.each([
    ['priv', (info: Info) => ({ ...info, priv: null })],
    ['operations', (info: Info) => ({ ...info, ops: undefined })],
    ['map_dma_buf', without('mapDmaBuf')],
    ['unmap_dma_buf', without('unmapDmaBuf')],
    ['release', without('release')],
  ])('without %s is EINVAL and a kernel warning (DB-001)', (_, spoil) => {
    const rig = new KernelRig();
    const module = new KernelModule(rig.scheduler, 'fake');
    const info = { ...spoil(infoOf()), owner: module } as unknown as Info;
    expect(rig.do(refused(DmaBuf.export(rig.kernel, info)))).toMatchObject({
      code: 'EINVAL',
      reason: 'exporter-lacks-what-is-mandatory',
    });
    expect(rig.warnings).toEqual([
      'dma_buf_export: priv, map_dma_buf, unmap_dma_buf and release are mandatory',
    ]);
    expect([rig.kernel.bufferList.value, module.value.references]).toEqual([0, 0]);
    expect(rig.do(rig.export()).number).toBe(1);
  });

  test('keeps its module until the release (DB-002)', () => {
    const rig = new KernelRig();
    const owner = new KernelModule(rig.scheduler, 'fake');
    const buf = rig.do(DmaBuf.export(rig.kernel, { ...infoOf(), owner }));
    expect(owner.value.references).toBe(1);
    expect(rig.do(oneStep(owner.unload()))).toBe(false);
    rig.do(buf.put());
    expect(owner.value.references).toBe(0);
    expect(rig.do(oneStep(owner.unload()))).toBe(true);
  });

  test('by a module that is being unloaded is ENOENT: module-is-being-unloaded', () => {
    const rig = new KernelRig();
    const owner = new KernelModule(rig.scheduler, 'fake');
    rig.do(oneStep(owner.unload()));
    const error = rig.do(refused(DmaBuf.export(rig.kernel, { ...infoOf(), owner })));
    expect(error).toMatchObject({ code: 'ENOENT', reason: 'module-is-being-unloaded' });
    expect(rig.kernel.bufferList.value).toBe(0);
    rig.do(oneStep(owner.put()));
    expect(rig.warnings).toEqual(['module_put: fake is not held']);
  });

  test('into a reservation that the caller holds is a kernel warning (LK-002)', () => {
    const rig = new KernelRig();
    const resv = new DmaResv(rig.kernel, 'shared');
    rig.do(locked(resv, DmaBuf.export(rig.kernel, { ...infoOf(), resv })));
    expect(rig.warnings).toEqual(['dma_buf_export: called with shared resv held']);
  });
});

describe('The list of buffers', () => {
  test('has the newest first, and none that is released', () => {
    const rig = new KernelRig();
    const bufs = [0, 1, 2, 3].map(() => rig.do(rig.export()));
    expect(rig.do(walk(rig))).toEqual([4, 3, 2, 1]);
    rig.do((bufs[1] as DmaBuf).put());
    expect(rig.do(walk(rig))).toEqual([4, 3, 1]);
    expect(bufs.map(({ file }) => file.refs.value)).toEqual([1, 0, 1, 1]);
  });

  test('shows a walker live buffers only, whatever the order (A.4)', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 150; seed += 1) {
      const rig = new KernelRig();
      const bufs = [0, 1].map(() => rig.do(rig.export()));
      function* walker(): Task {
        seen.add((yield* walk(rig)).join());
      }
      rig.kthread(walker(), 'walker');
      function* putter(buf: DmaBuf): Task {
        for (let i = 0; i < 5; i += 1) yield* buf.name.read();
        yield* buf.put();
      }
      for (const buf of bufs) rig.user(putter(buf), `putter ${buf.number}`);
      expect(rig.run(new RandomStrategy(seed)).findings).toEqual([]);
      expect(bufs.map(({ priv }) => priv.calls)).toEqual([['release'], ['release']]);
      expect(rig.kernel.bufferList.value).toBe(0);
    }
    expect([...seen].sort()).toEqual(['', '1', '2', '2,1']);
  });
});

describe('Memory that is not there (A.3, A.12)', () => {
  /** Exports and attaches with the n-th allocation refused. */
  function attempt(failAt: number) {
    const rig = new KernelRig();
    Object.assign(rig.scheduler, { failAt });
    const owner = new KernelModule(rig.scheduler, 'fake');
    function* program(): Task<DmaBuf<FakeExporter>> {
      const buf = yield* DmaBuf.export(rig.kernel, { ...infoOf(), owner });
      yield* buf.attach(rig.at('03:00.0'));
      return buf;
    }
    return { rig, owner, error: rig.do(refused(program())) };
  }

  test('for the buffer is ENOMEM and leaves nothing: no-memory-for-a-dma-buf', () => {
    const { rig, owner, error } = attempt(1);
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-memory-for-a-dma-buf' });
    expect([rig.kernel.bufferList.value, owner.value.references]).toEqual([0, 0]);
  });

  test('for the attachment is ENOMEM: no-memory-for-an-attachment', () => {
    const { rig, error } = attempt(2);
    expect(error).toMatchObject({ code: 'ENOMEM', reason: 'no-memory-for-an-attachment' });
    expect(rig.events('attachment.attach')).toEqual([]);
  });
});

describe('debugfs (A.11)', () => {
  const HEAD =
    '\nDma-buf Objects:\nsize    \tflags   \tmode    \tcount   \texp_name\tino     \tname\n';

  test('lists no buffer', () => {
    const rig = new KernelRig();
    expect(rig.do(bufinfo(rig.kernel))).toBe(`${HEAD}\nTotal 0 objects, 0 bytes\n`);
  });

  test('lists buffers with their devices, newest first', () => {
    const rig = new CoreRig();
    const one = rig.do(rig.export(new FakeExporter(), 8192));
    rig.do(rig.export(new FakeExporter(), 123456789));
    rig.do(one.attach(rig.at('03:00.0')));
    rig.do(one.dynamicAttach(rig.at('04:00.0'), PEER_OPS));
    rig.do(oneStep(one.name.write('frame')));
    rig.do(oneStep(one.file.get()));
    expect(rig.do(rig.readAll(BUFINFO_PATH))).toBe(
      [
        HEAD,
        '123456789\t00000002\t00080007\t00000001\tfake\t00000002\t<none>\n',
        '\tAttached Devices:\nTotal 0 devices attached\n\n',
        '00008192\t00000002\t00080007\t00000002\tfake\t00000001\tframe\n',
        '\tAttached Devices:\n\t0000:04:00.0\n\t0000:03:00.0\nTotal 2 devices attached\n\n',
        '\nTotal 2 objects, 123464981 bytes\n',
      ].join(''),
    );
  });

  test('lists fences up to READ, signaled ones too', () => {
    const rig = new CoreRig();
    const buf = rig.do(rig.export());
    rig.do(rig.publish(buf, 'write', 101));
    rig.do(rig.publish(buf, 'bookkeep', 102));
    const done = rig.do(rig.publish(buf, 'read', 103));
    rig.do(done.signal());
    const lines = rig.do(bufinfo(rig.kernel)).split('\n');
    expect(lines.filter((line) => line.includes('fence:'))).toEqual([
      '\twrite fence:101:1 jobs card unsignalled',
      '\tread fence:103:1   signalled',
    ]);
  });

  test.each(['the list', 'a buffer'])(
    'is EINTR after a signal while %s is locked: bufinfo-interrupted',
    (what) => {
      const rig = new CoreRig();
      const buf = rig.do(rig.export());
      const codes: string[] = [];
      const { lock } = rig.kernel.bufferList;
      function* hold(): Task {
        if (what === 'the list') yield* lock.lock();
        else yield* buf.resv.lock();
        yield* rig.scheduler.sleep(100);
        if (what === 'the list') yield* lock.unlock();
        else yield* buf.resv.unlock();
      }
      function* read(): Task {
        yield* rig.scheduler.sleep(5);
        codes.push((yield* refused(rig.readAll(BUFINFO_PATH))).code);
      }
      function* kill(): Task {
        yield* rig.scheduler.sleep(10);
        yield* rig.kernel.signals.kill(reader);
      }
      rig.kthread(hold(), 'holder');
      const reader = rig.user(read(), 'reader');
      rig.kthread(kill(), 'killer');
      expect(rig.run().findings).toEqual([]);
      expect(codes).toEqual(['EINTR']);
      expect(lock.value).toBeNull();
    },
  );

  test('shows a buffer whose last reference is gone and that is not released yet (A.5)', () => {
    const rig = new KernelRig();
    const texts: string[] = [];
    const buf = rig.do(rig.export());
    function* call(): Task {
      yield* buf.put();
      texts.push(yield* bufinfo(rig.kernel));
    }
    rig.user(rig.process.syscall(call()));
    expect(rig.run().findings).toEqual([]);
    expect(texts[0]).toContain('\t00000000\tfake\t00000001\t<none>\n');
    expect(buf.priv.calls).toEqual(['release']);
  });
});
