/**
 * Peer memory as the simulated kernel knows it: one provider per memory BAR, and the cached verdict
 * for every client that asked.
 *
 * @source drivers/pci/p2pdma.c, v7.2; reference/linux-dma-buf.md C.5, D.1, D.5
 */

import { type BusAddr, busAddr, type PhysAddr } from '../../base/index.ts';
import {
  type Access,
  Cell,
  type Device,
  type Look,
  NOW,
  type PciFunction,
  type PciNode,
  PreemptStep,
  wholeCell,
} from '../../machine/index.ts';
import { type P2pFacts, type P2pRoute, p2pRoute } from './p2pdma.ts';

/** `struct p2pdma_provider`: who owns a BAR's memory, and how its bus addresses come about. */
export interface P2pProvider {
  readonly owner: PciFunction;
  readonly bar: number;
  /** Bus address of the BAR minus its CPU physical address. */
  readonly busOffset: number;
}

/** The address that goes on the bus for a physical address of the provider. */
export function pciP2pdmaBusAddrMap(provider: P2pProvider, phys: PhysAddr): BusAddr {
  return busAddr(phys + provider.busOffset);
}

/**
 * The peer-to-peer state of one function (`struct pci_p2pdma`). The value caches verdicts by
 * client.
 */
export class P2pdma extends Cell<ReadonlyMap<PciNode, P2pRoute>> {
  readonly owner: PciFunction;
  private readonly providers = new Map<number, P2pProvider>();

  /** `pcim_p2pdma_init()`: a provider for each memory BAR. */
  constructor(owner: PciFunction) {
    super(owner.machine.scheduler, `p2pdma of ${owner.name}`, new Map());
    this.owner = owner;
    for (const { spec, base } of owner.node.memoryBars) {
      const busOffset = base - spec.address;
      this.providers.set(spec.index, { owner, bar: spec.index, busOffset });
    }
  }

  /**
   * The provider of a BAR; null if it is not memory.
   *
   * @context Any; takes no lock.
   * @source `pcim_p2pdma_provider()`
   */
  provider(bar: number): P2pProvider | null {
    return this.providers.get(bar) ?? null;
  }

  /**
   * A step: the route from `client` to this function's memory, from the cache if it was asked for
   * before. ACS that changes later does not change a cached verdict, as in Linux.
   *
   * @returns Null if the client is not on PCI: never supported.
   * @context Any; takes no lock.
   * @source `pci_p2pdma_map_type()`
   */
  mapType(client: Device): PreemptStep<P2pRoute | null> {
    return new MapType(this, client);
  }
}

class MapType extends PreemptStep<P2pRoute | null> {
  readonly cell: P2pdma;
  private readonly client: Device;

  constructor(cell: P2pdma, client: Device) {
    super();
    this.cell = cell;
    this.client = client;
  }

  get verb(): string {
    return 'map type';
  }

  override accesses(look: Look): readonly Access[] {
    const client = this.client.pci?.node;
    if (client === undefined || look(this.cell).has(client)) return [wholeCell(this.cell, 'R')];
    const touched: Access[] = [wholeCell(this.cell, 'W')];
    p2pRoute(this.cell.owner.node, client, factsOf(this.cell.owner, look, touched));
    return touched;
  }

  apply(): P2pRoute | null {
    const { cell } = this;
    const client = this.client.pci?.node;
    if (client === undefined) return null;
    const known = cell.value.get(client);
    if (known !== undefined) return known;
    const route = p2pRoute(cell.owner.node, client, factsOf(cell.owner, NOW, null));
    cell.value = new Map([...cell.value, [client, route]]);
    return route;
  }
}

/** The running machine's facts: ACS control registers as they are at the moment looked at. */
function factsOf({ machine }: PciFunction, look: Look, touched: Access[] | null): P2pFacts {
  return {
    cpu: machine.spec.cpu,
    acsControl: (node) => {
      const fn = machine.functionOf(node);
      if (fn === null) {
        const { acs } = node.spec;
        return acs === null || acs === 'unknown' ? acs : acs.control;
      }
      touched?.push(wholeCell(fn.acsControl as Cell, 'R'));
      return look(fn.acsControl);
    },
  };
}
