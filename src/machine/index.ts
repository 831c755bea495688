/** `peerbuf/machine`: the hardware. Tasks and the scheduler, locks, memory, PCI, IOMMU, presets. */

export { Actor, ActorIds } from './actor.ts';
export { CACHE_LINE_SIZE } from './cache.ts';
export { type AccessClass, Cell, type CellNumbers, commute } from './cell.ts';
export { Cpu } from './cpu.ts';
export {
  type CoherentPool,
  type Device,
  DMA_MASK_DEFAULT,
  type DmaLimits,
  MAX_SEGMENT_SIZE_DEFAULT,
  PlatformDevice,
} from './device.ts';
export { DmaEngine, type DmaReadResult } from './dma.ts';
export {
  findMapping,
  IommuDomain,
  type IovaMapping,
  type IovaRights,
  type PhysRange,
} from './iommu.ts';
export { HoldIova, LinkIova, ReleaseIova, TranslateIova, UnlinkIova } from './iova-block.ts';
export { Machine, MachinePlan } from './machine.ts';
export { MmioMapping } from './mmio-mapping.ts';
export {
  type BlockedActor,
  type Finding,
  type FindingKind,
  isWrongResult,
  type Outcome,
  type RunStatus,
  WrongResult,
} from './outcome.ts';
export {
  type BarRegion,
  DeviceMemory,
  Register,
  RegisterRegion,
  untilRegisters,
} from './pci/bar-region.ts';
export type { BarRegister } from './pci/bar-registers.ts';
export { type Bdf, compareBdf, formatBdf, parseBdf } from './pci/bdf.ts';
export type { BridgeRegisters } from './pci/bridge-registers.ts';
export type { Capability } from './pci/capabilities.ts';
export { bytesOfHex, hexOfBytes } from './pci/config-bytes.ts';
export {
  type ConfigFacts,
  decodeConfig,
  type HeaderKind,
  type ResizableBar,
  type SrIovFacts,
} from './pci/config-space.ts';
export { encodeConfig } from './pci/encode-config.ts';
export { Fabric, type Landing, type MemoryRequest } from './pci/fabric.ts';
export {
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  type DeviceModel,
  type InterruptHandler,
  PciFunction,
  type PlacedRegion,
  type RegionPlace,
} from './pci/function.ts';
export { bridgeRule } from './pci/pcie-type.ts';
export { type BusBar, HostBridge, PciNode, PciTree } from './pci/tree.ts';
export { MemoryBank, PhysicalMemory } from './physical-memory.ts';
export { type FabricOptions, GENERATED_ENDPOINTS_MAX, generateFabric } from './presets/generate.ts';
export { findPreset, PRESETS } from './presets/index.ts';
export {
  Scheduler,
  type SchedulerOptions,
  type SpawnOptions,
  STEPS_MAX_DEFAULT,
} from './scheduler.ts';
export type {
  AcsSpec,
  BarSpec,
  BridgeSpec,
  CpuSpec,
  FunctionSpec,
  HostBridgeSpec,
  IommuMode,
  LinkSpec,
  MachineSpec,
  MemorySpec,
  PciType,
  PeerForwarding,
  WindowSpec,
} from './spec/machine-spec.ts';
export { MACHINE_SCHEMA } from './spec/machine-spec.ts';
export {
  FUNCTIONS_MAX,
  HOST_BRIDGES_MAX,
  parseMachineSpec,
  readMachineSpec,
} from './spec/read-machine-spec.ts';
export { machineSpecToJson } from './spec/write-machine-spec.ts';
export { type SlotAllocation, SlotPool } from './slot-pool.ts';
export type { Strategy } from './strategy.ts';
export { Allocation } from './sync/allocation.ts';
export { Completion } from './sync/completion.ts';
export { Fifo } from './sync/fifo.ts';
export { Mutex } from './sync/mutex.ts';
export { RefCount } from './sync/ref-count.ts';
export { RwSemaphore } from './sync/rw-semaphore.ts';
export { Shared } from './sync/shared.ts';
export { Slab } from './sync/slab.ts';
export { type AcquireContext, WwClass, WwMutex, type WwResult } from './sync/ww-mutex.ts';
export {
  type Access,
  type Atomic,
  type Look,
  NOW,
  type Preempt,
  PreemptStep,
  type Sleep,
  SleepStep,
  Step,
  type Task,
  wholeCell,
} from './task.ts';
export { changeCell, lookAtCell } from './cell-step.ts';
export { describeLanding, type FaultEvent } from './transfer.ts';
export { layWire, type Packet, WirePort } from './wire.ts';
