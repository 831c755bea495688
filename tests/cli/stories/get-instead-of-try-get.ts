/** A user's story with a planted mistake: a reset takes references to buffers that may be dead. */

import { VfioPciDevice } from '../../../src/drivers/index.ts';
import type { DmaBuf } from '../../../src/framework/index.ts';
import type { Atomic } from '../../../src/machine/index.ts';
import { defineScenario, type Scenario } from '../../../src/scenarios/index.ts';
import { closeRacesReset } from '../../../src/scenarios/vfio-close-races-reset.ts';

class GetInsteadOfTryGet extends VfioPciDevice {
  protected override *takeReference(dmabuf: DmaBuf): Atomic<boolean> {
    yield* dmabuf.getDmaBuf();
    return true;
  }
}

const STORY: Scenario = closeRacesReset((kernel, fn) => new GetInsteadOfTryGet(kernel, fn), 2);

export default defineScenario({ ...STORY, id: 'get-instead-of-try-get' });
