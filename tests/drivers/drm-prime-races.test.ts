/** Two threads at one object, one buffer, one handle: whatever the schedule, they agree. */

import { describe, expect, test } from 'vitest';
import { isDmaBufError } from '../../src/base/index.ts';
import { Display, type DrmFile } from '../../src/drivers/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import type { DmaBuf } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { DrmRig, Program } from './drm-rig.ts';

const SCHEDULES = 200;

/** vgem and a display, each open, a buffer of vgem, and two programs. */
class RaceRig extends DrmRig {
  readonly display: Display;
  readonly guest: Program;
  readonly card: DrmFile;
  readonly render: DrmFile;
  readonly screen: DrmFile;
  readonly handle: number;

  constructor() {
    super();
    this.display = new Display(this.kernel, this.at('03:00.0'));
    this.guest = new Program(this, 'guest');
    this.card = this.do(this.app.open('/dev/dri/card0'));
    this.render = this.do(this.app.open('/dev/dri/renderD128'));
    this.screen = this.do(this.app.open('/dev/dri/card1'));
    this.handle = this.do(this.app.createDumb(this.card)).handle;
    this.do(this.guest.scratch());
  }

  /** A descriptor of `buf` for the guest. */
  *lend(buf: DmaBuf): Task<number> {
    yield* buf.getDmaBuf();
    return yield* buf.fd(this.guest.process);
  }

  /** Runs both, and closes all. */
  race(seed: number, one: Task<unknown>, other: Task<unknown>): void {
    this.user(one, 'one');
    this.user(other, 'other');
    expect(this.run(new RandomStrategy(seed)).status).toBe('done');
  }

  /** Closes everything, and looks that nothing is left. */
  end(): void {
    for (const file of [this.card, this.render, this.screen]) this.do(this.app.close(file));
    this.do(this.app.process.exit());
    this.do(this.guest.process.exit());
    expect(this.warnings).toEqual([]);
    expect([this.vgem.refs.value, this.display.drm.refs.value]).toEqual([1, 1]);
    expect(this.kernel.bufferList.value).toBe(0);
    expect(this.machine.memory.pagesInUse).toBe(0);
    expect(this.scheduler.allocations.filter(({ value }) => value === null)).toHaveLength(0);
  }
}

/** What a call gives, or the code of its refusal. */
function* outcome<T>(call: Task<T>): Task<T | string> {
  try {
    return yield* call;
  } catch (error) {
    if (isDmaBufError(error)) return error.code;
    throw error;
  }
}

describe('Two threads', () => {
  test('that export one handle get one buffer (E.5)', () => {
    for (let seed = 0; seed < SCHEDULES; seed += 1) {
      const rig = new RaceRig();
      const { app, guest, card, handle } = rig;
      const got: DmaBuf[] = [];
      rig.race(seed, exportWith(app), exportWith(guest));
      function* exportWith(who: Program): Task {
        const fd = yield* who.toFd(card, handle);
        got.push(who.bufOf(fd));
      }
      expect(got[0] === got[1]).toBe(true);
      rig.end();
    }
  });

  test('that import one buffer into two files of its device get one object (E.5)', () => {
    for (let seed = 0; seed < SCHEDULES; seed += 1) {
      const rig = new RaceRig();
      const { app, guest, card, render, handle } = rig;
      const fd = rig.do(app.toFd(card, handle));
      const lent = rig.do(rig.lend(app.bufOf(fd)));
      // Only the descriptors keep the object now.
      rig.do(app.gemClose(card, handle));
      rig.race(seed, app.toHandle(card, fd), guest.toHandle(render, lent));
      const [one, other] = [card, render].map((file) => file.objects.value.get(1) ?? null);
      expect(one !== null && one === other).toBe(true);
      expect(one?.handleCount.value).toBe(2);
      expect(one?.dmaBuf.value === app.bufOf(fd)).toBe(true);
      rig.end();
    }
  });

  test('that import one buffer into one file get one handle (E.5)', () => {
    for (let seed = 0; seed < SCHEDULES; seed += 1) {
      const rig = new RaceRig();
      const { app, guest, card, screen, handle } = rig;
      const fd = rig.do(app.toFd(card, handle));
      const lent = rig.do(rig.lend(app.bufOf(fd)));
      const handles: number[] = [];
      rig.race(seed, importWith(app, fd), importWith(guest, lent));
      function* importWith(who: Program, from: number): Task {
        handles.push(yield* who.toHandle(screen, from));
      }
      expect(handles[0]).toBe(handles[1]);
      expect(app.bufOf(fd).attachments.value).toHaveLength(1);
      rig.end();
    }
  });

  test('of which one closes the handle that the other exports agree on what was first', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < SCHEDULES; seed += 1) {
      const rig = new RaceRig();
      const { app, guest, card, handle } = rig;
      let exported: number | string = '';
      rig.race(seed, exportIt(), guest.gemClose(card, handle));
      function* exportIt(): Task {
        exported = yield* outcome(app.toFd(card, handle));
      }
      seen.add(typeof exported === 'number' ? 'exported' : exported);
      // What was exported lives on by its descriptor.
      if (typeof exported === 'number') expect(rig.do(app.toHandle(card, exported))).toBe(1);
      rig.end();
    }
    expect([...seen].sort()).toEqual(['ENOENT', 'exported']);
  });

  test('of which one closes the handle that the other imports anew agree, too', () => {
    for (let seed = 0; seed < SCHEDULES; seed += 1) {
      const rig = new RaceRig();
      const { app, guest, card, screen, handle } = rig;
      const fd = rig.do(app.toFd(card, handle));
      const first = rig.do(app.toHandle(screen, fd));
      let second = 0;
      rig.race(seed, importIt(), guest.gemClose(screen, first));
      function* importIt(): Task {
        second = yield* app.toHandle(screen, fd);
      }
      expect(second).toBeGreaterThan(0);
      rig.end();
    }
  });

  test('that close one handle close it once', () => {
    for (let seed = 0; seed < SCHEDULES; seed += 1) {
      const rig = new RaceRig();
      const { app, guest, card, handle } = rig;
      const got: (string | undefined)[] = [];
      rig.race(seed, closeWith(app), closeWith(guest));
      function* closeWith(who: Program): Task {
        got.push((yield* outcome(who.gemClose(card, handle))) ?? undefined);
      }
      expect(got.filter((one) => one === 'EINVAL')).toHaveLength(1);
      rig.end();
    }
  });

  test('of which one unmaps the last map while the other maps get along', () => {
    for (let seed = 0; seed < SCHEDULES; seed += 1) {
      const rig = new RaceRig();
      const { app, guest, card, handle } = rig;
      const offset = rig.do(app.mapDumb(card, handle));
      const map = rig.do(app.mmap(card, { offset }));
      rig.do(app.gemClose(card, handle));
      rig.race(seed, app.munmap(map), mapIt());
      function* mapIt(): Task {
        const code = yield* outcome(guest.mmap(card, { offset }));
        expect(['EINVAL', 'EACCES']).toContain(code);
      }
      rig.end();
    }
  });
});
