/**
 * What the stories of SPDK have in common: who is in them, who starts what, and how they end where
 * Linux sees no route between the drive and the card.
 */

import { type DmaBufError, isDmaBufError } from '../../base/index.ts';
import type { P2pRoute } from '../../framework/index.ts';
import { type Task, WrongResult } from '../../machine/index.ts';
import type { Ending, Stage } from '../scenario.ts';
import { SpdkInitiator } from './initiator.ts';
import type { Hello } from './messages.ts';
import { concludeRefusal, isReachable } from './refusal.ts';
import { SpdkTarget } from './target.ts';

/** SPDK with its drive, a card, and a peer beyond the wire. */
export abstract class SpdkStory implements Ending {
  protected readonly stage: Stage;
  protected readonly target: SpdkTarget;
  protected readonly initiator: SpdkInitiator;
  private refusal: DmaBufError | null = null;

  constructor(stage: Stage) {
    this.stage = stage;
    this.target = new SpdkTarget(stage);
    this.initiator = new SpdkInitiator(this.target.peer);
    stage.scheduler.spawn(this.spdk(), { name: 'spdk', role: 'user' });
    stage.scheduler.spawn(this.remote(), { name: 'remote', role: 'remote' });
  }

  conclude(): string {
    const route = this.stage.routeBetween('nvme-drive', 'network-card');
    this.target.checkNothingLeft();
    if (this.refusal !== null) return concludeRefusal(route, this.refusal);
    if (!isReachable(route)) throw new WrongResult('not refused, though Linux sees no route');
    return this.result(route);
  }

  /** What SPDK does while its memory is lent. */
  protected abstract whileLent(): Task;

  /** What the peer does with the memory it may use. */
  protected abstract visit(hello: Hello): Task;

  /**
   * What came out, in a line.
   *
   * @throws {@link WrongResult} it is not as it must be.
   */
  protected abstract result(route: P2pRoute): string;

  private *spdk(): Task {
    const { target } = this;
    yield* target.open();
    try {
      yield* target.lend();
      yield* this.whileLent();
    } catch (error) {
      if (!isDmaBufError(error)) throw error;
      this.refusal = error;
    }
    yield* target.exit();
  }

  private *remote(): Task {
    const hello = yield* this.initiator.greet();
    if (hello !== null) yield* this.visit(hello);
  }
}
