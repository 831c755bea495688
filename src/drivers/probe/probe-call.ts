/** What the probe's calls have in common. */

import type { Task } from '../../machine/index.ts';
import type { ProbeCaller } from './probe-caller.ts';
import type { ProbeFile } from './probe-file.ts';

/** What one call does. */
export type ProbeCall = (file: ProbeFile, caller: ProbeCaller) => Task;
