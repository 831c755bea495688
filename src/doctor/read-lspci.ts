/**
 * Reads a machine out of what `lspci -vvv` printed, best with `-xxxx`. Where there is a hex dump,
 * it is believed and the text only adds what registers do not hold: sizes, nodes, groups, drivers.
 *
 * @source reference/p2p-topology.md 3.4, 3.5
 */

import { InputError, PAGE_SIZE } from '../base/index.ts';
import {
  type BarSpec,
  type BridgeSpec,
  type ConfigFacts,
  formatBdf,
  type MachineSpec,
} from '../machine/index.ts';
import { assembleMachine } from './assemble.ts';
import type { CaptureFacts, FunctionDraft } from './capture.ts';
import { configEvidence, noteProblems } from './config-evidence.ts';
import { barsOfRegisters, busAddressesOf, virtualFunctionsOf } from './draft-registers.ts';
import { iommuModeOf } from './iommu-mode.ts';
import { type LspciFields, readLspciFields } from './lspci-fields.ts';
import { type LspciFunction, parseLspciText } from './lspci-text.ts';
import { NoteTally } from './note-tally.ts';
import { CLASS_PCI_BRIDGE, CLASS_UNKNOWN } from './pci-class.ts';

const NO_ID = 0xffff;
const COMMAND_ASSUMED = 0x6;
/** What to shift the CPU addresses of each further domain by, if only bus addresses are known. */
const DOMAIN_SHIFT = 2 ** 44;
/** LIMIT: domains that can be kept apart so; all further ones share the last. */
const SHIFTS_MAX = 255;

/**
 * Reads a machine from `text`.
 *
 * @param source - What errors and the title call it.
 * @param facts - What the caller knows: the text has neither CPU nor command line.
 * @returns A machine for `readMachineSpec` to check; what was assumed stands in `notes`.
 * @throws {@link InputError} if `text` holds no function, one twice, or bridges without the buses
 *   below them, as the output without `-v` does; `place` names the line.
 */
export function machineFromLspci(
  text: string,
  source: string,
  facts: CaptureFacts = {},
): MachineSpec {
  const listed = parseLspciText(text, source);
  const tally = new NoteTally();
  const reader = new LspciReader(source, tally, shiftsOf(listed));
  const functions = listed.map((fn) => reader.read(fn));
  const hasGroups = functions.some(({ iommuGroup }) => iommuGroup !== null);
  const notes: string[] = [];
  const cmdline = facts.cmdline ?? null;
  const iommu = iommuModeOf({ hasIommu: hasGroups || null, groupTypes: [], cmdline }, notes);
  return assembleMachine({
    source,
    facts,
    title: null,
    cpu: facts.cpu ?? null,
    iommu,
    memory: { ranges: [], sizes: [] },
    functions,
    notes: [...notes, ...tally.notes()],
  });
}

/** Reads the functions of one text. */
class LspciReader {
  private readonly source: string;
  private readonly tally: NoteTally;
  private readonly shifts: ReadonlyMap<number, number>;

  constructor(source: string, tally: NoteTally, shifts: ReadonlyMap<number, number>) {
    this.source = source;
    this.tally = tally;
    this.shifts = shifts;
  }

  read(fn: LspciFunction): FunctionDraft {
    const address = formatBdf(fn.bdf);
    const fields = readLspciFields(fn);
    const evidence = configEvidence(fn.config);
    const facts = evidence?.facts ?? null;
    noteProblems(address, evidence, this.tally);
    const isGone = evidence !== null && facts === null;
    const command = isGone ? 0 : (facts?.command ?? fields.command);
    if (command === null) this.tally.add(address, 'memory and bus mastering are assumed to be on');
    const classCode = facts?.classCode ?? fields.classCode;
    if (classCode === null) this.tally.add(address, 'the name of its class says no class number');
    const textType = fields.type ?? (fields.seesCapabilities ? 'conventional' : null);
    const hexType = facts === null || facts.type === 'unknown' ? null : facts.type;
    return {
      bdf: fn.bdf,
      parent: 'unknown',
      ...idsOf(fields, facts),
      classCode: classCode ?? CLASS_UNKNOWN,
      revision: facts?.revision ?? fields.revision,
      type: hexType ?? textType,
      isExpress: fields.link !== null,
      command: command ?? COMMAND_ASSUMED,
      bars: this.bars(fn, fields, facts),
      busAddresses: facts === null ? new Map() : busAddressesOf(facts),
      bridge: this.bridge(fn, fields, facts),
      acs: facts === null || facts.acs === 'unknown' ? fields.acs : facts.acs,
      link: facts?.link ?? fields.link,
      node: fields.node,
      iommuGroup: fields.iommuGroup,
      driver: fields.driver,
      physicalFunction: null,
      virtualFunctions: (facts && virtualFunctionsOf(facts)) ?? fields.virtualFunctions,
      config: evidence?.hex ?? null,
    };
  }

  /** Regions have CPU addresses and sizes; registers fill in where the text has none. */
  private bars(fn: LspciFunction, fields: LspciFields, facts: ConfigFacts | null): BarSpec[] {
    const address = formatBdf(fn.bdf);
    const registers = facts === null ? [] : barsOfRegisters(facts);
    const bars: BarSpec[] = [];
    for (const { size, ...region } of fields.regions) {
      const assumed = registers.find(({ index }) => index === region.index)?.size;
      if (size === null && region.address === 0) {
        this.tally.add(address, 'a BAR without address and size is left out');
        continue;
      }
      if (size === null)
        this.tally.add(address, 'sizes of BARs are not in the source; a page each');
      bars.push({ ...region, size: size ?? assumed ?? PAGE_SIZE });
    }
    const shift = this.shifts.get(fn.bdf.domain) ?? 0;
    for (const bar of registers) {
      if (fields.regions.some(({ index }) => index === bar.index)) continue;
      this.tally.add(address, 'sizes of BARs are not in the source; a page each');
      const isMoved = bar.kind === 'memory' && bar.address !== 0;
      bars.push(isMoved ? { ...bar, address: bar.address + shift } : bar);
    }
    return bars;
  }

  private bridge(
    fn: LspciFunction,
    fields: LspciFields,
    facts: ConfigFacts | null,
  ): BridgeSpec | null {
    if (facts !== null) {
      if (facts.bridge === null) return null;
      const { secondary, subordinate, memory, prefetch } = facts.bridge;
      return { secondary, subordinate, memory, prefetch };
    }
    const { buses, memory, prefetch } = fields;
    if (buses !== null) return { ...buses, memory, prefetch };
    const isBridge = (fields.classCode ?? 0) >>> 8 === CLASS_PCI_BRIDGE;
    if (!isBridge) return null;
    if (fn.details.length === 0) {
      const problem = 'expected the details of lspci -vvv below this bridge';
      throw new InputError(this.source, `line ${fn.line}`, problem);
    }
    return { secondary: 0, subordinate: 0, memory: null, prefetch: null };
  }
}

/** Registers first, but those of a virtual function read as ones. */
function idsOf(
  fields: LspciFields,
  facts: ConfigFacts | null,
): Pick<FunctionDraft, 'vendor' | 'device' | 'subsystemVendor' | 'subsystemDevice'> {
  const seen = facts !== null && facts.vendor !== NO_ID ? facts : fields.ids;
  const hasSubsystem = facts !== null && facts.subsystemVendor !== 0;
  return {
    vendor: seen?.vendor ?? 0,
    device: seen?.device ?? 0,
    subsystemVendor: (hasSubsystem ? facts.subsystemVendor : fields.subsystem?.vendor) ?? 0,
    subsystemDevice: (hasSubsystem ? facts.subsystemDevice : fields.subsystem?.device) ?? 0,
  };
}

/**
 * Without any region in the text, addresses are those of registers, and every domain has its own
 * bus addresses, which would overlap. The further domains are moved up.
 */
function shiftsOf(listed: readonly LspciFunction[]): ReadonlyMap<number, number> {
  const hasRegions = listed.some(({ details }) =>
    details.some((line) => / at [0-9a-f<]/.test(line)),
  );
  const domains = new Set(hasRegions ? [] : listed.map(({ bdf }) => bdf.domain));
  const ordered = [...domains].sort((one, other) => one - other);
  return new Map(ordered.map((domain, at) => [domain, Math.min(at, SHIFTS_MAX) * DOMAIN_SHIFT]));
}
