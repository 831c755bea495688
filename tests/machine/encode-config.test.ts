/**
 * Goal: encoding is the inverse of decoding. Method: random functions, with and without evidence.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesOfHex, hexOfBytes, wordAt } from '../../src/machine/pci/config-bytes.ts';
import { decodeConfig } from '../../src/machine/pci/config-space.ts';
import { encodeConfig } from '../../src/machine/pci/encode-config.ts';
import { hasLink } from '../../src/machine/pci/pcie-type.ts';
import type { FunctionSpec, LinkSpec } from '../../src/machine/spec/machine-spec.ts';
import { FUNCTION } from './function-arbitrary.ts';

/** The link that registers can tell: a width that is not known reads as none. */
function readableLink({ link, type }: FunctionSpec): LinkSpec | null {
  if (link === null || !hasLink(type)) return null;
  const { speed, maxSpeed } = link;
  const readable = { speed, width: link.width ?? 0, maxSpeed, maxWidth: link.maxWidth ?? 0 };
  return Object.values(readable).some((value) => value) ? readable : null;
}

/** What decoding must give back of a function. */
function factsOf(spec: FunctionSpec): object {
  const isSeen = (bar: FunctionSpec['bars'][number]): boolean =>
    bar.address !== 0 || bar.kind === 'io' || bar.is64 || bar.prefetchable;
  const { vendor, device, subsystemVendor, subsystemDevice, classCode, revision, command } = spec;
  return {
    ...{ vendor, device, subsystemVendor, subsystemDevice, classCode, revision, command },
    type: spec.type,
    bars: spec.bars.filter(isSeen).map(({ size: _, ...register }) => register),
    bridge: spec.bridge && { primary: 5, ...spec.bridge },
    acs: spec.type === 'conventional' || spec.acs === 'unknown' ? null : spec.acs,
    link: readableLink(spec),
    problems: [],
  };
}

describe('encoding', () => {
  test('is undone by decoding', () => {
    fc.assert(
      fc.property(FUNCTION, (spec) => {
        const bytes = encodeConfig(spec);
        expect(bytes).toHaveLength(spec.type === 'conventional' ? 256 : 4096);
        expect(decodeConfig(bytes)).toMatchObject(factsOf(spec));
      }),
      { numRuns: 2000 },
    );
  });

  test('writes over evidence of another function what the spec says, and keeps the rest', () => {
    fc.assert(
      fc.property(FUNCTION, FUNCTION, fc.constantFrom(64, 256, 4096), (spec, other, size) => {
        const evidence = new Uint8Array(size);
        evidence.set(encodeConfig(other).subarray(0, size));
        evidence[0x3c] = 0xab;
        const bytes = encodeConfig({ ...spec, config: hexOfBytes(evidence) });
        const isKept = (spec.bridge === null) === (other.bridge === null);
        expect(bytes[0x3c]).toBe(isKept ? 0xab : 0);
        const { acs, link, ...rest } = factsOf({ ...spec, acs: null, link: null }) as FunctionSpec;
        const facts = decodeConfig(bytes);
        expect(facts).toMatchObject(rest);
        if (spec.acs !== 'unknown')
          expect(facts.acs).toEqual(spec.type === 'conventional' ? null : spec.acs);
        const { speed = null, maxSpeed = null } = (hasLink(spec.type) && spec.link) || {};
        if (speed !== null) expect(facts.link?.speed).toBe(speed);
        if (maxSpeed !== null) expect(facts.link?.maxSpeed).toBe(maxSpeed);
      }),
      { numRuns: 2000 },
    );
  });

  test('takes any evidence', () => {
    const evidence = fc
      .constantFrom(64, 256, 4096)
      .chain((size) => fc.uint8Array({ minLength: size, maxLength: size }));
    fc.assert(
      fc.property(FUNCTION, evidence, (spec, bytes) => {
        const facts = decodeConfig(encodeConfig({ ...spec, config: hexOfBytes(bytes) }));
        expect(facts).toMatchObject({ vendor: spec.vendor, type: spec.type });
      }),
    );
  });

  test('replaces an extended space that repeats the first 256 bytes', () => {
    const [spec] = fc.sample(FUNCTION, { numRuns: 1, seed: 1 });
    const acs = { capability: 0x1f, control: 0x1d };
    // Ids that read as the header of a capability, with the next one at 0x140.
    const ids = { vendor: 0x0001, device: 0x1400 };
    const fn = { ...spec, ...ids, type: 'endpoint', bridge: null, bars: [], acs } as FunctionSpec;
    const evidence = encodeConfig(fn);
    for (let at = 256; at < 4096; at += 256) evidence.set(evidence.subarray(0, 256), at);
    expect(decodeConfig(evidence).acs).toBeNull();
    const bytes = encodeConfig({ ...fn, config: hexOfBytes(evidence) });
    expect(decodeConfig(bytes)).toMatchObject({ acs, problems: [] });
  });

  test('writes bus addresses', () => {
    const [spec] = fc.sample(FUNCTION, { numRuns: 1, seed: 1 });
    const bar = { index: 0, kind: 'memory', size: 4096, prefetchable: false, is64: false } as const;
    const fn = { ...spec, bars: [{ ...bar, address: 0x600000000 }] } as FunctionSpec;
    const [register] = decodeConfig(encodeConfig(fn, 0xc0000000 - 0x600000000)).bars;
    expect(register?.address).toBe(0xc0000000);
  });

  test('shows of a virtual function what hardware shows', () => {
    fc.assert(
      fc.property(FUNCTION, (spec) => {
        if (spec.bridge !== null) return;
        const bytes = encodeConfig({ ...spec, command: 0x7, physicalFunction: '0000:04:00.0' });
        expect(decodeConfig(bytes)).toMatchObject({ vendor: 0xffff, device: 0xffff, bars: [] });
        expect(wordAt(bytes, 0x04)).toBe(0x4);
      }),
      { numRuns: 50 },
    );
  });

  test('writes an egress vector of zeros for a port that can control egress', () => {
    const [spec] = fc.sample(FUNCTION, { numRuns: 1, seed: 1 });
    const port = { ...spec, type: 'endpoint', bridge: null, acs: { capability: 0x20, control: 0 } };
    const facts = decodeConfig(encodeConfig(port as FunctionSpec));
    expect(facts.egressVector).toEqual(Uint8Array.of(0));
  });
});

test("bytes and their hexadecimal form are each other's inverse", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      expect(bytesOfHex(hexOfBytes(bytes))).toEqual(bytes);
    }),
  );
});
