/**
 * Goal: whatever file people name, they get a valid machine or one line. Method: each kind of
 * capture, whole, cut short, packed twice, and garbage.
 */

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createGzip, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { Header, type HeaderData } from 'tar';
import { afterAll, describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/index.ts';
import type { TreeEntry } from '../../src/doctor/index.ts';
import { type CaptureOptions, readCapture } from '../../src/linux/index.ts';
import type { MachineSpec } from '../../src/machine/index.ts';
import { PRESETS } from '../../src/machine/presets/index.ts';
import { readMachineSpec } from '../../src/machine/spec/read-machine-spec.ts';
import { fixtureEntries, fixturePath, fixtureText } from '../doctor/fixture.ts';

const FOLDER = mkdtempSync(join(tmpdir(), 'peerbuf-'));
const ENTRIES = fixtureEntries('switch-with-virtual-functions');
const TAR = tarOf(ENTRIES);

afterAll(() => rmSync(FOLDER, { recursive: true }));

/** One entry of a tar: header and content, filled up to blocks. */
function block(data: HeaderData, content: Uint8Array = new Uint8Array()): Buffer {
  const header = new Header({ mode: 0o644, uid: 0, gid: 0, mtime: new Date(0), ...data });
  const head = Buffer.alloc(512);
  if (header.encode(head, 0)) throw new Error('the name is too long for a plain header');
  const rest = (512 - (content.length % 512)) % 512;
  return Buffer.concat([head, content, Buffer.alloc(rest)]);
}

function tarOf(entries: readonly TreeEntry[]): Buffer {
  const blocks = entries.map((entry) => {
    if (entry.kind === 'directory') return block({ path: entry.path, type: 'Directory', size: 0 });
    if (entry.kind === 'file') {
      const { path, bytes } = entry;
      return block({ path, type: 'File', size: bytes.length }, bytes);
    }
    const { path, target } = entry;
    return block({ path, type: 'SymbolicLink', linkpath: target, size: 0 });
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

let files = 0;

function fileOf(bytes: Uint8Array | string): string {
  files += 1;
  const path = join(FOLDER, `file-${files}`);
  writeFileSync(path, bytes);
  return path;
}

function directoryOf(entries: readonly TreeEntry[]): string {
  files += 1;
  const root = join(FOLDER, `directory-${files}`);
  for (const entry of entries) {
    const path = join(root, entry.path);
    mkdirSync(dirname(path), { recursive: true });
    if (entry.kind === 'file') writeFileSync(path, entry.bytes);
    else if (entry.kind === 'link') symlinkSync(entry.target, path);
    else mkdirSync(path, { recursive: true });
  }
  return root;
}

/** The machine without what comes of the file's name. */
async function read(path: string, options: CaptureOptions = {}): Promise<MachineSpec> {
  return readCapture(path, { name: 'box', ...options });
}

/** The one line with which `path` is refused. */
async function refusal(path: string, options: CaptureOptions = {}): Promise<string> {
  const error: unknown = await read(path, options).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(InputError);
  expect(String(error)).not.toMatch(/[\n\r]/);
  return String(error);
}

async function expectMachineOrLine(path: string): Promise<void> {
  try {
    const spec = await read(path);
    expect(readMachineSpec(spec, 'again')).toEqual(spec);
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    expect(String(error)).not.toMatch(/[\n\r]/);
  }
}

describe('one machine', () => {
  test('is the same from a directory, a tar and a packed tar', async () => {
    const directory = await read(directoryOf(ENTRIES));
    expect(directory.functions).toHaveLength(9);
    expect(await read(fileOf(TAR))).toEqual(directory);
    expect(await read(fileOf(gzipSync(TAR)))).toEqual(directory);
    const packed = ENTRIES.map((entry) => ({ ...entry, path: `./box/${entry.path}` }));
    expect(await read(fileOf(tarOf(packed)))).toEqual(directory);
    expect(await read(directoryOf(packed))).toEqual(directory);
  });

  test('is read from a listing, plain and packed', async () => {
    const plain = await readCapture(fixturePath('listing-as-root'));
    expect(plain.name).toBe('lspci');
    const packed = await read(fileOf(gzipSync(fixtureText('listing-as-root'))));
    expect(packed.functions).toEqual(plain.functions);
  });

  test('is read from JSON, plain and packed', async () => {
    for (const spec of PRESETS) {
      expect(await readCapture(fileOf(JSON.stringify(spec)))).toEqual(spec);
      expect(await readCapture(fileOf(gzipSync(JSON.stringify(spec))))).toEqual(spec);
    }
  });

  test('takes from the caller what the file lacks', async () => {
    const cpu = { arch: 'x86_64', vendor: 'AuthenticAMD', family: 25, model: 1 };
    const text = fixturePath('listing-as-root');
    expect(await read(text, { cpu, cmdline: 'iommu=pt' })).toMatchObject({
      name: 'box',
      cpu,
      iommu: 'passthrough',
    });
    const json = JSON.stringify({ ...PRESETS[0], cpu: null });
    expect((await read(fileOf(json), { cpu })).cpu).toEqual(cpu);
  });

  test('is read as the kind that the caller says', async () => {
    const odd = fileOf(`{ odd }\n${fixtureText('listing-as-root')}`);
    expect(await refusal(odd)).toMatch(/line 1/);
    expect((await read(odd, { format: 'lspci' })).functions).toHaveLength(7);
    expect(await refusal(odd, { format: 'tar' })).toMatch(/tar archive/);
    expect(await refusal(fileOf(''), { format: 'machine-spec' })).toMatch(/line 1 column 1/);
  });
});

describe('this machine', () => {
  test('is read, or has no PCI', async () => {
    await expectMachineOrLine('/');
  });
});

describe('a path', () => {
  test.each([
    ['none', 'expected a file or directory, found none'],
    ['file\n/x', 'expected a file or directory, found none'],
    ['\0', 'expected to be allowed to read it, found ERR_INVALID_ARG_VALUE'],
    ['', 'expected a copy of /sys'],
  ])('%j is refused', async (path, message) => {
    const full = path === '' ? directoryOf([{ kind: 'directory', path: 'x' }]) : join(FOLDER, path);
    expect(await refusal(full)).toContain(message);
  });

  test('of a device is refused', async () => {
    expect(await refusal('/dev/null')).toContain('expected a regular file or a directory');
  });
});

describe('a file', () => {
  test.each([
    ['', 'found nothing'],
    ['hello\nworld', "found 'hello?world'"],
    ['<topology version="2.0">', 'this version reads no hwloc-xml'],
    ['<system version="1">', 'this version reads no nccl-xml'],
    ['BZh91AY&SY', 'unpack it first, with bunzip2'],
    ['{', 'line 1 column 2'],
    ['{}', 'schema'],
    ['{"schema":"peerbuf.machine/1","name":"\xff"}', 'expected'],
    ['[1]', "found '[1]'"],
  ])('with %j is refused', async (text, message) => {
    expect(await refusal(fileOf(Buffer.from(text, 'latin1')))).toContain(message);
  });

  test('of 10 MB of garbage is refused', async () => {
    const garbage = Buffer.alloc(10_000_000);
    for (let at = 0; at < garbage.length; at += 1) garbage[at] = (at * 2654435761) >>> 13;
    expect(await refusal(fileOf(garbage))).toContain('expected a directory or tar archive');
    expect(await refusal(fileOf(garbage), { format: 'lspci' })).toContain('expected the output');
    expect(await refusal(fileOf(garbage), { format: 'tar' })).toContain('tar archive');
  });

  test('of random bytes of every kind is a machine or one line', async () => {
    const starts = ['', '{', '<', '\x1f\x8b\x08\0\0\0\0\0', '00:00.0 X: Y\n', 'BZh'];
    const bytes = fc
      .tuple(fc.constantFrom(...starts), fc.uint8Array({ maxLength: 600 }))
      .map(([start, rest]) => Buffer.concat([Buffer.from(start, 'latin1'), rest]));
    await fc.assert(
      fc.asyncProperty(bytes, (content) => expectMachineOrLine(fileOf(content))),
      { numRuns: 150 },
    );
  });
});

describe('a packed file', () => {
  const packed = gzipSync(TAR);

  test('cut anywhere is refused', async () => {
    for (const size of [2, 10, 18, packed.length >> 1, packed.length - 8, packed.length - 1]) {
      const line = await refusal(fileOf(packed.subarray(0, size)));
      expect(line).toContain('expected a whole and sound gzip');
    }
  });

  test('with a wrong byte is a machine or one line', async () => {
    const at = fc.nat(packed.length - 1);
    await fc.assert(
      fc.asyncProperty(at, fc.integer({ min: 1, max: 255 }), async (index, change) => {
        const copy = Buffer.from(packed);
        copy[index] = (copy[index] ?? 0) ^ change;
        await expectMachineOrLine(fileOf(copy));
      }),
      { numRuns: 100 },
    );
  });

  test('inside of another is refused', async () => {
    expect(await refusal(fileOf(gzipSync(packed)))).toContain('expected no second gzip');
    expect(await refusal(fileOf(gzipSync(packed)), { format: 'tar' })).toContain('second gzip');
    expect(await refusal(fileOf(TAR), { format: 'gzip' })).toContain('expected a gzip');
    for (const format of ['tar', 'gzip'] as const) {
      expect((await read(fileOf(packed), { format })).functions).toHaveLength(9);
    }
  });

  test('that grows beyond all bounds is refused', async () => {
    const bomb = createGzip({ level: 1 });
    const chunks: Buffer[] = [];
    bomb.on('data', (chunk: Buffer) => chunks.push(chunk));
    const zeros = Buffer.alloc(2 ** 24);
    for (let written = 0; written <= 2 ** 28; written += zeros.length) {
      await new Promise((resolve) => bomb.write(zeros, resolve));
    }
    await new Promise((resolve) => {
      bomb.on('end', resolve);
      bomb.end();
    });
    expect(await refusal(fileOf(Buffer.concat(chunks)))).toContain('when unpacked');
  });
});

describe('a tar', () => {
  test('cut anywhere is refused', async () => {
    const ends = fc.integer({ min: 512, max: TAR.length - 1025 });
    await fc.assert(
      fc.asyncProperty(ends, async (end) => {
        const line = await refusal(fileOf(TAR.subarray(0, end)), { format: 'tar' });
        expect(line).toMatch(/expected (?:a sound tar archive|the end mark of the archive)/);
      }),
      { numRuns: 60 },
    );
    const blocks = TAR.length / 512;
    for (const end of [1, 2, 3, blocks - 3, blocks - 2]) {
      const line = await refusal(fileOf(TAR.subarray(0, end * 512)));
      expect(line).toMatch(/expected (?:a sound tar archive|the end mark of the archive)/);
    }
  });

  test('with wrong bytes is a machine or one line', async () => {
    const changes = fc.array(fc.tuple(fc.nat(TAR.length - 1), fc.nat(255)), {
      minLength: 1,
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(changes, async (list) => {
        const copy = Buffer.from(TAR);
        for (const [at, value] of list) copy[at] = value;
        await expectMachineOrLine(fileOf(copy));
      }),
      { numRuns: 150 },
    );
  });

  const end = Buffer.alloc(1024);
  const some = Buffer.from('some');

  test.each([
    [
      'a path out of it',
      block({ path: '../../etc/x', type: 'File', size: 0 }),
      'inside the archive',
    ],
    ['a file as directory', tarOf([file('a'), file('a/b')]), 'found a file or a link'],
    ['a hard link to nothing', hardLink('sys/y', 'sys/z'), 'that it is linked to, sys/z'],
    ['only its end', end, 'expected'],
    ['a size beyond all', block({ path: 'a', type: 'File', size: 2 ** 32 }), 'bytes of files'],
    ['a path too long', longName('a/'.repeat(200)), 'expected a path of at most 128 parts'],
    ['a path of all too many letters', longName('a'.repeat(5000)), 'path of at most 128 parts'],
    ['an extended header too large', longName('a'.repeat(70_000)), 'expected'],
  ])('with %s is refused', async (_, bytes, message) => {
    const path = fileOf(Buffer.concat([bytes, end]));
    expect(await refusal(path, { format: 'tar' })).toContain(message);
  });

  test('of too many entries is refused', async () => {
    const one = block({ path: 'sys/a', type: 'Directory', size: 0 });
    const all = Buffer.concat([...Array.from({ length: 200_001 }, () => one), end]);
    expect(await refusal(fileOf(all))).toContain('expected at most 200000 entries');
  });

  test('may hold hard links, devices and pipes', async () => {
    const path = 'sys/devices/pci0000:00/0000:00:01.0';
    const bytes = Buffer.concat([
      block({ path: `${path}/vendor`, type: 'File', size: 7 }, Buffer.from('0x1234\n')),
      hardLink(`${path}/device`, `${path}/vendor`),
      block({ path: 'dev/null', type: 'CharacterDevice', size: 0 }),
      block({ path: 'dev/pipe', type: 'FIFO', size: 0 }),
      end,
    ]);
    expect((await read(fileOf(bytes))).functions).toMatchObject([
      { vendor: 0x1234, device: 0x1234 },
    ]);
  });

  test('that is as deep as it may be is read', async () => {
    const path = `${'a/'.repeat(3)}sys/devices/pci0000:00/0000:00:01.0/vendor`;
    expect((await read(fileOf(tarOf([file(path, '0x1')])))).functions).toHaveLength(1);
  });

  function file(path: string, text = 'x'): TreeEntry {
    return { kind: 'file', path, bytes: Buffer.from(text) };
  }

  function hardLink(path: string, linkpath: string): Buffer {
    return block({ path, type: 'Link', linkpath, size: 0 });
  }

  function longName(path: string): Buffer {
    const name = Buffer.from(`${path}\0`);
    return Buffer.concat([
      block({ path: '././@LongLink', type: 'NextFileHasLongPath', size: name.length }, name),
      block({ path: 'short', type: 'File', size: some.length }, some),
    ]);
  }
});
