/**
 * How a mapping is to be made, beyond what and for whom.
 *
 * @source `DMA_ATTR_*`, include/linux/dma-mapping.h, v7.2; reference/linux-dma-buf.md C.2
 */

/**
 * The `DMA_ATTR_*` that change anything here. None says what kind of memory it is: that belongs to
 * the allocation (thread S002).
 */
export interface DmaAttrs {
  /** `DMA_ATTR_SKIP_CPU_SYNC`: the caller has cleaned the caches, or does so before the device. */
  readonly skipCpuSync?: boolean;
  /** `DMA_ATTR_REQUIRE_COHERENT`: rather fail than need cache maintenance. */
  readonly requireCoherent?: boolean;
}
