/** The machines that come with peerbuf. */

import type { MachineSpec } from '../spec/machine-spec.ts';
import { ARM_SOC } from './arm-soc.ts';
import { DESKTOP } from './desktop.ts';
import { EPYC_2S } from './epyc-2s.ts';
import { ICELAKE_2S } from './icelake-2s.ts';
import { SERVER_SWITCH } from './server-switch.ts';
import { SERVER_SWITCH_ACS } from './server-switch-acs.ts';
import { WORKSTATION_ZEN } from './workstation-zen.ts';

/** All presets, in the order in which lists show them. */
export const PRESETS: readonly MachineSpec[] = [
  DESKTOP,
  SERVER_SWITCH,
  SERVER_SWITCH_ACS,
  EPYC_2S,
  ICELAKE_2S,
  ARM_SOC,
  WORKSTATION_ZEN,
];

/** The preset called `name`; null if there is none. */
export function findPreset(name: string): MachineSpec | null {
  return PRESETS.find((preset) => preset.name === name) ?? null;
}
