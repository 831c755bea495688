/** Captures of real and virtual machines that stand beside the repository, not in it. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { parseCpuText } from '../../src/doctor/index.ts';
import { type CaptureOptions, readCapture } from '../../src/linux/index.ts';
import type { MachineSpec } from '../../src/machine/index.ts';

const SHARED = new URL('../../../shared/', import.meta.url);

/** Why tests over captures are skipped. */
export const REASON: string = `skipped: there is no ${SHARED.pathname}, which holds the captures`;

/** Whether the captures are there. */
export const HAS_CAPTURES: boolean =
  existsSync(new URL('vm-topologies/', SHARED)) && existsSync(new URL('topologies/', SHARED));

/** Folders of the machines that were booted in QEMU; empty without captures. */
export const BOOTED: readonly string[] = HAS_CAPTURES
  ? readdirSync(new URL('vm-topologies/', SHARED)).filter((name) => /^\d+$/.test(name))
  : [];

/** Path of a file among the captures. */
export function sharedPath(path: string): string {
  return new URL(path, SHARED).pathname;
}

/** A booted machine, from `sysfs.tar.gz` or `lspci.txt.gz`. */
export function readBooted(name: string, file: string): Promise<MachineSpec> {
  const text = (path: string): string =>
    readFileSync(sharedPath(`vm-topologies/${name}/${path}`), 'latin1');
  const cpu = parseCpuText(text('cpuinfo'));
  const options: CaptureOptions = { cmdline: text('cmdline'), name: `vm-${name}` };
  return readCapture(
    sharedPath(`vm-topologies/${name}/${file}`),
    cpu === null ? options : { ...options, cpu },
  );
}

/** Prints why nothing was tested, once. */
export function printSkips(): void {
  if (!HAS_CAPTURES) console.log(REASON);
}
