/**
 * The machine on which a kernel parameter makes the difference: `server-switch` as Linux boots it.
 */

import type { MachineSpec } from '../spec/machine-spec.ts';
import { broadwellServer } from './broadwell-server.ts';

/**
 * GPU, RDMA card and two drives below one switch whose ports redirect to a root complex that is on
 * nobody's list: Linux refuses every pair.
 */
export const SERVER_SWITCH_ACS: MachineSpec = broadwellServer(
  'server-switch-acs',
  'Intel server: GPU, RDMA card and two drives below one switch that redirects to an unlisted root',
  null,
);
