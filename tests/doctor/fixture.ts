/** The made-up machines of `tests/machines`, as trees and texts. */

import { readFileSync } from 'node:fs';
import { MapTree, type TreeEntry } from '../../src/doctor/index.ts';

/** A file of a `tree.json`. */
type Content =
  | string
  | { readonly link: string }
  | { readonly size: number; readonly bytes: Readonly<Record<string, string>> };

const MACHINES = new URL('../machines/', import.meta.url);

/** The entries of the `tree.json` of a machine. */
export function fixtureEntries(name: string): TreeEntry[] {
  const json = readFileSync(new URL(`${name}/tree.json`, MACHINES), 'utf8');
  const files = JSON.parse(json) as Record<string, Content>;
  return Object.entries(files).map(([path, content]) => entryOf(path, content));
}

/** The `tree.json` of a machine as a tree. */
export function fixtureTree(name: string): MapTree {
  return new MapTree(name, fixtureEntries(name));
}

/** The `lspci.txt` of a machine. */
export function fixtureText(name: string): string {
  return readFileSync(new URL(`${name}/lspci.txt`, MACHINES), 'utf8');
}

/** `lspci.txt` as a path. */
export function fixturePath(name: string): string {
  return new URL(`${name}/lspci.txt`, MACHINES).pathname;
}

/** A text file of a tree. */
export function textFile(path: string, text: string): TreeEntry {
  return { kind: 'file', path, bytes: Buffer.from(text, 'utf8') };
}

function entryOf(path: string, content: Content): TreeEntry {
  if (typeof content === 'string') return textFile(path, content);
  if ('link' in content) return { kind: 'link', path, target: content.link };
  const bytes = new Uint8Array(content.size);
  for (const [offset, hex] of Object.entries(content.bytes)) {
    bytes.set(Buffer.from(hex.replaceAll(' ', ''), 'hex'), Number.parseInt(offset, 16));
  }
  return { kind: 'file', path, bytes };
}
