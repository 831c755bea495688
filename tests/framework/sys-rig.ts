/** A kernel with one program on it, whose system calls a test makes. */

import { expect } from 'vitest';
import type { DmaBufError, UserAddr } from '../../src/base/index.ts';
import {
  type FileOperations,
  Kernel,
  KernelFile,
  ModelSys,
  type OpenMode,
  Process,
  type ProcessOptions,
} from '../../src/framework/index.ts';
import type { MachineSpec, Outcome, Strategy, Task } from '../../src/machine/index.ts';
import { RoundRobinStrategy } from '../../src/explorer/index.ts';
import { FabricRig, refused } from '../machine/fabric-rig.ts';
import { wideMachine } from '../machine/test-machines.ts';

/** Something to open at `/dev/fake`. */
export const FAKE = '/dev/fake';

/** A machine, a kernel, a process and its system calls. */
export class SysRig extends FabricRig {
  readonly kernel: Kernel;
  readonly process: Process;
  readonly sys: ModelSys;
  /** Releases of files that {@link addNode} made. */
  released = 0;

  constructor(options: ProcessOptions = {}, spec: MachineSpec = wideMachine()) {
    super(spec);
    this.kernel = new Kernel(this.machine);
    this.process = new Process(this.kernel, 'app', options);
    this.sys = new ModelSys(this.process);
  }

  /** What the call fails with; nothing else must have changed. */
  fails(call: Task<unknown>): DmaBufError {
    const before = this.state;
    const error = this.do(refused(call));
    expect(this.state).toEqual(before);
    return error;
  }

  /** What a call that fails must leave as it was. */
  get state(): unknown {
    const { fds, mm } = this.process;
    const files = [...fds.value].map(([fd, { file, closeOnExec }]) => {
      return [fd, file?.name, file?.refs.value, file?.filePosition, closeOnExec];
    });
    const maps = mm.vmas.value.map(({ start, size }) => [start, size]);
    return { files, maps, released: this.released };
  }

  /** Adds a file that does nothing but what `operations` say. */
  addNode(operations: Partial<FileOperations> = {}, path = FAKE, mode = 0o666): void {
    const { kernel } = this;
    const release = (): Task => this.noteRelease();
    this.kernel.nodes.add(path, {
      mode,
      *open(_process: Process, how: OpenMode): Task<KernelFile> {
        return new KernelFile(kernel, path, { release, ...operations }, how);
      },
    });
  }

  /** Bytes in the program's memory, which a test hands to a call. */
  *place(bytes: Uint8Array): Task<UserAddr> {
    const address = yield* this.sys.alloc(Math.max(bytes.length, 1));
    yield* this.sys.store(address, bytes);
    return address;
  }

  /** Spawns a thread of the program. */
  thread(task: Task<unknown>, name = 'thread'): void {
    this.scheduler.spawn(task, { name, role: 'user' });
  }

  /** Runs everybody. */
  run(strategy: Strategy = new RoundRobinStrategy()): Outcome {
    return this.scheduler.run(strategy);
  }

  private *noteRelease(): Task {
    this.released += 1;
  }
}

/** Bytes of a text. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** The text of bytes. */
export function textOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
