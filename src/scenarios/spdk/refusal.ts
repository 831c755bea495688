/**
 * What a story does where the kernel says no: it must say no exactly where its rule does, with the
 * errno that Linux has for it, and with a reason that helps.
 */

import type { DmaBufError } from '../../base/index.ts';
import type { P2pAdvice, P2pRoute } from '../../framework/index.ts';
import { WrongResult } from '../../machine/index.ts';

/** True if Linux lets the card reach the drive on this machine. */
export function isReachable({ mapType }: P2pRoute): boolean {
  return mapType === 'bus-address' || mapType === 'through-host-bridge';
}

/**
 * Checks a refusal and puts it into a line.
 *
 * @throws {@link WrongResult} the pair is reachable, or the refusal is not Linux's.
 */
export function concludeRefusal(route: P2pRoute, error: DmaBufError): string {
  if (isReachable(route)) throw new WrongResult(`refused, though reachable: ${error.message}`);
  if (error.code !== 'EINVAL' || error.reason !== 'no-peer-to-peer-route') {
    throw new WrongResult(`refused in another way than Linux does: ${error.message}`);
  }
  const { why, advice } = error.detail as { why?: string; advice?: readonly P2pAdvice[] };
  if (why === undefined || advice === undefined || advice.length === 0) {
    throw new WrongResult('refused without a reason that helps');
  }
  const help = advice.map(({ text }) => text).join('; or ');
  return `refused with ${error.code}: ${why}. What would help: ${help}.`;
}
