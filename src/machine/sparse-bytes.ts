/**
 * A range of bytes of any size that takes memory only where it was written. Unwritten bytes are 0.
 */

/** LIMIT: memory comes in pieces of this size, so that touching one page is cheap. */
const CHUNK_SIZE = 16 * 1024;

/** LIMIT: chunks that one large write may get in one piece, so that it is one copy. */
const CHUNKS_TOGETHER_MAX = 64;

/** Memory that was written: some chunks in a row. */
interface Extent {
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** Real bytes. */
export class SparseBytes {
  /** Bytes in all. */
  readonly size: number;
  /** The extent of each chunk that has one, by the chunk's first byte. */
  private readonly extents = new Map<number, Extent>();

  constructor(size: number) {
    this.size = size;
  }

  /** Copies the bytes at `offset` into `into`. The caller keeps within the size. */
  read(offset: number, into: Uint8Array): void {
    let done = 0;
    while (done < into.length) {
      const at = offset + done;
      const extent = this.extents.get(at - (at % CHUNK_SIZE));
      if (extent === undefined) {
        const length = Math.min(CHUNK_SIZE - (at % CHUNK_SIZE), into.length - done);
        into.fill(0, done, done + length);
        done += length;
      } else {
        const { start, bytes } = extent;
        const length = Math.min(start + bytes.length - at, into.length - done);
        into.set(bytes.subarray(at - start, at - start + length), done);
        done += length;
      }
    }
  }

  /** Copies `bytes` to `offset`. */
  write(offset: number, bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      const at = offset + done;
      const extent = this.extentAt(at - (at % CHUNK_SIZE), offset + bytes.length);
      const length = Math.min(extent.start + extent.bytes.length - at, bytes.length - done);
      const whole = length === bytes.length;
      extent.bytes.set(whole ? bytes : bytes.subarray(done, done + length), at - extent.start);
      done += length;
    }
  }

  /** Makes a range 0 again. What was never written takes no memory afterwards, either. */
  zero(offset: number, length: number): void {
    const end = offset + length;
    for (let at = offset; at < end;) {
      const next = Math.min(at - (at % CHUNK_SIZE) + CHUNK_SIZE, end);
      const extent = this.extents.get(at - (at % CHUNK_SIZE));
      extent?.bytes.fill(0, at - extent.start, next - extent.start);
      at = next;
    }
  }

  /** Forgets everything: all bytes are 0 again. */
  clear(): void {
    this.extents.clear();
  }

  /**
   * The extent of a chunk; made, and as long as the write up to `end` can use, if there is none.
   */
  private extentAt(start: number, end: number): Extent {
    const known = this.extents.get(start);
    if (known !== undefined) return known;
    let count = 1;
    while (
      count < CHUNKS_TOGETHER_MAX &&
      start + count * CHUNK_SIZE < end &&
      !this.extents.has(start + count * CHUNK_SIZE)
    ) {
      count += 1;
    }
    const made = { start, bytes: new Uint8Array(count * CHUNK_SIZE) };
    for (let i = 0; i < count; i += 1) this.extents.set(start + i * CHUNK_SIZE, made);
    return made;
  }
}
