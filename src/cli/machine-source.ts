/**
 * Finds the machine that the user means: a preset, or whatever `readCapture` reads, with what could
 * not be seen of it assumed and said.
 */

import { InputError } from '../base/index.ts';
import { assumeForwarding, oneLinePath, parseCpuText } from '../doctor/index.ts';
import { type CaptureOptions, readCapture } from '../linux/index.ts';
import { type CpuSpec, findPreset, MachinePlan, PRESETS } from '../machine/index.ts';
import { assumeAcs, readAssumedAcs, unknownAcsCount } from './assume-acs.ts';
import { quoted } from './count.ts';
import { exists, isMachineJson, readSmallFile } from './input-file.ts';
import type { MachineFlags } from './machine-flags.ts';

/** An example for whoever must name a CPU. */
const CPU_EXAMPLE = '--cpu AuthenticAMD:25:1';

/** A machine, and where it comes from. */
export interface MachineSource {
  /** As the user named it; a command that repeats a run names it so. */
  readonly name: string;
  /** `json` is a `MachineSpec` that somebody wrote; a `capture` is read off a real machine. */
  readonly kind: 'preset' | 'json' | 'capture';
  readonly plan: MachinePlan;
  /** What the user should know, a line each. */
  readonly notices: readonly string[];
}

/**
 * Finds the machine called `name`. A preset wins over a file of its name; a name with a slash in it
 * is always a path.
 *
 * @throws {@link InputError} There is none, it cannot be read, or an option says nothing sensible.
 */
export async function readMachine(name: string, flags: MachineFlags): Promise<MachineSource> {
  const cpu = flags.cpu === undefined ? null : readCpu(flags.cpu);
  const cmdline = flags.cmdline === undefined ? null : readCmdline(flags.cmdline);
  const acs = flags.assumeAcs === undefined ? null : readAssumedAcs(flags.assumeAcs);
  const preset = /[/\\]/.test(name) ? null : findPreset(name);
  const kind = preset !== null ? 'preset' : kindOfFile(name);
  const read = preset ?? (await readCapture(name, facts(cpu, cmdline)));
  const known = acs === null ? read : assumeAcs(read, acs);
  const spec = kind === 'capture' ? assumeForwarding(known) : known;
  const unused = [
    ...(cpu !== null && !isSameCpu(spec.cpu, cpu)
      ? [`--cpu is not used: ${name} says its own`]
      : []),
    ...(cmdline !== null && kind !== 'capture'
      ? [`--cmdline is for captures; ${name} is none`]
      : []),
    ...(acs !== null && unknownAcsCount(read) === 0
      ? [`--assume-acs is not used: ${name} knows its ACS`]
      : []),
  ];
  const missing = spec.cpu === null ? [missingCpu(name)] : [];
  return { name, kind, plan: new MachinePlan(spec), notices: [...unused, ...missing] };
}

/** Says that the CPU of a machine is not known, and how to name it. */
export function missingCpu(name: string): string {
  const source = oneLinePath(name);
  return `${source} does not say which CPU it has; name it with --cpu, as in ${CPU_EXAMPLE}`;
}

function facts(cpu: CpuSpec | null, cmdline: string | null): CaptureOptions {
  return { ...(cpu === null ? {} : { cpu }), ...(cmdline === null ? {} : { cmdline }) };
}

function isSameCpu(one: CpuSpec | null, other: CpuSpec): boolean {
  return (
    one !== null &&
    one.arch === other.arch &&
    one.vendor === other.vendor &&
    one.family === other.family &&
    one.model === other.model
  );
}

/** A machine that somebody wrote is taken at its word; a captured one needs assumptions. */
function kindOfFile(path: string): MachineSource['kind'] {
  if (!exists(path) && !/[/\\]/.test(path)) {
    const names = PRESETS.map((preset) => preset.name).join(', ');
    const problem = `expected a preset (${names}), a file or a directory, found none`;
    throw new InputError(oneLinePath(path), '', problem);
  }
  return isMachineJson(path) ? 'json' : 'capture';
}

function readCpu(text: string): CpuSpec {
  const short = parseCpuText(text);
  if (short !== null) return short;
  const expected = `expected VENDOR:FAMILY[:MODEL], as in ${CPU_EXAMPLE}`;
  const content = readSmallFile(text);
  if (content === null) {
    throw new InputError('--cpu', '', `${expected}, or a file, got ${quoted(text)}`);
  }
  const cpu = parseCpuText(content);
  if (cpu !== null) return cpu;
  throw new InputError(oneLinePath(text), '', 'expected /proc/cpuinfo or the output of lscpu');
}

/** A path that leads nowhere is a mistake; anything else that is no file is the text itself. */
function readCmdline(text: string): string {
  const content = readSmallFile(text);
  if (content !== null) return content.trim();
  if (/^\.{0,2}\//.test(text)) {
    throw new InputError(oneLinePath(text), '', 'expected a file with a kernel command line');
  }
  return text;
}
