/**
 * Checks the memory of a machine: RAM and BARs lie apart, are as aligned as hardware needs them,
 * and stay within the numbers that addresses can be, as the CPU sees them and as devices do.
 */

import { ADDRESS_LIMIT, formatAddress, isPageAligned, PAGE_SIZE } from '../../base/index.ts';
import { WINDOW_GRAIN } from '../pci/bridge-registers.ts';
import type { ListedFunction, Refuse } from './check-tree.ts';
import type { BarSpec, HostBridgeSpec, MachineSpec, WindowSpec } from './machine-spec.ts';

const MEMORY_BAR_SIZE_MIN = 16;
/** Linux shows the control register of an old IDE channel as a BAR of one port. */
const IO_BAR_SIZE_MIN = 1;
const BAR_COUNT = 6;
const BRIDGE_BAR_COUNT = 2;
const LIMIT_32 = 2 ** 32;

/** Checks the memory of `machine`, whose `functions` are known to form a tree. */
export function checkAddresses(
  machine: MachineSpec,
  functions: readonly ListedFunction[],
  refuse: Refuse,
): void {
  const check = new AddressCheck(machine, functions, refuse);
  check.checkMemory();
  for (const entry of functions) {
    check.checkBars(entry);
    check.checkWindows(entry);
  }
  check.checkApart();
}

/** Bytes of the CPU's address map that something takes. */
interface Range {
  readonly start: number;
  readonly end: number;
  /** The RAM range or BAR. */
  readonly owner: string;
  /** Position among all: of two that overlap, the later one is to blame. RAM comes first. */
  readonly order: number;
}

/** A host bridge and its place in the list. */
interface Root {
  readonly index: number;
  readonly spec: HostBridgeSpec;
}

class AddressCheck {
  readonly #machine: MachineSpec;
  readonly #refuse: Refuse;
  readonly #roots = new Map<string, Root>();
  readonly #byAddress = new Map<string, ListedFunction>();
  readonly #ranges: Range[] = [];

  constructor(machine: MachineSpec, functions: readonly ListedFunction[], refuse: Refuse) {
    this.#machine = machine;
    this.#refuse = refuse;
    for (const [index, spec] of machine.hostBridges.entries()) {
      this.#roots.set(`${spec.domain}:${spec.bus}`, { index, spec });
    }
    for (const entry of functions) this.#byAddress.set(entry.spec.address, entry);
  }

  checkMemory(): void {
    let end = 0;
    for (const [index, { start, size }] of this.#machine.memory.entries()) {
      const owner = `memory[${index}]`;
      if (!isPageAligned(start)) this.#refuseMultiple(`${owner}.start`, PAGE_SIZE, start);
      if (!isPageAligned(size)) this.#refuseMultiple(`${owner}.size`, PAGE_SIZE, size);
      if (start < end) {
        const least = `${formatAddress(end)}, the end of the range before`;
        this.#refuse(`${owner}.start`, `expected at least ${least}, got ${formatAddress(start)}`);
      }
      end = start + size;
      if (end > ADDRESS_LIMIT) {
        const problem = `expected an end of at most 2^52, got ${formatAddress(end)}`;
        this.#refuse(`${owner}.size`, problem);
      }
      for (const root of this.#roots.values()) {
        this.#checkSeen(root, 'dmaOffset', root.spec.dmaOffset, {
          start,
          end,
          owner,
          order: index,
        });
      }
      this.#ranges.push({ start, end, owner, order: index });
    }
  }

  checkBars(entry: ListedFunction): void {
    const { index, spec } = entry;
    const root = this.#rootOf(entry);
    const count = spec.bridge === null ? BAR_COUNT : BRIDGE_BAR_COUNT;
    const taken = new Set<number>();
    for (const [position, bar] of spec.bars.entries()) {
      const owner = `functions[${index}].bars[${position}]`;
      this.#checkBarIndex(owner, bar, count, taken);
      this.#checkBarSize(owner, bar);
      if (bar.address === 0) continue;
      this.#checkAligned(owner, bar);
      const end = bar.address + bar.size;
      const order = this.#ranges.length;
      const range = { start: bar.address, end, owner, order };
      if (bar.kind === 'memory') this.#checkMemoryBar(bar, range, root);
      else if (end > LIMIT_32) this.#refuse32(`${owner}.address`, 'an I/O BAR', end);
    }
  }

  /** The host bridge above. A virtual function may be on a bus that is nobody's. */
  #rootOf(entry: ListedFunction): Root | null {
    let at = entry;
    for (;;) {
      const { parent, physicalFunction } = at.spec;
      const above = this.#byAddress.get(parent ?? physicalFunction ?? '');
      if (above === undefined) break;
      at = above;
    }
    return this.#roots.get(`${at.bdf.domain}:${at.bdf.bus}`) ?? null;
  }

  #checkBarIndex(owner: string, bar: BarSpec, count: number, taken: Set<number>): void {
    const place = `${owner}.index`;
    const last = bar.is64 ? bar.index + 1 : bar.index;
    if (bar.index >= count) this.#refuse(place, `expected 0 to ${count - 1}, got ${bar.index}`);
    if (last >= count) {
      this.#refuse(place, `expected 0 to ${count - 2} for a 64-bit BAR, got ${bar.index}`);
    }
    for (let register = bar.index; register <= last; register += 1) {
      if (taken.has(register)) this.#refuse(place, `register ${register} is taken already`);
      taken.add(register);
    }
  }

  #checkBarSize(owner: string, bar: BarSpec): void {
    const isIo = bar.kind === 'io';
    const least = isIo ? IO_BAR_SIZE_MIN : MEMORY_BAR_SIZE_MIN;
    if (bar.size < least || 2 ** Math.round(Math.log2(bar.size)) !== bar.size) {
      this.#refuse(
        `${owner}.size`,
        `expected a power of two of at least ${least}, got ${bar.size}`,
      );
    }
    const expected = 'expected false for an I/O BAR, got true';
    if (isIo && bar.is64) this.#refuse(`${owner}.is64`, expected);
    if (isIo && bar.prefetchable) this.#refuse(`${owner}.prefetchable`, expected);
  }

  #checkMemoryBar(bar: BarSpec, range: Range, root: Root | null): void {
    const { end, owner } = range;
    const offset = root?.spec.busOffset ?? 0;
    if (root !== null) {
      this.#checkSeen(root, 'busOffset', offset, range);
      if (offset % bar.size !== 0) {
        const unit = `${formatAddress(bar.size)}, the size of ${owner}`;
        const problem = `expected a multiple of ${unit}, got ${show(offset)}`;
        this.#refuse(`hostBridges[${root.index}].busOffset`, problem);
      }
    }
    if (!bar.is64 && end + offset > LIMIT_32) {
      this.#refuse32(`${owner}.address`, 'a 32-bit BAR', end + offset);
    }
    this.#ranges.push(range);
  }

  #checkAligned(owner: string, { address, size }: BarSpec): void {
    if (address % size !== 0) this.#refuseMultiple(`${owner}.address`, size, address);
  }

  /**
   * What devices see of a range must be addresses, too. With an offset of 0 it is what the CPU
   * sees.
   */
  #checkSeen(root: Root, field: string, offset: number, { start, end, owner }: Range): void {
    if (start + offset >= 0 && end + offset <= ADDRESS_LIMIT) return;
    const seen = `${show(start + offset)} to ${show(end + offset - 1)}`;
    const problem = `${show(offset)} puts ${owner} at ${seen}, which are no addresses`;
    this.#refuse(`hostBridges[${root.index}].${field}`, problem);
  }

  checkWindows({ index, spec: { bridge } }: ListedFunction): void {
    if (bridge === null) return;
    const place = `functions[${index}].bridge`;
    if (bridge.memory !== null) {
      this.#checkWindow(`${place}.memory`, bridge.memory);
      if (bridge.memory.limit >= LIMIT_32) {
        this.#refuse32(`${place}.memory.limit`, 'this window', bridge.memory.limit + 1);
      }
    }
    if (bridge.prefetch !== null) this.#checkWindow(`${place}.prefetch`, bridge.prefetch);
  }

  #checkWindow(place: string, { base, limit }: WindowSpec): void {
    if (base % WINDOW_GRAIN !== 0) this.#refuseMultiple(`${place}.base`, WINDOW_GRAIN, base);
    const expected = `expected the last byte of a window that starts at ${formatAddress(base)}`;
    if (limit < base || (limit + 1) % WINDOW_GRAIN !== 0) {
      const got = `and ends before a multiple of 0x100000, got ${formatAddress(limit)}`;
      this.#refuse(`${place}.limit`, `${expected} ${got}`);
    }
  }

  /** RAM and memory BARs share the CPU's map. Nobody models I/O ports, so they may overlap. */
  checkApart(): void {
    this.#ranges.sort((one, other) => one.start - other.start);
    let before: Range | null = null;
    for (const range of this.#ranges) {
      if (before !== null && range.start < before.end) this.#refuseOverlap(before, range);
      before = range;
    }
  }

  #refuseOverlap(one: Range, other: Range): never {
    const [kept, blamed] = one.order < other.order ? [one, other] : [other, one];
    const at = `${formatAddress(kept.start)} to ${formatAddress(kept.end - 1)}`;
    const problem = `${formatAddress(blamed.start)} overlaps ${kept.owner}, at ${at}`;
    this.#refuse(`${blamed.owner}.address`, problem);
  }

  #refuseMultiple(place: string, unit: number, value: number): never {
    const expected = `expected a multiple of ${formatAddress(unit)}`;
    this.#refuse(place, `${expected}, got ${formatAddress(value)}`);
  }

  #refuse32(place: string, what: string, end: number): never {
    const problem = `expected bus addresses below 2^32 for ${what}, got an end of `;
    this.#refuse(place, problem + formatAddress(end));
  }
}

function show(value: number): string {
  return value < 0 ? `-${formatAddress(-value)}` : formatAddress(value);
}
