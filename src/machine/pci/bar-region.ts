/**
 * What is inside a BAR: plain memory, or registers. A device model puts regions together; CPU
 * accesses and other devices' requests land in them.
 */

import { assert } from '../../base/index.ts';
import { type AccessClass, Cell } from '../cell.ts';
import type { Scheduler } from '../scheduler.ts';
import { SparseBytes } from '../sparse-bytes.ts';
import { type Access, type Look, PreemptStep, SleepStep, wholeCell } from '../task.ts';

/** A part of a BAR. Offsets count from the start of the region. */
export interface BarRegion {
  /** Bytes. */
  readonly size: number;
  /** What an access to these bytes touches. */
  accesses(offset: number, length: number, accessClass: AccessClass): readonly Access[];
  /** Reads. False: the device does not answer such an access (an unsupported request). */
  read(offset: number, into: Uint8Array): boolean;
  /** Writes. False as for {@link read}; nothing is written then. */
  write(offset: number, bytes: Uint8Array): boolean;
}

/** Memory on a device: video memory, a controller memory buffer. */
export class DeviceMemory extends Cell<null> implements BarRegion {
  readonly size: number;
  private readonly bytes: SparseBytes;

  constructor(scheduler: Scheduler, name: string, size: number) {
    super(scheduler, name, null);
    this.size = size;
    this.bytes = new SparseBytes(size);
  }

  accesses(offset: number, length: number, accessClass: AccessClass): readonly Access[] {
    return [{ cell: this, class: accessClass, from: offset, to: offset + length }];
  }

  read(offset: number, into: Uint8Array): boolean {
    this.bytes.read(offset, into);
    return true;
  }

  write(offset: number, bytes: Uint8Array): boolean {
    this.bytes.write(offset, bytes);
    return true;
  }

  /** All bytes become 0, as after power-on. */
  clear(): void {
    this.bytes.clear();
  }

  /** A step by the device itself, which reaches its own memory without the bus. */
  load(offset: number, length: number): PreemptStep<Uint8Array> {
    return new Load(this, offset, length);
  }

  /** A step by the device itself. */
  store(offset: number, bytes: Uint8Array): PreemptStep<void> {
    return new Store(this, offset, bytes);
  }
}

/** A 32-bit register. Its value is what it holds; the device's engine waits for it to change. */
export class Register extends Cell<number> {
  /** What it holds after a reset. */
  readonly initial: number;
  /** Writes from outside are ignored. */
  readonly readOnly: boolean;

  constructor(scheduler: Scheduler, name: string, initial = 0, readOnly = false) {
    super(scheduler, name, initial);
    this.initial = initial;
    this.readOnly = readOnly;
  }

  /** A step of the device that sets the register. */
  set(value: number): PreemptStep<void> {
    return new SetRegister(this, value);
  }

  /** A step of the device that reads the register. */
  get(): PreemptStep<number> {
    return new GetRegister(this);
  }
}

/**
 * A step of a device's engine that waits until `condition`, a function of these registers, holds.
 */
export function untilRegisters(
  registers: readonly Register[],
  condition: (values: readonly number[]) => boolean,
): SleepStep<readonly number[]> {
  return new UntilRegisters(registers, condition);
}

/**
 * A file of 32-bit registers. Accesses are whole aligned words; any other is not answered. Words
 * without a register read 0 and ignore writes.
 */
export class RegisterRegion implements BarRegion {
  readonly size: number;
  private readonly registers: ReadonlyMap<number, Register>;

  constructor(size: number, registers: ReadonlyMap<number, Register>) {
    for (const offset of registers.keys()) {
      assert(offset % 4 === 0 && offset < size, `a register is a word of the region: ${offset}`);
    }
    this.size = size;
    this.registers = registers;
  }

  accesses(offset: number, length: number, accessClass: AccessClass): readonly Access[] {
    const touched: Access[] = [];
    for (let at = offset - (offset % 4); at < offset + length; at += 4) {
      const register = this.registers.get(at);
      if (register !== undefined) touched.push(wholeCell(register, accessClass));
    }
    return touched;
  }

  read(offset: number, into: Uint8Array): boolean {
    if (offset % 4 !== 0 || into.length % 4 !== 0) return false;
    const view = new DataView(into.buffer, into.byteOffset, into.length);
    for (let at = 0; at < into.length; at += 4) {
      view.setUint32(at, this.registers.get(offset + at)?.value ?? 0, true);
    }
    return true;
  }

  write(offset: number, bytes: Uint8Array): boolean {
    if (offset % 4 !== 0 || bytes.length % 4 !== 0) return false;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += 4) {
      const register = this.registers.get(offset + at);
      if (register !== undefined && !register.readOnly) register.value = view.getUint32(at, true);
    }
    return true;
  }
}

class Load extends PreemptStep<Uint8Array> {
  readonly cell: DeviceMemory;
  private readonly offset: number;
  private readonly length: number;

  constructor(cell: DeviceMemory, offset: number, length: number) {
    super();
    this.cell = cell;
    this.offset = offset;
    this.length = length;
  }

  get verb(): string {
    return 'load';
  }

  override accesses(): readonly Access[] {
    return this.cell.accesses(this.offset, this.length, 'R');
  }

  apply(): Uint8Array {
    const bytes = new Uint8Array(this.length);
    this.cell.read(this.offset, bytes);
    return bytes;
  }
}

class Store extends PreemptStep<void> {
  readonly cell: DeviceMemory;
  private readonly offset: number;
  private readonly bytes: Uint8Array;

  constructor(cell: DeviceMemory, offset: number, bytes: Uint8Array) {
    super();
    this.cell = cell;
    this.offset = offset;
    this.bytes = bytes;
  }

  get verb(): string {
    return 'store';
  }

  override accesses(): readonly Access[] {
    return this.cell.accesses(this.offset, this.bytes.length, 'W');
  }

  apply(): void {
    this.cell.write(this.offset, this.bytes);
  }
}

class SetRegister extends PreemptStep<void> {
  readonly cell: Register;
  private readonly next_: number;

  constructor(cell: Register, value: number) {
    super();
    this.cell = cell;
    this.next_ = value;
  }

  get verb(): string {
    return 'set';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'W')];
  }

  apply(): void {
    this.cell.value = this.next_;
  }
}

class GetRegister extends PreemptStep<number> {
  readonly cell: Register;

  constructor(cell: Register) {
    super();
    this.cell = cell;
  }

  get verb(): string {
    return 'get';
  }

  override accesses(): readonly Access[] {
    return [wholeCell(this.cell, 'R')];
  }

  apply(): number {
    return this.cell.value;
  }
}

class UntilRegisters extends SleepStep<readonly number[]> {
  readonly cell: Register;
  private readonly registers: readonly Register[];
  private readonly condition: (values: readonly number[]) => boolean;

  constructor(registers: readonly Register[], condition: (values: readonly number[]) => boolean) {
    super();
    assert(registers.length > 0, 'an engine waits for at least one register');
    this.cell = registers[0] as Register;
    this.registers = registers;
    this.condition = condition;
  }

  get verb(): string {
    return 'wait for registers';
  }

  override guard(look: Look): boolean {
    return this.condition(this.registers.map((register) => look(register)));
  }

  override accesses(): readonly Access[] {
    return this.registers.map((register) => wholeCell(register, 'R'));
  }

  apply(): readonly number[] {
    return this.registers.map((register) => register.value);
  }
}
