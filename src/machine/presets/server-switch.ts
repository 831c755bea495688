/**
 * The machine on which peer-to-peer works as it should: everything below one switch, no redirect.
 */

import type { MachineSpec } from '../spec/machine-spec.ts';
import { broadwellServer } from './broadwell-server.ts';

/**
 * GPU, RDMA card and two drives below one switch. ACS is off on its ports, as
 * `pci=config_acs=0000000@…` leaves them; `disable_acs_redir` would leave SV and UF on, which do
 * not redirect either.
 */
export const SERVER_SWITCH: MachineSpec = broadwellServer(
  'server-switch',
  'Intel server: GPU, RDMA card and two drives below one switch without ACS redirect',
  0x00,
);
