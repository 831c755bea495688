/**
 * What exists: one machine as plain data. The doctor reads one off a real machine, the simulator
 * boots one, people write and edit them as JSON. `read-machine-spec.ts` says what a valid one is.
 *
 * In JSON, ids and addresses may be numbers or strings such as `"0x8086"`; here they are numbers.
 */

/** Version of the format; a change of meaning changes the number. */
export const MACHINE_SCHEMA = 'peerbuf.machine/1';

/** A whole machine. */
export interface MachineSpec {
  readonly schema: typeof MACHINE_SCHEMA;
  /** Short name in kebab-case. */
  readonly name: string;
  /** One line for people. */
  readonly title: string;
  /** Null if the source did not say. Decides the kernel's CPU rule for peer-to-peer. */
  readonly cpu: CpuSpec | null;
  /** True if CPU caches see what devices write, and devices what CPUs wrote. */
  readonly coherentDma: boolean;
  /** RAM, by ascending address. */
  readonly memory: readonly MemorySpec[];
  readonly iommu: IommuMode;
  readonly hostBridges: readonly HostBridgeSpec[];
  /** Every PCI function, by ascending address. */
  readonly functions: readonly FunctionSpec[];
  /**
   * What the reader of a real machine had to assume, one sentence each. Empty for a written
   * machine.
   */
  readonly notes: readonly string[];
}

/** The boot CPU. */
export interface CpuSpec {
  /** As Linux names it: `x86_64`, `arm64`. */
  readonly arch: string;
  /** `AuthenticAMD`, `GenuineIntel`, `ARM`. */
  readonly vendor: string;
  /**
   * The family as Linux shows it: base and extended added up (Zen 1 is 23). 0 where there is none.
   */
  readonly family: number;
  readonly model: number;
}

/** A range of RAM. */
export interface MemorySpec {
  /** NUMA node. */
  readonly node: number;
  /** CPU physical address of the first byte; page aligned. */
  readonly start: number;
  /** Bytes; a multiple of the page size. */
  readonly size: number;
}

/**
 * Whether device addresses are translated: `off`, no IOMMU driver; `passthrough`, there is one and
 * every device's domain is the identity; `translated`, every device has a domain of its own.
 */
export type IommuMode = 'off' | 'passthrough' | 'translated';

/**
 * Which requests of one device for another's memory the root complex delivers, as hardware. The
 * kernel does not ask the hardware; it has its own list (`framework/p2pdma`).
 */
export type PeerForwarding = 'none' | 'same-host-bridge' | 'all';

/** One root bus: what Linux calls a host bridge. */
export interface HostBridgeSpec {
  readonly domain: number;
  /** Number of the root bus. */
  readonly bus: number;
  /** NUMA node; null if unknown. */
  readonly node: number | null;
  /** What to add to a CPU physical address of a BAR to get its bus address; 0 on PCs. */
  readonly busOffset: number;
  /** What to add to a CPU physical address of RAM to get what a device must send; 0 on PCs. */
  readonly dmaOffset: number;
  readonly peerForwarding: PeerForwarding;
}

/** What a function is, by its PCI Express capability; `conventional` has none. */
export type PciType =
  | 'conventional'
  | 'endpoint'
  | 'legacy-endpoint'
  | 'root-port'
  | 'upstream-port'
  | 'downstream-port'
  | 'pcie-to-pci-bridge'
  | 'pci-to-pcie-bridge'
  | 'root-complex-endpoint'
  | 'root-complex-event-collector';

/** One PCI function. */
export interface FunctionSpec {
  /** `0000:41:00.0`; the domain may have more digits. */
  readonly address: string;
  /**
   * Address of the bridge above; null on a root bus. For a virtual function: as for its physical
   * one.
   */
  readonly parent: string | null;
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
  /** Class, subclass and programming interface: `0x010802` is an NVMe drive. */
  readonly classCode: number;
  readonly revision: number;
  readonly type: PciType;
  /** The command register: bit 1 memory decoding, bit 2 bus mastering. */
  readonly command: number;
  /** Base address registers that are in use, by index. */
  readonly bars: readonly BarSpec[];
  /** Null for anything but a bridge. */
  readonly bridge: BridgeSpec | null;
  /** Null: no such capability. `unknown`: the source could not see. */
  readonly acs: AcsSpec | null | 'unknown';
  /** Null: no link, or not seen. */
  readonly link: LinkSpec | null;
  /** NUMA node; null if unknown. */
  readonly node: number | null;
  /** IOMMU group; null if there is none. */
  readonly iommuGroup: number | null;
  /** The driver that owned it; null if none or unknown. */
  readonly driver: string | null;
  /** The physical function of a virtual one; else null. */
  readonly physicalFunction: string | null;
  /** Configuration space as read, in hex, 64, 256 or 4096 bytes; null if not seen. Evidence: where
   *  it and the fields above differ, the machine is as the fields say. */
  readonly config: string | null;
}

/** A base address register. */
export interface BarSpec {
  /** 0 to 5. */
  readonly index: number;
  readonly kind: 'memory' | 'io';
  /** CPU physical address; 0 if the firmware assigned none. */
  readonly address: number;
  /** Bytes; a power of two. */
  readonly size: number;
  readonly prefetchable: boolean;
  readonly is64: boolean;
}

/** The buses and addresses below a bridge. */
export interface BridgeSpec {
  /** Bus right below; 0 if the bridge is not configured. */
  readonly secondary: number;
  /** Highest bus below. */
  readonly subordinate: number;
  /** Memory that it passes downwards, in bus addresses. Null: closed, or not seen. */
  readonly memory: WindowSpec | null;
  /** Prefetchable memory that it passes downwards. Null: closed, or not seen. */
  readonly prefetch: WindowSpec | null;
}

/** A range of bus addresses. */
export interface WindowSpec {
  readonly base: number;
  /** The last byte. */
  readonly limit: number;
}

/** Access Control Services. Bits: SV 0x01, TB 0x02, RR 0x04, CR 0x08, UF 0x10, EC 0x20, DT 0x40. */
export interface AcsSpec {
  /** What it can do. */
  readonly capability: number;
  /** What is switched on. */
  readonly control: number;
}

/** A PCI Express link; speeds in GT/s per lane. Null: not known. A width of 0: no link. */
export interface LinkSpec {
  readonly speed: number | null;
  readonly width: number | null;
  readonly maxSpeed: number | null;
  readonly maxWidth: number | null;
}
