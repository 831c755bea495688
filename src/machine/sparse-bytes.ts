/**
 * A range of bytes of any size that takes memory only where it was written. Unwritten bytes are 0.
 */

/** LIMIT: small enough that touching one page is cheap, large enough that copying a megabyte is. */
const CHUNK_SIZE = 16 * 1024;

/** Real bytes. */
export class SparseBytes {
  /** Bytes in all. */
  readonly size: number;
  private readonly chunks = new Map<number, Uint8Array>();

  constructor(size: number) {
    this.size = size;
  }

  /** Copies the bytes at `offset` into `into`. The caller keeps within the size. */
  read(offset: number, into: Uint8Array): void {
    let done = 0;
    while (done < into.length) {
      const at = offset + done;
      const inside = at % CHUNK_SIZE;
      const length = Math.min(CHUNK_SIZE - inside, into.length - done);
      const chunk = this.chunks.get(at - inside);
      if (chunk === undefined) into.fill(0, done, done + length);
      else into.set(chunk.subarray(inside, inside + length), done);
      done += length;
    }
  }

  /** Copies `bytes` to `offset`. */
  write(offset: number, bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      const at = offset + done;
      const inside = at % CHUNK_SIZE;
      const length = Math.min(CHUNK_SIZE - inside, bytes.length - done);
      const whole = done === 0 && length === bytes.length;
      this.chunkAt(at - inside).set(whole ? bytes : bytes.subarray(done, done + length), inside);
      done += length;
    }
  }

  /** Forgets everything: all bytes are 0 again. */
  clear(): void {
    this.chunks.clear();
  }

  private chunkAt(start: number): Uint8Array {
    const known = this.chunks.get(start);
    if (known !== undefined) return known;
    const made = new Uint8Array(CHUNK_SIZE);
    this.chunks.set(start, made);
    return made;
  }
}
