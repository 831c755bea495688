/** How an execution ended, and what it ran into on the way. */

/** What a run may find. */
export type FindingKind =
  | 'deadlock'
  | 'oops'
  | 'warn'
  | 'fault'
  | 'stale'
  | 'leak'
  | 'failure'
  | 'wrong-result'
  | 'step-limit';

/** Something that must not happen and did. */
export interface Finding {
  readonly kind: FindingKind;
  /** One line for people. */
  readonly title: string;
  /** The actor whose step showed it; `''` for the whole run. */
  readonly party: string;
  /** Steps taken before it showed. */
  readonly step: number;
}

/** An actor that waits at the end of a run. */
export interface BlockedActor {
  readonly actor: string;
  /** What it wants to do, and on what: `lock`, `vfio_pci.memory_lock`. */
  readonly verb: string;
  readonly cell: string;
  /** Locks it holds. */
  readonly holds: readonly string[];
  /** Who could let it go on, as far as known. */
  readonly waitsFor: readonly string[];
}

/** How a run ended. */
export type RunStatus = 'done' | 'deadlock' | 'oops' | 'step-limit';

/** The result of one execution. */
export interface Outcome {
  readonly status: RunStatus;
  /** Steps taken. */
  readonly steps: number;
  /** Virtual nanoseconds that passed. */
  readonly t: number;
  readonly findings: readonly Finding[];
  /** Actors that had not ended; daemons too. */
  readonly blocked: readonly BlockedActor[];
}

const MARK: symbol = Symbol.for('peerbuf.WrongResult');

/** Thrown by a story when something is not as it must be: wrong bytes, wrong errno. */
export class WrongResult extends Error {
  override readonly name = 'WrongResult';

  constructor(message: string) {
    super(message);
    Object.defineProperty(this, MARK, { value: true });
  }
}

/** True for a {@link WrongResult}, also of another copy of this package. */
export function isWrongResult(error: unknown): error is WrongResult {
  return typeof error === 'object' && error !== null && MARK in error;
}
