/** Goal: kinds of captures are told by content. Method: the beginning of each kind. */

import { describe, expect, test } from 'vitest';
import { detectFormat } from '../../src/doctor/index.ts';

function kindOf(text: string): string {
  return detectFormat(Buffer.from(text, 'latin1'));
}

/** The header of a tar entry in the oldest form: name, numbers, sum. */
function tarHeader(): Buffer {
  const header = Buffer.alloc(1024);
  header.write('sys/', 0, 'latin1');
  header.write('        ', 148, 'latin1');
  const sum = header.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

describe('detectFormat', () => {
  test.each([
    ['machine-spec', '{"schema": "peerbuf.machine/1"}'],
    ['machine-spec', '\xef\xbb\xbf \n { }'],
    ['lspci', '00:00.0 Host bridge: Example'],
    ['lspci', '$ lspci -vvv\n\n0000:00:00.0 Host bridge: Example\n'],
    ['lspci', '10000:00:1f.7 0604: 8086:1234\r\n'],
    ['gzip', '\x1f\x8b\x08'],
    ['bzip2', 'BZh91AY'],
    ['nccl-xml', '<system version="1">'],
    ['nccl-xml', '<?xml version="1.0"?>\n<!-- a <topology> -->\n <system version="2"/>'],
    ['hwloc-xml', '<?xml version="1.0"?><!DOCTYPE topology SYSTEM "x"><topology version="2.0">'],
    ['unknown', '<graphs version="1">'],
    ['unknown', '<!-- no end'],
    ['unknown', '<'],
    ['unknown', ''],
    ['unknown', '00:20.0 no such device'],
    ['unknown', '-[0000:00]-+-00.0  Host bridge'],
    ['unknown', '[]'],
  ])('says %s of %j', (kind, text) => {
    expect(kindOf(text)).toBe(kind);
  });

  test('tells a tar archive by the sum in its header', () => {
    const header = tarHeader();
    expect(detectFormat(header)).toBe('tar');
    header[0] = 0;
    expect(detectFormat(header)).toBe('unknown');
  });

  test('ends with any number of comments', () => {
    expect(kindOf('<!--'.repeat(20_000))).toBe('unknown');
    expect(kindOf(`${'<!---->'.repeat(5000)}<system>`)).toBe('nccl-xml');
  });
});
