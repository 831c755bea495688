/**
 * Goal: where Linux's rule says that a pair can meet, the bytes arrive, on any fabric: by bus
 * address without the root complex, through the root complex in every IOMMU mode. Method: random
 * fabrics and pairs; memory in every BAR that remembers what arrived.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DmaAddr, PhysAddr } from '../../src/base/index.ts';
import { dmaIovaMap, dmaMapPhys, type P2pRoute, p2pRoute } from '../../src/framework/index.ts';
import {
  type Atomic,
  generateFabric,
  type IommuMode,
  type MachineSpec,
  type PciFunction,
} from '../../src/machine/index.ts';
import { FabricRig } from './fabric-rig.ts';

const MODES: readonly IommuMode[] = ['off', 'passthrough', 'translated'];
const BYTES = [1, 2, 3, 4];

/** A fabric, two of its endpoints by number, and a place in a BAR as a fraction. */
const CASES = fc.record({
  seed: fc.nat(),
  endpoints: fc.integer({ min: 2, max: 60 }),
  client: fc.nat(),
  provider: fc.nat(),
  place: fc.nat(),
});

type Case = typeof CASES extends fc.Arbitrary<infer C> ? C : never;

interface Pair {
  readonly rig: FabricRig;
  readonly client: PciFunction;
  readonly provider: PciFunction;
  readonly route: P2pRoute;
  /** Which BAR of the provider, and where in it. */
  readonly bar: number;
  readonly offset: number;
}

/** Two different functions, as near to each other as not. */
function pairOf(spec: MachineSpec, { client, provider, place }: Case): Pair {
  const rig = new FabricRig(spec);
  const all = [...rig.devices.keys()].map((address) => rig.at(address));
  const owners = all.filter(({ node }) => node.memoryBars.length > 0);
  const owner = owners[provider % owners.length] ?? expect.fail('somebody has a BAR');
  const others = owners.filter((fn) => fn !== owner);
  // Every second client is one of the provider's neighbours.
  const [near, far] = [client % 5, (client >> 3) % others.length];
  const at = owners.indexOf(owner);
  const neighbour = others[Math.min(at + near, others.length - 1)];
  const other = (client & 1 ? neighbour : others[far]) ?? expect.fail('there is another');
  const { memoryBars } = owner.node;
  const bar = memoryBars[place % memoryBars.length]?.spec ?? expect.fail('a BAR');
  const offset = 4 * ((place >> 2) % Math.floor(bar.size / 4));
  const facts = {
    cpu: spec.cpu,
    acsControl: ({ spec: { acs } }: PciFunction['node']) =>
      acs === null || acs === 'unknown' ? null : acs.control,
  };
  const route = p2pRoute(owner.node, other.node, facts);
  return { rig, client: other, provider: owner, route, bar: bar.index, offset };
}

/** Expects that four bytes are at their place, and nothing elsewhere. */
function expectLanding({ rig, provider, bar, offset }: Pair): void {
  expect(rig.machine.faults).toEqual([]);
  expect(rig.arrived).toEqual([{ device: provider.name, bar, offset }]);
  expect(rig.device(provider.name).bar(bar).writes).toEqual([{ offset, bytes: BYTES }]);
}

/** Expects that four bytes arrive at the provider and nowhere else; gives back the ports passed. */
function expectArrival(pair: Pair, address: number) {
  const { rig, client, provider, bar, offset } = pair;
  const notes = rig.write(client, address, BYTES);
  expectLanding(pair);
  expect(notes).toHaveLength(1);
  expect(notes[0]?.target).toBe(`${provider.name} BAR${bar}+0x${offset.toString(16)}`);
  expect([...rig.read(client, address, BYTES.length).bytes]).toEqual(BYTES);
  return notes[0]?.route ?? [];
}

/** The same machine with one view of addresses: what the CPU sees is what goes on the bus. */
function withOneView(spec: MachineSpec): MachineSpec {
  const offsets = new Map<string, number>();
  for (const { domain, bus, busOffset } of spec.hostBridges) {
    offsets.set(`${domain}:${bus}`, busOffset);
  }
  const byAddress = new Map(spec.functions.map((fn) => [fn.address, fn]));
  const functions = spec.functions.map((fn) => {
    if (fn.bridge === null) return fn;
    let top = fn;
    while (top.parent !== null) top = byAddress.get(top.parent) ?? expect.fail('a parent');
    const [domain, bus] = top.address.split(':').map((part) => Number.parseInt(part, 16));
    const by = offsets.get(`${domain}:${bus}`) ?? 0;
    const shift = (window: { readonly base: number; readonly limit: number } | null) =>
      window && { base: window.base - by, limit: window.limit - by };
    const { memory, prefetch } = fn.bridge;
    return { ...fn, bridge: { ...fn.bridge, memory: shift(memory), prefetch: shift(prefetch) } };
  });
  const hostBridges = spec.hostBridges.map((bridge) => ({ ...bridge, busOffset: 0 }));
  return { ...spec, hostBridges, functions };
}

/** Ports with egress control but without redirect: they refuse, where Linux counts a redirect. */
function portsThatForbid({ redirects }: P2pRoute): readonly string[] {
  const forbids = ({ spec: { acs } }: PciFunction['node']): boolean =>
    acs !== null && acs !== 'unknown' && (acs.control & 0x24) === 0x20;
  return redirects.filter(forbids).map(({ address }) => address);
}

/** The request may also end at a port that forbids it; it never lands elsewhere. */
function expectArrivalOrRefusal(pair: Pair, address: number): void {
  const [note] = pair.rig.write(pair.client, address, BYTES);
  if (note?.result === 'done') {
    expectLanding(pair);
  } else {
    const { fault, arrived } = pair.rig;
    const at = fault.kind === 'pci.fault' ? fault.at : fault.device;
    expect(portsThatForbid(pair.route)).toContain(at);
    expect(arrived).toEqual([]);
  }
}

function withMode(spec: MachineSpec, iommu: IommuMode): MachineSpec {
  const forwards = { peerForwarding: 'all' } as const;
  return { ...spec, iommu, hostBridges: spec.hostBridges.map((it) => ({ ...it, ...forwards })) };
}

function* mapPage(rig: FabricRig, device: PciFunction, phys: PhysAddr): Atomic<DmaAddr> {
  const range = { phys, size: 4096 };
  const block = yield* dmaIovaMap(device, [range], 'bidirectional');
  if (block !== null) return block.address;
  return yield* dmaMapPhys(rig.machine, device, range, 'bidirectional', 'mmio');
}

describe('Where the rule says', () => {
  test('bus address, the bus address reaches the BAR without the root complex (P2-002)', () => {
    let met = 0;
    fc.assert(
      fc.property(CASES, (chosen) => {
        const pair = pairOf(generateFabric(chosen), chosen);
        if (pair.route.mapType !== 'bus-address') return;
        met += 1;
        const base = pair.rig.busAddressOf(pair.provider.name, pair.bar);
        const ports = expectArrival(pair, base + pair.offset);
        expect(ports).not.toContain('root-complex');
      }),
      { numRuns: 600 },
    );
    expect(met).toBeGreaterThan(100);
  });

  test.each(MODES)('host bridge, a mapping reaches it where all is forwarded: %s', (mode) => {
    let met = 0;
    fc.assert(
      fc.property(CASES, (chosen) => {
        const spec = generateFabric(chosen);
        // Untranslated, Linux sends physical addresses: right where the bus has the same view.
        const seen = mode === 'translated' ? spec : withOneView(spec);
        const pair = pairOf(withMode(seen, mode), chosen);
        if (pair.route.mapType !== 'through-host-bridge') return;
        met += 1;
        const { rig, client, provider, bar, offset } = pair;
        const page = offset - (offset % 4096);
        const phys = (provider.barStart(bar) + page) as PhysAddr;
        const address = rig.do(mapPage(rig, client, phys)) + (offset - page);
        const [forbids] = mode === 'translated' ? [] : portsThatForbid(pair.route);
        if (forbids === undefined) expectArrival(pair, address);
        else expectArrivalOrRefusal(pair, address);
      }),
      { numRuns: 400 },
    );
    expect(met).toBeGreaterThan(100);
  });
});
