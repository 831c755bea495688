/**
 * The registers of one controller as cells, and the two pages of BAR0 that they are found in.
 * Writing one has no effect of its own: the engine looks at them and reacts, as firmware does.
 *
 * @source NVM Express Base Specification 1.4, section 3.1
 */

import {
  type Access,
  PreemptStep,
  Register,
  RegisterRegion,
  type Scheduler,
  wholeCell,
} from '../../machine/index.ts';
import {
  encodeCap,
  headDoorbell,
  IO_QUEUES_MAX,
  REGISTER,
  REGISTER_PAGE_SIZE,
  tailDoorbell,
  VERSION_1_4,
} from './registers.ts';

/** A 64-bit register: two cells, which one 64-bit access reads or writes together. */
export interface WideRegister {
  readonly low: Register;
  readonly high: Register;
}

/** All registers of a controller. */
export class RegisterFile {
  readonly cc: Register;
  readonly csts: Register;
  readonly aqa: Register;
  readonly asq: WideRegister;
  readonly acq: WideRegister;
  readonly cmbloc: Register;
  readonly cmbsz: Register;
  readonly cmbmsc: WideRegister;
  readonly cmbsts: Register;
  /** Doorbells by queue number; 0 is the admin queue. */
  readonly tails: readonly Register[];
  readonly heads: readonly Register[];
  /** Every register; a reset changes them all. */
  readonly all: readonly Register[];
  /** BAR0 from 0. */
  readonly page: RegisterRegion;
  /** BAR0 from 0x1000. */
  readonly doorbells: RegisterRegion;
  private readonly scheduler: Scheduler;
  private readonly owner: string;

  constructor(scheduler: Scheduler, owner: string, hasCmb: boolean) {
    this.scheduler = scheduler;
    this.owner = owner;
    const cap = encodeCap(hasCmb);
    const capabilities = {
      low: this.make('CAP low', cap.low, true),
      high: this.make('CAP high', cap.high, true),
    };
    const version = this.make('VS', VERSION_1_4, true);
    this.cc = this.make('CC');
    this.csts = this.make('CSTS', 0, true);
    this.aqa = this.make('AQA');
    this.asq = this.makeWide('ASQ');
    this.acq = this.makeWide('ACQ');
    this.cmbloc = this.make('CMBLOC', 0, true);
    this.cmbsz = this.make('CMBSZ', 0, true);
    this.cmbmsc = this.makeWide('CMBMSC');
    this.cmbsts = this.make('CMBSTS', 0, true);
    const queues = Array.from({ length: IO_QUEUES_MAX + 1 }, (_, queue) => queue);
    this.tails = queues.map((queue) => this.make(`SQ${queue} tail`));
    this.heads = queues.map((queue) => this.make(`CQ${queue} head`));
    const page = new Map<number, Register>([
      ...halves(REGISTER.cap, capabilities),
      [REGISTER.vs, version],
      [REGISTER.cc, this.cc],
      [REGISTER.csts, this.csts],
      [REGISTER.aqa, this.aqa],
      ...halves(REGISTER.asq, this.asq),
      ...halves(REGISTER.acq, this.acq),
      [REGISTER.cmbloc, this.cmbloc],
      [REGISTER.cmbsz, this.cmbsz],
      [REGISTER.cmbsts, this.cmbsts],
    ]);
    // Without a buffer the register is reserved: it reads 0 and ignores writes.
    if (hasCmb) for (const [at, half] of halves(REGISTER.cmbmsc, this.cmbmsc)) page.set(at, half);
    const doorbells = new Map<number, Register>();
    this.tails.forEach((tail, queue) => {
      doorbells.set(tailDoorbell(queue) - REGISTER_PAGE_SIZE, tail);
    });
    this.heads.forEach((head, queue) => {
      doorbells.set(headDoorbell(queue) - REGISTER_PAGE_SIZE, head);
    });
    this.page = new RegisterRegion(REGISTER_PAGE_SIZE, page);
    this.doorbells = new RegisterRegion(REGISTER_PAGE_SIZE, doorbells);
    this.all = [...page.values(), ...doorbells.values()];
  }

  /** Back to the values after power-on; inside a step that touches {@link all}. */
  reset(): void {
    for (const register of this.all) register.value = register.initial;
  }

  private make(name: string, initial = 0, readOnly = false): Register {
    return new Register(this.scheduler, `${this.owner} ${name}`, initial, readOnly);
  }

  private makeWide(name: string): WideRegister {
    return { low: this.make(`${name} low`), high: this.make(`${name} high`) };
  }
}

/** A step of the controller that sets several registers at one moment. */
export class SetRegisters extends PreemptStep<void> {
  readonly cell: Register;
  private readonly values: readonly RegisterValue[];

  constructor(first: RegisterValue, ...others: readonly RegisterValue[]) {
    super();
    this.cell = first[0];
    this.values = [first, ...others];
  }

  get verb(): string {
    return 'set registers';
  }

  override accesses(): readonly Access[] {
    return this.values.map(([register]) => wholeCell(register, 'W'));
  }

  apply(): void {
    for (const [register, value] of this.values) register.value = value;
  }
}

/** A register and what it shall hold. */
export type RegisterValue = readonly [Register, number];

function halves(offset: number, { low, high }: WideRegister): readonly [number, Register][] {
  return [
    [offset, low],
    [offset + 4, high],
  ];
}
