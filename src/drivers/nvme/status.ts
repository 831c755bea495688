/**
 * How a command ended: the status codes that the modelled controller uses.
 *
 * @context Any: everything here is pure.
 * @source NVM Express Base Specification 1.4, section 4.6.1
 */

/** Status code type and status code, by name. */
export const STATUS = {
  success: { type: 0x0, code: 0x00 },
  'invalid-opcode': { type: 0x0, code: 0x01 },
  'invalid-field': { type: 0x0, code: 0x02 },
  'data-transfer-error': { type: 0x0, code: 0x04 },
  'invalid-namespace': { type: 0x0, code: 0x0b },
  'invalid-use-of-cmb': { type: 0x0, code: 0x12 },
  'prp-offset-invalid': { type: 0x0, code: 0x13 },
  'lba-out-of-range': { type: 0x0, code: 0x80 },
  'completion-queue-invalid': { type: 0x1, code: 0x00 },
  'invalid-queue-identifier': { type: 0x1, code: 0x01 },
  'invalid-queue-size': { type: 0x1, code: 0x02 },
  'invalid-interrupt-vector': { type: 0x1, code: 0x08 },
  'invalid-queue-deletion': { type: 0x1, code: 0x0c },
} as const;

/** The name of a status code. */
export type StatusName = keyof typeof STATUS;

const NAMES: readonly StatusName[] = Object.keys(STATUS) as StatusName[];

/** The name of a status code; null for one that this controller does not use. */
export function statusName(type: number, code: number): StatusName | null {
  return NAMES.find((name) => STATUS[name].type === type && STATUS[name].code === code) ?? null;
}

/** True if the same command would fail again: the Do Not Retry bit. A transfer that found no memory
 *  may find it the next time. */
export function isFinal(status: StatusName): boolean {
  return status !== 'success' && status !== 'data-transfer-error';
}
