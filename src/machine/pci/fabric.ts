/**
 * How a memory request finds its way: hop by hop, by address, as hardware routes it. A switch port
 * sends a request for a sibling straight across unless its ACS control redirects it; what reaches
 * the root complex is translated by the IOMMU and goes to RAM, to another port, or nowhere.
 *
 * This is the hardware. What the kernel *believes* about a route is `framework/p2pdma`; where the
 * two disagree, bytes go astray here.
 *
 * DIFFERS: a port with ACS egress control and no request redirect refuses every peer request, as if
 * all bits of its egress vector were set; the vector itself is not modelled. Bridges forward
 * whatever their command register says.
 *
 * @source PCI Express Base Specification 6.12 as told in reference/p2p-topology.md 1.3, 1.6
 */

import type { Cell } from '../cell.ts';
import { findMapping, type IommuDomain, isHeld } from '../iommu.ts';
import type { MemoryBank } from '../physical-memory.ts';
import { type Access, type Look, wholeCell } from '../task.ts';
import { COMMAND_BUS_MASTER, COMMAND_MEMORY, type PciFunction } from './function.ts';
import type { HostBridge, PciNode, PciTree } from './tree.ts';

/** ACS control: peer requests go up to the root complex. */
const ACS_REQUEST_REDIRECT = 0x04;
/** ACS control: requests that were redirected further down go up, too. */
const ACS_UPSTREAM_FORWARDING = 0x10;
/** ACS control: a vector says which siblings may be reached. */
const ACS_EGRESS_CONTROL = 0x20;

/** Where the first byte of a request arrives, and how many of the following arrive there, too. */
export type Landing =
  | {
      readonly kind: 'ram';
      readonly bank: MemoryBank;
      readonly phys: number;
      readonly length: number;
    }
  | {
      readonly kind: 'bar';
      readonly node: PciNode;
      readonly bar: number;
      readonly offset: number;
      readonly length: number;
    }
  | {
      readonly kind: 'fault';
      /** The function, port or unit that refused. */
      readonly at: string;
      readonly why: string;
      readonly iommu: boolean;
    };

/** A request on its way. */
export interface MemoryRequest {
  readonly requester: PciFunction;
  /** The address that the requester sends. */
  readonly address: number;
  readonly write: boolean;
}

/** Notes of a walk, for those who want to know more than where it ends. */
export interface WalkNotes {
  /** The ports passed. */
  readonly route: string[] | null;
  /** The cells that decided the way. */
  readonly touched: Access[] | null;
}

/** What the fabric needs from the machine. */
export interface FabricWorld {
  readonly tree: PciTree;
  /** The running function, if somebody made one; null: it is as its spec says. */
  functionOf(node: PciNode): PciFunction | null;
  bankAt(phys: number): MemoryBank | null;
}

/** The routes of one machine. */
export class Fabric {
  private readonly world: FabricWorld;

  constructor(world: FabricWorld) {
    this.world = world;
  }

  /** Where a device's request arrives. A pure function of the cells' values. */
  resolve(request: MemoryRequest, look: Look, notes: WalkNotes): Landing {
    return new Walk(this.world, request.write, look, notes).fromDevice(request);
  }

  /** Where a CPU's access to a physical address arrives. RAM is not looked for here. */
  resolveMmio(phys: number, write: boolean, look: Look, notes: WalkNotes): Landing {
    return new Walk(this.world, write, look, notes).fromCpu(phys);
  }
}

/** One request under way. */
class Walk {
  private readonly world: FabricWorld;
  private readonly write: boolean;
  private readonly look: Look;
  private readonly notes: WalkNotes;

  constructor(world: FabricWorld, write: boolean, look: Look, notes: WalkNotes) {
    this.world = world;
    this.write = write;
    this.look = look;
    this.notes = notes;
  }

  fromDevice({ requester, address }: MemoryRequest): Landing {
    const command = this.see(requester.command);
    if ((command & COMMAND_BUS_MASTER) === 0) {
      return this.fault(requester.name, 'bus mastering is off');
    }
    const beside = this.acrossTheDevice(requester, address);
    if (beside !== null) return this.enter(beside, address);
    return this.climb(requester, address);
  }

  fromCpu(phys: number): Landing {
    const bridge = this.hostBridgeOf(phys);
    if (bridge === null) return this.fault('root-complex', 'no device answers at this address');
    return this.descend(bridge.children, phys + bridge.spec.busOffset, bridge.name);
  }

  /** A sibling on the same device or conventional bus that is reached without leaving it. */
  private acrossTheDevice(requester: PciFunction, address: number): PciNode | null {
    const { node } = requester;
    const control = this.see(requester.acsControl) ?? 0;
    if ((control & (ACS_REQUEST_REDIRECT | ACS_EGRESS_CONTROL)) !== 0) return null;
    const conventional = node.upstream?.spec.type === 'pcie-to-pci-bridge';
    for (const other of (node.upstream ?? node.hostBridge).children) {
      if (other === node || other.isBridge || other.barAt(address) === null) continue;
      if (conventional || sameDevice(node, other)) return other;
    }
    return null;
  }

  /** Upwards from a function, port by port. */
  private climb(requester: PciFunction, address: number): Landing {
    for (let port = requester.node.upstream; port !== null; port = port.upstream) {
      this.pass(port.address);
      if (port.spec.type === 'upstream-port') continue;
      const control = this.acsControl(port);
      const redirects = (control & ACS_REQUEST_REDIRECT) !== 0;
      if (inWindow(port, address)) {
        if (redirects || (control & ACS_UPSTREAM_FORWARDING) !== 0) continue;
        return this.descend(port.children, address, port.address);
      }
      const sibling = port.spec.type === 'downstream-port' ? siblingFor(port, address) : null;
      if (sibling === null || redirects) continue;
      // The kernel counts redirection at the common upstream port as well; so does this switch.
      const above = port.upstream;
      if (above !== null && (this.acsControl(above) & ACS_REQUEST_REDIRECT) !== 0) continue;
      if ((control & ACS_EGRESS_CONTROL) !== 0) {
        return this.fault(port.address, 'ACS egress control forbids the way to its sibling');
      }
      return this.enter(sibling, address);
    }
    return this.rootComplex(requester, address);
  }

  private rootComplex(requester: PciFunction, address: number): Landing {
    this.pass('root-complex');
    const from = requester.node.hostBridge;
    const domain = this.see(requester.domain);
    if (domain !== null) return this.translated(from, domain, address);
    const ram = this.ramAt(address - from.spec.dmaOffset);
    if (ram !== null) return ram;
    return this.toPeer(from, address - from.spec.busOffset);
  }

  private translated(from: HostBridge, domain: IommuDomain, address: number): Landing {
    this.pass('iommu');
    const mapping = findMapping(this.see(domain), address);
    const at = domain.name;
    if (mapping === null || isHeld(mapping))
      return this.fault(at, 'nothing is mapped at this address', true);
    if (this.write ? !mapping.writable : !mapping.readable) {
      return this.fault(at, `mapped without the right to ${this.write ? 'write' : 'read'}`, true);
    }
    const phys = mapping.phys + (address - mapping.iova);
    const landing = this.ramAt(phys) ?? this.toPeer(from, phys);
    if (landing.kind === 'fault') return landing;
    const mapped = mapping.size - (address - mapping.iova);
    return { ...landing, length: Math.min(landing.length, mapped) };
  }

  private ramAt(phys: number): Landing | null {
    const bank = this.world.bankAt(phys);
    if (bank === null) return null;
    const { start, size } = bank.spec;
    return { kind: 'ram', bank, phys, length: start + size - phys };
  }

  /** From the root complex down again to another device, if this hardware does that. */
  private toPeer(from: HostBridge, phys: number): Landing {
    const to = this.hostBridgeOf(phys);
    if (to === null) return this.fault('root-complex', 'neither RAM nor a device at this address');
    const { peerForwarding } = from.spec;
    const forwards = peerForwarding === 'all' || (peerForwarding !== 'none' && to === from);
    if (!forwards)
      return this.fault('root-complex', 'it does not forward requests between devices');
    return this.descend(to.children, phys + to.spec.busOffset, to.name);
  }

  /** The host bridge below which something answers at a physical address. */
  private hostBridgeOf(phys: number): HostBridge | null {
    for (const bridge of this.world.tree.hostBridges) {
      const address = phys + bridge.spec.busOffset;
      for (const child of bridge.children) {
        if (child.isBridge ? inWindow(child, address) : child.barAt(address) !== null)
          return bridge;
      }
    }
    return null;
  }

  /** Downwards to the function that has the address. */
  private descend(children: readonly PciNode[], address: number, above: string): Landing {
    for (const child of children) {
      if (child.barAt(address) !== null || (child.isBridge && inWindow(child, address))) {
        return this.enter(child, address);
      }
    }
    return this.fault(above, 'no device below answers at this address');
  }

  private enter(node: PciNode, address: number): Landing {
    const bar = node.barAt(address);
    if (bar === null) {
      this.pass(node.address);
      return this.descend(node.children, address, node.address);
    }
    const fn = this.world.functionOf(node);
    const command = fn === null ? node.spec.command : this.see(fn.command);
    if ((command & COMMAND_MEMORY) === 0) {
      return this.fault(node.address, 'memory decoding is off: unsupported request');
    }
    const offset = address - bar.base;
    return { kind: 'bar', node, bar: bar.spec.index, offset, length: bar.spec.size - offset };
  }

  private acsControl(node: PciNode): number {
    const fn = this.world.functionOf(node);
    if (fn !== null) return this.see(fn.acsControl) ?? 0;
    const { acs } = node.spec;
    return acs === null || acs === 'unknown' ? 0 : acs.control;
  }

  private see<V>(cell: Cell<V>): V {
    this.notes.touched?.push(wholeCell(cell as Cell, 'R'));
    return this.look(cell);
  }

  private pass(port: string): void {
    this.notes.route?.push(port);
  }

  private fault(at: string, why: string, iommu = false): Landing {
    return { kind: 'fault', at, why, iommu };
  }
}

/**
 * True for two functions of one device. Below a port there is only one, whatever the numbers of its
 * functions: with ARI they go on beyond 7, and virtual functions may be on another bus.
 */
function sameDevice(one: PciNode, other: PciNode): boolean {
  const above = one.upstream?.spec.type;
  if (above === 'root-port' || above === 'downstream-port') return one.upstream === other.upstream;
  return one.bdf.bus === other.bdf.bus && one.bdf.device === other.bdf.device;
}

/** The port next to `port` whose window holds the address. */
function siblingFor(port: PciNode, address: number): PciNode | null {
  for (const other of port.upstream?.children ?? []) {
    if (other !== port && other.isBridge && inWindow(other, address)) return other;
  }
  return null;
}

function inWindow({ windows }: PciNode, address: number): boolean {
  for (const { base, limit } of windows) {
    if (address >= base && address <= limit) return true;
  }
  return false;
}
