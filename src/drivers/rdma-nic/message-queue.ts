/**
 * Messages that arrived and that no program has taken yet: a receive queue that never runs out of
 * buffers.
 *
 * @source `struct ib_srq`, include/rdma/ib_verbs.h, v7.2
 */

import { Fifo } from '../../machine/index.ts';

/** A receive queue. */
export class MessageQueue extends Fifo<Uint8Array> {}
