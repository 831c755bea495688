/** Random functions, for property tests: any that `readMachineSpec` would let a machine have. */

import fc from 'fast-check';
import { LINK_SPEEDS, LINK_WIDTHS } from '../../src/machine/pci/link-registers.ts';
import { bridgeRule, PCI_TYPES } from '../../src/machine/pci/pcie-type.ts';
import type {
  AcsSpec,
  BarSpec,
  BridgeSpec,
  FunctionSpec,
  LinkSpec,
  WindowSpec,
} from '../../src/machine/spec/machine-spec.ts';

const BITS_16 = fc.integer({ min: 0, max: 0xffff });
const BITS_7 = fc.integer({ min: 0, max: 0x7f });
const BUS = fc.integer({ min: 0, max: 0xff });

const ACS: fc.Arbitrary<AcsSpec | null | 'unknown'> = fc.oneof(
  fc.record({ capability: BITS_7, control: BITS_7 }),
  fc.constant(null),
  fc.constant('unknown' as const),
);

const SPEED = fc.option(fc.constantFrom(...LINK_SPEEDS));
const WIDTH = fc.option(fc.constantFrom(...LINK_WIDTHS));
const LINK: fc.Arbitrary<LinkSpec | null> = fc.option(
  fc.record({ speed: SPEED, width: WIDTH, maxSpeed: SPEED, maxWidth: WIDTH }),
);

/** A window of whole mebibytes below `mebibytes`. */
function windowBelow(mebibytes: number): fc.Arbitrary<WindowSpec | null> {
  const number = fc.integer({ min: 0, max: mebibytes - 1 });
  const window = fc.tuple(number, number).map(([one, other]) => ({
    base: Math.min(one, other) * 2 ** 20,
    limit: (Math.max(one, other) + 1) * 2 ** 20 - 1,
  }));
  return fc.option(window);
}

const BRIDGE: fc.Arbitrary<BridgeSpec> = fc.record({
  secondary: BUS,
  subordinate: BUS,
  memory: windowBelow(2 ** 12),
  prefetch: windowBelow(2 ** 32),
});

/** A BAR for each flag in turn, the next register after a 64-bit one left out. */
function barsBelow(count: number): fc.Arbitrary<BarSpec[]> {
  const kind = fc.constantFrom('none', 'io', 'short', 'long');
  const item = fc.tuple(kind, fc.boolean(), fc.nat(), fc.boolean());
  return fc.array(item, { maxLength: count }).map((items) => {
    const bars: BarSpec[] = [];
    let taken = -1;
    for (const [index, [chosen, prefetchable, number, isAssigned]] of items.entries()) {
      if (index <= taken || chosen === 'none' || (chosen === 'long' && index + 1 >= count))
        continue;
      const is64 = chosen === 'long';
      if (is64) taken = index + 1;
      const size = 2 ** (4 + (number % (is64 ? 40 : 24)));
      const most = (is64 ? 2 ** 51 : 2 ** 32) / size;
      const address = isAssigned ? ((number * 2654435761) % most) * size : 0;
      bars.push(
        chosen === 'io'
          ? { index, kind: 'io', address, size, prefetchable: false, is64: false }
          : { index, kind: 'memory', address, size, prefetchable, is64 },
      );
    }
    return bars;
  });
}

/** A physical function without evidence. */
export const FUNCTION: fc.Arbitrary<FunctionSpec> = fc
  .tuple(fc.constantFrom(...PCI_TYPES), fc.boolean())
  .chain(([type, isBridge]) => {
    const rule = bridgeRule(type);
    const hasBridge = rule === 'always' || (rule === 'maybe' && isBridge);
    return fc.record<FunctionSpec>({
      address: fc.constant('0000:05:00.0'),
      parent: fc.constant(null),
      vendor: fc.oneof(BITS_16, fc.constant(0x8086)),
      device: fc.oneof(BITS_16, fc.constant(0xa110)),
      subsystemVendor: BITS_16,
      subsystemDevice: BITS_16,
      classCode: fc.integer({ min: 0, max: 0xffffff }),
      revision: fc.integer({ min: 0, max: 0xff }),
      type: fc.constant(type),
      command: BITS_16,
      bars: barsBelow(hasBridge ? 2 : 6),
      bridge: hasBridge ? BRIDGE : fc.constant(null),
      acs: ACS,
      link: LINK,
      node: fc.constant(null),
      iommuGroup: fc.constant(null),
      driver: fc.constant(null),
      physicalFunction: fc.constant(null),
      config: fc.constant(null),
    });
  });
