/**
 * One quadrant of an AMD server or workstation processor: a root bus whose slots stand behind root
 * ports at function 1 of a device. The presets with such processors share it.
 *
 * @source shared/topologies/boxes/perlmutter-a100-cray-ex
 */

import { conventional, type Plan, type RootPlan, rootPort } from './build.ts';
import { ZEN_DUMMY_HOST, ZEN_HOST, ZEN_PORT } from './catalogue.ts';
import { GIB, MIB } from './part.ts';

const LOW_BASE = 0xa0000000;
const LOW_SIZE = 128 * MIB;
const HIGH_BASE = 0x10000000000;
const HIGH_SIZE = 1024 * GIB;

/** A quadrant. `slots` are what its root ports hold, from device 01 on, every second device. */
export function zenRoot(
  index: number,
  bus: number,
  node: number,
  slots: readonly (readonly Plan[])[],
): RootPlan {
  const ports = slots.flatMap((below, slot) => {
    const device = (1 + 2 * slot).toString(16).padStart(2, '0');
    return [conventional(ZEN_DUMMY_HOST, `${device}.0`), rootPort(ZEN_PORT, `${device}.1`, below)];
  });
  return {
    bus,
    node,
    peerForwarding: 'all',
    low: { base: LOW_BASE + index * LOW_SIZE, size: LOW_SIZE },
    high: { base: HIGH_BASE + index * HIGH_SIZE, size: HIGH_SIZE },
    devices: [conventional(ZEN_HOST, '00.0'), ...ports],
  };
}
