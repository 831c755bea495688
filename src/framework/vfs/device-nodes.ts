/** The files that drivers put into `/dev` and debugfs. */

import { assert } from '../../base/index.ts';
import type { Task } from '../../machine/index.ts';
import type { Process } from '../user/process.ts';
import type { KernelFile, OpenMode } from './file.ts';

/** What opens one path. */
export interface DeviceNode {
  /** Permission bits, of which a process without privilege has the last three. Absent: 0666. */
  readonly mode?: number;
  /**
   * Makes an open file; its first reference is the caller's.
   *
   * @throws {@link DmaBufError} what the driver says.
   * @context May sleep; no lock held.
   */
  open(process: Process, mode: OpenMode): Task<KernelFile>;
}

/** All of them, by path. Filled at boot, so no lock. */
export class DeviceNodes {
  private readonly byPath = new Map<string, DeviceNode>();

  /** @context At boot. */
  add(path: string, node: DeviceNode): void {
    assert(!this.byPath.has(path), `${path} is there once`);
    this.byPath.set(path, node);
  }

  /** Null: there is no such file. */
  find(path: string): DeviceNode | null {
    return this.byPath.get(path) ?? null;
  }

  /** All paths, in the order in which they were added. */
  get paths(): readonly string[] {
    return [...this.byPath.keys()];
  }
}
