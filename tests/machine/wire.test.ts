/**
 * Goal: packets come out of a wire in the order in which they went in, each once, at the other end.
 * Method: two programs at the two ends, in random order.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { TraceEvent } from '../../src/base/index.ts';
import { RandomStrategy, RoundRobinStrategy } from '../../src/explorer/index.ts';
import {
  layWire,
  type Packet,
  Scheduler,
  type Task,
  type WirePort,
} from '../../src/machine/index.ts';

function packet(number: number): Packet {
  return { kind: `packet ${number}`, payload: new Uint8Array(number) };
}

function* send(port: WirePort<Packet>, count: number): Task {
  for (let i = 0; i < count; i += 1) yield* port.send(packet(i));
}

function* receive(port: WirePort<Packet>, count: number, got: Packet[]): Task {
  for (let i = 0; i < count; i += 1) got.push(yield* port.receive());
}

describe('A wire', () => {
  test('carries packets both ways, in order, whoever goes first', () => {
    fc.assert(
      fc.property(fc.nat({ max: 8 }), fc.nat({ max: 8 }), fc.nat(), (there, back, seed) => {
        const scheduler = new Scheduler();
        const [near, far] = layWire<Packet>(scheduler, 'near', 'far');
        const [atFar, atNear]: [Packet[], Packet[]] = [[], []];
        for (const [name, task] of [
          ['send there', send(near, there)],
          ['send back', send(far, back)],
          ['take there', receive(far, there, atFar)],
          ['take back', receive(near, back, atNear)],
        ] as const) {
          scheduler.spawn(task, { name, role: 'remote' });
        }
        expect(scheduler.run(new RandomStrategy(seed)).status).toBe('done');
        expect(atFar).toEqual(Array.from({ length: there }, (_, i) => packet(i)));
        expect(atNear).toEqual(Array.from({ length: back }, (_, i) => packet(i)));
        expect([near.value, far.value]).toEqual([[], []]);
      }),
    );
  });

  test('lets who waits for a packet wait, and tells the trace what passes', () => {
    const trace: TraceEvent[] = [];
    const scheduler = new Scheduler({ sink: (event) => void trace.push(event) });
    const [near, far] = layWire<Packet>(scheduler, 'near', 'far');
    const got: Packet[] = [];
    scheduler.spawn(receive(far, 2, got), { name: 'receiver', role: 'remote' });
    scheduler.spawn(send(near, 1), { name: 'sender', role: 'remote' });
    const outcome = scheduler.run(new RoundRobinStrategy());
    expect(outcome.status).toBe('deadlock');
    expect(outcome.findings[0]?.title).toBe('receiver waits for ever to receive far');
    expect(trace.filter(({ kind }) => kind.startsWith('wire'))).toMatchObject([
      { kind: 'wire.send', wire: 'near', packet: 'packet 0', length: 0, task: 'sender' },
      { kind: 'wire.receive', wire: 'far', packet: 'packet 0', task: 'receiver' },
    ]);
  });
});
