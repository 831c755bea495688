/** A small machine to break: as JSON, so that it may be wrong. */

import { InputError } from '../../src/base/index.ts';

/** New values by path, such as `functions[3].bars[0].size`; undefined takes the last item away. */
export type Changes = Readonly<Record<string, unknown>>;

type Json = Record<string, unknown>;

/**
 * A switch with two drives, and a virtual function of the second; beside it a second host bridge.
 */
export function smallMachine(changes: Changes = {}): Json {
  const port = { vendor: 1, device: 2, classCode: 0x060400 };
  const drive = { vendor: 3, device: 4, classCode: 0x010802, type: 'endpoint' };
  const [root, up, one, other] = ['00:01.0', '01:00.0', '02:00.0', '02:01.0'];
  const window = { base: 0x90000000, limit: 0x900fffff };
  const machine = {
    schema: 'peerbuf.machine/1',
    name: 'small',
    title: 'Small',
    memory: [
      { start: 0, size: 0x80000000 },
      { start: 0x100000000, size: 0x80000000 },
    ],
    hostBridges: [{ bus: 0 }, { bus: 0x40 }],
    functions: [
      { ...port, address: root, type: 'root-port', bridge: { secondary: 1, subordinate: 4 } },
      {
        ...port,
        address: up,
        parent: root,
        type: 'upstream-port',
        bridge: { secondary: 2, subordinate: 4 },
      },
      {
        ...port,
        address: one,
        parent: up,
        type: 'downstream-port',
        bridge: { secondary: 3, subordinate: 3, memory: window },
        acs: { capability: 0x5f, control: 0x1d },
      },
      {
        ...port,
        address: other,
        parent: up,
        type: 'downstream-port',
        bridge: { secondary: 4, subordinate: 4 },
      },
      { ...drive, address: '03:00.0', parent: one, bars: bars(0x90000000) },
      { ...drive, address: '04:00.0', parent: other, bars: bars(0x90100000) },
      { ...drive, address: '04:00.1', parent: other, physicalFunction: '04:00.0' },
    ],
  };
  for (const [path, value] of Object.entries(changes)) change(machine, path, value);
  return machine;
}

/** What `read` says of its input: the message of its {@link InputError}, or `no problem`. */
export function problemOf(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  return 'no problem';
}

/** Sets what is at `path` of `root`. */
export function change(root: Json, path: string, value: unknown): void {
  const steps = path.split(/[.[\]]+/).filter((step) => step !== '');
  const last = steps.pop() ?? '';
  const parent = steps.reduce((at, step) => at[step] as Json, root);
  if (value === undefined && Array.isArray(parent)) parent.pop();
  else parent[last] = value;
}

function bars(address: number): object[] {
  const buffer = { address: 0x4000000000 + address, size: 0x100000, prefetchable: true };
  return [
    { index: 0, address, size: 0x4000, is64: true },
    { index: 2, ...buffer, is64: true },
  ];
}
