/**
 * Goal: sockets carry bytes and descriptors as Unix streams do, and a message on its way holds its
 * files. Method: a program sends to itself; threads wait for each other.
 */

import { describe, expect, test } from 'vitest';
import { F, MAP, O, PROT } from '../../src/base/index.ts';
import { RandomStrategy } from '../../src/explorer/index.ts';
import { MSG, POLLERR, POLLHUP, POLLIN, POLLOUT } from '../../src/framework/index.ts';
import type { Task } from '../../src/machine/index.ts';
import { bytesOf, FAKE, SysRig, textOf } from './sys-rig.ts';

/** A program with a pair of sockets, 3 and 4, and a file, 5. */
class SocketRig extends SysRig {
  constructor(fileLimit = 1024) {
    super({ fileLimit });
    this.addNode();
    expect(this.do(this.sys.socketpair())).toEqual([3, 4]);
    expect(this.do(this.sys.open(FAKE, O.RDWR))).toBe(5);
  }

  send(text: string, fds: readonly number[] = [], fd = 3): number {
    return this.do(this.sys.sendmsg(fd, bytesOf(text), fds));
  }

  receive(length: number, fdsMax = 8, fd = 4): string {
    const flags = MSG.DONTWAIT;
    const { bytes, fds, isTruncated } = this.do(this.sys.recvmsg(fd, length, fdsMax, flags));
    return `${textOf(bytes)} [${fds.join()}]${isTruncated ? ' truncated' : ''}`;
  }

  events(fd = 4): number {
    return this.do(this.sys.poll([{ fd, events: POLLIN | POLLOUT }], 0))[0] ?? 0;
  }
}

describe('A socket', () => {
  test('is a stream: messages join, and what is not taken stays', () => {
    const rig = new SocketRig();
    expect(rig.send('hello ')).toBe(6);
    rig.send('world');
    expect(rig.receive(3)).toBe('hel []');
    expect(rig.receive(100)).toBe('lo world []');
    expect(rig.send('')).toBe(0);
    const error = rig.fails(rig.sys.recvmsg(4, 1, 0, MSG.DONTWAIT));
    expect(error).toMatchObject({ code: 'EAGAIN', reason: 'nothing-to-receive' });
  });

  test('is read and written as well; descriptors are lost then', () => {
    const rig = new SocketRig();
    const { sys } = rig;
    const at = rig.do(rig.place(bytesOf('text')));
    expect(rig.do(sys.write(3, at, 4))).toBe(4);
    rig.send('!', [5]);
    rig.do(sys.close(5));
    expect(rig.do(sys.read(4, at, 100))).toBe(5);
    expect(rig.released).toBe(1);
  });

  test('is seen as one, and cannot be mapped or sought', () => {
    const rig = new SocketRig();
    const { sys } = rig;
    expect(rig.do(sys.fstat(3)).mode).toBe(0o140777);
    expect(rig.do(sys.fstatfs(3))).toBe(0x534f434b);
    expect(rig.do(sys.readlink('/proc/self/fd/3'))).toMatch(/^socket:\[\d+\]$/);
    expect(rig.fails(sys.lseek(3, 0, 0)).code).toBe('ESPIPE');
    const map = { length: 1, prot: PROT.READ, flags: MAP.SHARED, fd: 3, offset: 0 };
    expect(rig.fails(sys.mmap(map)).code).toBe('ENODEV');
  });

  test('says the end when the other is closed, and EPIPE to who sends', () => {
    const rig = new SocketRig();
    const { sys } = rig;
    expect(rig.events()).toBe(POLLOUT);
    rig.send('last');
    expect(rig.events()).toBe(POLLOUT | POLLIN);
    rig.do(sys.close(3));
    expect(rig.receive(100)).toBe('last []');
    expect(rig.events()).toBe(POLLOUT | POLLIN | POLLHUP);
    expect(rig.receive(100)).toBe(' []');
    const error = rig.fails(sys.sendmsg(4, bytesOf('x'), [5]));
    expect(error).toMatchObject({ code: 'EPIPE', reason: 'nobody-will-receive' });
  });

  test('says once that the other was closed without reading all: ECONNRESET', () => {
    const rig = new SocketRig();
    rig.send('unread', [5]);
    rig.do(rig.sys.close(5));
    rig.do(rig.sys.close(4));
    expect(rig.released).toBe(1);
    expect(rig.events(3)).toBe(POLLOUT | POLLIN | POLLHUP | POLLERR);
    const error = rig.fails(rig.sys.recvmsg(3, 1, 0));
    expect(error).toMatchObject({ code: 'ECONNRESET', reason: 'closed-before-all-was-read' });
    expect(rig.receive(1, 0, 3)).toBe(' []');
  });

  test('makes a receiver wait for a sender, in any of 100 schedules', () => {
    for (let seed = 0; seed < 100; seed += 1) {
      const rig = new SocketRig();
      let got = '';
      rig.thread(
        (function* (): Task {
          while (got.length < 6) got += textOf((yield* rig.sys.recvmsg(4, 100, 0)).bytes);
        })(),
        'receiver',
      );
      rig.thread(
        (function* (): Task {
          yield* rig.sys.sendmsg(3, bytesOf('one'), []);
          yield* rig.sys.sendmsg(3, bytesOf('two'), []);
        })(),
        'sender',
      );
      expect(rig.run(new RandomStrategy(seed))).toMatchObject({ status: 'done', findings: [] });
      expect(got).toBe('onetwo');
    }
  });
});

describe('A descriptor in a message', () => {
  test('holds its file while nobody has it open, and is another descriptor for it', () => {
    const rig = new SocketRig();
    const { sys } = rig;
    rig.send('x', [5, 5]);
    rig.do(sys.close(5));
    expect(rig.released).toBe(0);
    expect(rig.receive(1)).toBe('x [5,6]');
    rig.do(sys.close(5));
    rig.do(sys.close(6));
    expect(rig.released).toBe(1);
  });

  test('comes with the first byte of its message, and nothing sent later with it', () => {
    const rig = new SocketRig();
    rig.send('plain');
    rig.send('with', [5]);
    rig.send('after');
    expect(rig.receive(6)).toBe('plainw [6]');
    expect(rig.receive(100)).toBe('ithafter []');
    rig.send('one', [5]);
    rig.send('two', [5]);
    expect(rig.receive(100)).toBe('one [7]');
    expect(rig.receive(3)).toBe('two [8]');
  });

  test('is closed if there is no room for it: truncated', () => {
    const rig = new SocketRig();
    rig.send('x', [5, 5, 5]);
    expect(rig.receive(1, 1)).toBe('x [6] truncated');
    expect(rig.process.fds.value.get(5)?.file?.refs.value).toBe(2);
  });

  test('is closed if the table is full, and those after it too', () => {
    const rig = new SocketRig(7);
    rig.send('x', [5, 5, 5]);
    expect(rig.receive(1)).toBe('x [6] truncated');
    expect(rig.process.fds.value.get(5)?.file?.refs.value).toBe(2);
  });

  test('may be asked for with close-on-exec', () => {
    const rig = new SocketRig();
    const { sys } = rig;
    rig.send('x', [5]);
    rig.do(sys.recvmsg(4, 1, 1, MSG.CMSG_CLOEXEC));
    expect(rig.do(sys.fcntl(6, F.GETFD, 0))).toBe(1);
  });

  test('that is not open is EBADF, and more than 253 are EINVAL; none is held then', () => {
    const rig = new SocketRig();
    const { sys } = rig;
    const closed = rig.fails(sys.sendmsg(3, bytesOf('x'), [5, 99]));
    expect(closed).toMatchObject({ code: 'EBADF', reason: 'sent-descriptor-is-not-open' });
    const many = rig.fails(sys.sendmsg(3, bytesOf('x'), new Array<number>(254).fill(5)));
    expect(many).toMatchObject({ code: 'EINVAL', reason: 'too-many-files-in-a-message' });
    rig.send('x', new Array<number>(253).fill(5));
  });

  test('without a byte is not sent', () => {
    const rig = new SocketRig();
    rig.send('', [5]);
    expect(rig.process.fds.value.get(5)?.file?.refs.value).toBe(1);
    expect(rig.events()).toBe(POLLOUT);
  });
});
