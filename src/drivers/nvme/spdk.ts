/**
 * A driver for NVMe controllers in user space, as small as SPDK's is large: it brings a controller
 * up, makes queue pairs, opens the controller memory buffer.
 *
 * @source SPDK lib/nvme/nvme_ctrlr.c, lib/nvme/nvme_pcie.c; NVM Express Base Specification 1.4,
 *   7.6.1
 */

import { assert, DmaBufError, present } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import {
  type CommandCompletion,
  createIoCompletionQueue,
  createIoSubmissionQueue,
  deleteIoCompletionQueue,
  deleteIoSubmissionQueue,
  type NvmeCommand,
} from './commands.ts';
import type { ControllerAccess, QueueMemory } from './controller-access.ts';
import { QueuePair, type QueuePairLayout } from './queue-pair.ts';
import {
  CAP_HIGH_CMBS,
  CC_EN,
  CC_ENTRY_SIZES,
  CMBMSC_CMSE,
  CMBMSC_CRE,
  CMBSTS_CBAI,
  type CmbPlace,
  CSTS_CFS,
  decodeCmbPlace,
  encodeAqa,
  REGISTER,
  readyTimeoutNs,
} from './registers.ts';

/** Nanoseconds between two looks at a register that shall change. */
const POLL_NS = 10_000_000;

/** Where everything goes. */
export interface DriverLayout {
  /** Queue pair 0; its interrupt is vector 0. */
  readonly admin: Omit<QueuePairLayout, 'vector'>;
  /** Queue pair 1. */
  readonly io: QueuePairLayout;
  /** Opens the controller memory buffer at this device address first; null: leaves it shut. Page
   *  aligned, and no address of what the controller shall reach by DMA. */
  readonly cmbBase: number | null;
}

/** One controller, driven. It belongs to one task at a time, but for its I/O queue pairs. */
export class NvmeDriver {
  private readonly access: ControllerAccess;
  private adminPair: QueuePair | null = null;
  /** Where the buffer is; null until it was opened. */
  private cmbPlace: CmbPlace | null = null;
  private lastCid = 0;

  constructor(access: ControllerAccess) {
    this.access = access;
  }

  /** The admin queue pair; it exists once {@link initialise} was called. */
  get admin(): QueuePair {
    assert(this.adminPair !== null, 'the controller was initialised');
    return this.adminPair;
  }

  /** Where the controller memory buffer is; null until it was opened. */
  get cmb(): CmbPlace | null {
    return this.cmbPlace;
  }

  /**
   * Brings the controller up from any state and makes I/O queue pair 1.
   *
   * @throws {@link DmaBufError} `EIO` the controller cannot work so and reports a fatal status;
   *   else as {@link disable}, {@link openCmb}, {@link createQueuePair}.
   * @context May sleep.
   * @source NVMe 1.4, 7.6.1; `nvme_ctrlr_process_init()`
   */
  *initialise(layout: DriverLayout): Task<QueuePair> {
    const { admin, io, cmbBase } = layout;
    yield* this.disable();
    if (cmbBase !== null) yield* this.openCmb(cmbBase);
    this.adminPair = new QueuePair(this.access, 0, { ...admin, vector: 0 });
    yield* this.adminPair.clear();
    yield* this.write(REGISTER.aqa, encodeAqa(admin.entries, admin.entries));
    yield* this.write(REGISTER.asq, admin.submission.deviceAddress, 8);
    yield* this.write(REGISTER.acq, admin.completion.deviceAddress, 8);
    yield* this.write(REGISTER.cc, CC_ENTRY_SIZES | CC_EN);
    const csts = yield* this.until(REGISTER.csts, (now) => now !== 0);
    if ((csts & CSTS_CFS) !== 0) {
      throw new DmaBufError('EIO', 'initialise', 'nvme-fatal-status', { detail: { csts } });
    }
    return yield* this.createQueuePair(1, io);
  }

  /**
   * Disables the controller: it forgets its queues.
   *
   * @throws {@link DmaBufError} `ENODEV` registers read all ones; `ETIMEDOUT` CSTS.RDY did not
   *   follow CC.EN in the time that CAP.TO gives.
   * @context May sleep.
   * @source `nvme_ctrlr_process_init()`: a controller that is becoming ready must get there first
   */
  *disable(): Task {
    const cc = yield* this.read(REGISTER.cc);
    if ((cc & CC_EN) !== 0) yield* this.until(REGISTER.csts, (csts) => csts !== 0);
    yield* this.write(REGISTER.cc, 0);
    yield* this.until(REGISTER.csts, (csts) => csts === 0);
  }

  /**
   * Opens the controller memory buffer: from now on the controller takes the addresses from `base`
   * on for it.
   *
   * @returns Where the host finds it.
   * @throws {@link DmaBufError} `EOPNOTSUPP` the controller has none; `EINVAL` it does not accept
   *   the base; `ETIMEDOUT` it does not show where the buffer is.
   * @context May sleep.
   * @source `nvme_pcie_ctrlr_map_cmb()`; NVMe 1.4, 3.1.16
   */
  *openCmb(base: number): Task<CmbPlace> {
    const capHigh = yield* this.read(REGISTER.cap + 4);
    if ((capHigh & CAP_HIGH_CMBS) === 0) {
      throw new DmaBufError('EOPNOTSUPP', 'openCmb', 'nvme-without-cmb');
    }
    // Shut first: what is shown afterwards is of the new base.
    yield* this.write(REGISTER.cmbmsc, 0, 8);
    yield* this.until(REGISTER.cmbsz, (cmbsz) => cmbsz === 0);
    yield* this.write(REGISTER.cmbmsc, base + CMBMSC_CRE + CMBMSC_CMSE, 8);
    const cmbsz = yield* this.until(REGISTER.cmbsz, (now) => now !== 0);
    const cmbsts = yield* this.read(REGISTER.cmbsts);
    if ((cmbsts & CMBSTS_CBAI) !== 0) {
      throw new DmaBufError('EINVAL', 'openCmb', 'nvme-cmb-base-invalid', { detail: { base } });
    }
    const place = present(decodeCmbPlace(yield* this.read(REGISTER.cmbloc), cmbsz), 'a size');
    this.cmbPlace = place;
    return place;
  }

  /**
   * Memory for a queue in the buffer. It can be used once the buffer is open.
   *
   * @param base - As given to {@link openCmb}.
   * @param offset - In the buffer; a multiple of the page size.
   * @context Any; takes no step.
   */
  cmbMemory(base: number, offset: number): QueueMemory {
    return new CmbMemory(this, this.access, base, offset);
  }

  /**
   * Makes an I/O queue pair: queue `id` of both kinds.
   *
   * @param id - 1 upwards.
   * @throws {@link DmaBufError} `EIO` the controller refused.
   * @context May sleep.
   * @source `nvme_pcie_ctrlr_create_io_qpair()`
   */
  *createQueuePair(id: number, layout: QueuePairLayout): Task<QueuePair> {
    const { entries, submission, completion, vector } = layout;
    const pair = new QueuePair(this.access, id, layout);
    yield* pair.clear();
    const cq = { qid: id, entries, address: completion.deviceAddress, vector };
    yield* this.succeed(createIoCompletionQueue({ cid: this.nextCid(), ...cq }));
    const sq = { qid: id, entries, address: submission.deviceAddress, completionQueue: id };
    const command = createIoSubmissionQueue({ cid: this.nextCid(), ...sq });
    const completed = yield* this.submitAdmin(command);
    if (completed.status === 'success') return pair;
    yield* this.succeed(deleteIoCompletionQueue({ cid: this.nextCid(), qid: id }));
    throw refused(command, completed);
  }

  /**
   * Deletes an I/O queue pair.
   *
   * @throws {@link DmaBufError} `EIO` the controller refused.
   * @context May sleep.
   * @source `nvme_pcie_ctrlr_delete_io_qpair()`
   */
  *deleteQueuePair({ id }: QueuePair): Task {
    yield* this.succeed(deleteIoSubmissionQueue({ cid: this.nextCid(), qid: id }));
    yield* this.succeed(deleteIoCompletionQueue({ cid: this.nextCid(), qid: id }));
  }

  /**
   * Executes an admin command.
   *
   * @returns Its completion, whatever the status.
   * @context May sleep; one at a time.
   */
  *submitAdmin(command: NvmeCommand): Task<CommandCompletion> {
    return yield* this.admin.execute(command);
  }

  /** A command identifier that the last 65535 did not have. @context Any; takes no step. */
  nextCid(): number {
    this.lastCid = (this.lastCid + 1) % 0x1_0000;
    return this.lastCid;
  }

  /** Executes an admin command that must succeed. */
  private *succeed(command: NvmeCommand): Task {
    const completed = yield* this.submitAdmin(command);
    if (completed.status !== 'success') throw refused(command, completed);
  }

  /** Looks at a register until it is as it shall be, for as long as CAP.TO gives the controller. */
  private *until(offset: number, condition: (value: number) => boolean): Task<number> {
    const limitNs = readyTimeoutNs(yield* this.read(REGISTER.cap));
    for (let waitedNs = 0; waitedNs <= limitNs; waitedNs += POLL_NS) {
      const value = yield* this.read(offset);
      if (condition(value)) return value;
      yield* this.access.sleep(POLL_NS);
    }
    throw new DmaBufError('ETIMEDOUT', 'until', 'nvme-not-ready', { detail: { offset } });
  }

  /** All ones is what nobody's answer looks like; no register here can hold it. */
  private *read(offset: number): Task<number> {
    const value = yield* this.access.readRegister(0, offset, 4);
    if (value !== 0xffff_ffff) return value;
    throw new DmaBufError('ENODEV', 'readRegister', 'nvme-controller-gone', { detail: { offset } });
  }

  private *write(offset: number, value: number, length: 4 | 8 = 4): Task {
    yield* this.access.writeRegister(0, offset, value, length);
  }
}

/** Finds the buffer when it is used: the driver learns where it is only when it opens it. */
class CmbMemory implements QueueMemory {
  readonly deviceAddress: number;
  private readonly driver: NvmeDriver;
  private readonly access: ControllerAccess;
  private readonly offset: number;

  constructor(driver: NvmeDriver, access: ControllerAccess, base: number, offset: number) {
    this.deviceAddress = base + offset;
    this.driver = driver;
    this.access = access;
    this.offset = offset;
  }

  *read(offset: number, length: number): Task<Uint8Array> {
    const { bar, offset: start } = present(this.driver.cmb, 'an open buffer');
    return yield* this.access.readMemory(bar, start + this.offset + offset, length);
  }

  *write(offset: number, bytes: Uint8Array): Task {
    const { bar, offset: start } = present(this.driver.cmb, 'an open buffer');
    yield* this.access.writeMemory(bar, start + this.offset + offset, bytes);
  }
}

function refused(command: NvmeCommand, completed: CommandCompletion): DmaBufError {
  const { status, statusType, statusCode } = completed;
  const detail = { opcode: command.opcode, status, statusType, statusCode };
  return new DmaBufError('EIO', 'submitAdmin', 'nvme-admin-command-failed', { detail });
}
