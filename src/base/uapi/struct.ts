/**
 * The C structs that user space and the kernel hand each other, as bytes: little-endian, each field
 * at the next multiple of its alignment, as compilers for x86-64 and arm64 lay them out.
 *
 * @source reference/linux-dma-buf.md G.1
 */

import { assert } from '../assert.ts';

/** How a value of one type stands in memory. */
export interface FieldType<T> {
  /** Bytes. */
  readonly size: number;
  readonly align: number;
  /** What zero bytes say. */
  readonly zero: T;
  /** Writes `value` at byte `at`, where zeros are. */
  put(view: DataView, at: number, value: T): void;
  get(view: DataView, at: number): T;
}

/** An unsigned byte. */
export const u8: FieldType<number> = {
  size: 1,
  align: 1,
  zero: 0,
  put: (view, at, value) => view.setUint8(at, inBits(value, 8)),
  get: (view, at) => view.getUint8(at),
};

/** 16 bits, unsigned. */
export const u16: FieldType<number> = {
  size: 2,
  align: 2,
  zero: 0,
  put: (view, at, value) => view.setUint16(at, inBits(value, 16), true),
  get: (view, at) => view.getUint16(at, true),
};

/** 32 bits, unsigned. A negative number is taken as C converts it. */
export const u32: FieldType<number> = {
  size: 4,
  align: 4,
  zero: 0,
  put: (view, at, value) => view.setUint32(at, inBits(value, 32), true),
  get: (view, at) => view.getUint32(at, true),
};

/** 32 bits, signed: file descriptors, error numbers. */
export const s32: FieldType<number> = {
  size: 4,
  align: 4,
  zero: 0,
  put: (view, at, value) => view.setInt32(at, inBits(value, 32), true),
  get: (view, at) => view.getInt32(at, true),
};

/** 64 bits, unsigned; also pointers and lengths. A negative number is taken as C converts it. */
export const u64: FieldType<bigint> = {
  size: 8,
  align: 8,
  zero: 0n,
  put(view, at, value) {
    assert(value >= -(2n ** 63n) && value < 2n ** 64n, `${value} has 64 bits`);
    view.setBigUint64(at, BigInt.asUintN(64, value), true);
  },
  get: (view, at) => view.getBigUint64(at, true),
};

/** `char[size]`: text up to the first NUL, a byte for each character. Longer text loses its end. */
export function chars(size: number): FieldType<string> {
  return {
    size,
    align: 1,
    zero: '',
    put(view, at, value) {
      for (let i = 0; i < Math.min(value.length, size); i += 1) {
        view.setUint8(at + i, inBits(value.charCodeAt(i), 8));
      }
    },
    get(view, at) {
      let text = '';
      for (let i = 0; i < size && view.getUint8(at + i) !== 0; i += 1) {
        text += String.fromCharCode(view.getUint8(at + i));
      }
      return text;
    },
  };
}

/** `item[count]`. What is missing of a shorter list is zero. */
export function arrayOf<T>(item: FieldType<T>, count: number): FieldType<readonly T[]> {
  return {
    size: item.size * count,
    align: item.align,
    zero: new Array<T>(count).fill(item.zero),
    put(view, at, values) {
      assert(values.length <= count, `at most ${count} items, not ${values.length}`);
      for (const [i, value] of values.entries()) item.put(view, at + i * item.size, value);
    },
    get: (view, at) => Array.from({ length: count }, (_, i) => item.get(view, at + i * item.size)),
  };
}

/** For each name, how its value stands in memory. */
export type FieldsOf<V extends object> = { readonly [K in keyof V]-?: FieldType<V[K]> };

/**
 * A C union. Read, each member says what it makes of the bytes; written, one member is enough, and
 * several must agree on the bytes that they share.
 */
export function union<V extends object>(members: FieldsOf<V>): FieldType<Partial<V>> {
  const all = Object.entries(members) as [string, FieldType<unknown>][];
  const align = Math.max(...all.map(([, member]) => member.align));
  const widest = Math.max(...all.map(([, member]) => member.size));
  const size = Math.ceil(widest / align) * align;
  return {
    size,
    align,
    zero: {},
    put(view, at, values) {
      const given = all
        .filter(([name]) => name in values)
        .sort(([, one], [, other]) => other.size - one.size);
      for (const [i, [name, member]] of given.entries()) {
        const bytes = new Uint8Array(member.size);
        member.put(new DataView(bytes.buffer), 0, values[name as keyof V]);
        for (const [offset, byte] of bytes.entries()) {
          const agrees = i === 0 || view.getUint8(at + offset) === byte;
          assert(agrees, `the members of a union agree, also ${name}`);
          view.setUint8(at + offset, byte);
        }
      }
    },
    get: (view, at) =>
      Object.fromEntries(all.map(([name, member]) => [name, member.get(view, at)])) as Partial<V>,
  };
}

/** The layout of a struct, and the way from its values to bytes and back. */
export class Struct<V extends object> implements FieldType<V> {
  /** Bytes, with the padding at its end. */
  readonly size: number;
  readonly align: number;
  readonly zero: V;
  /** Where each field begins. */
  readonly offsets: { readonly [K in keyof V]: number };
  private readonly fields: readonly [keyof V & string, FieldType<unknown>, number][];

  /** @param isPacked - No padding anywhere: `__attribute__((packed))`. */
  constructor(fields: FieldsOf<V>, isPacked = false) {
    const placed: [keyof V & string, FieldType<unknown>, number][] = [];
    let at = 0;
    let widest = 1;
    for (const [name, type] of Object.entries(fields) as [keyof V & string, FieldType<unknown>][]) {
      const align = isPacked ? 1 : type.align;
      at = Math.ceil(at / align) * align;
      placed.push([name, type, at]);
      at += type.size;
      widest = Math.max(widest, align);
    }
    this.fields = placed;
    this.align = widest;
    this.size = Math.ceil(at / widest) * widest;
    const named = <T>(of: (type: FieldType<unknown>, offset: number) => T): unknown =>
      Object.fromEntries(placed.map(([name, type, offset]) => [name, of(type, offset)]));
    this.offsets = named((_, offset) => offset) as { readonly [K in keyof V]: number };
    this.zero = named((type) => type.zero) as V;
  }

  /** The bytes of a struct; fields that are not named are zero, as in a C initialiser. */
  encode(values: Partial<V>): Uint8Array {
    const bytes = new Uint8Array(this.size);
    this.put(new DataView(bytes.buffer), 0, { ...this.zero, ...values });
    return bytes;
  }

  /** What the first bytes say; there are {@link size} of them, or more. */
  decode(bytes: Uint8Array): V {
    assert(bytes.length >= this.size, `${this.size} bytes, not ${bytes.length}`);
    return this.get(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0);
  }

  put(view: DataView, at: number, values: V): void {
    for (const [name, type, offset] of this.fields) {
      type.put(view, at + offset, values[name] ?? type.zero);
    }
  }

  get(view: DataView, at: number): V {
    const values = this.fields.map(([name, type, offset]) => [name, type.get(view, at + offset)]);
    return Object.fromEntries(values) as V;
  }
}

/** Lays a struct out: its fields in order, each at its natural alignment. */
export function struct<V extends object>(fields: FieldsOf<V>): Struct<V> {
  return new Struct(fields);
}

/** As {@link struct}, without padding. */
export function packedStruct<V extends object>(fields: FieldsOf<V>): Struct<V> {
  return new Struct(fields, true);
}

/** Pieces of memory one after the other: a header, then its items. */
export function joinBytes(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** A whole number that fits, signed or unsigned. */
function inBits(value: number, bits: number): number {
  const fits = Number.isInteger(value) && value >= -(2 ** (bits - 1)) && value < 2 ** bits;
  assert(fits, `${value} has ${bits} bits`);
  return value;
}
