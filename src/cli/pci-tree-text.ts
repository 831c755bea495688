/** The PCI tree of a machine as indented text. */

import { ACS_REDIRECT_MASK } from '../framework/index.ts';
import type { FunctionSpec, HostBridge, PciNode, PciTree, PciType } from '../machine/index.ts';
import { classInWords } from './class-words.ts';
import type { Palette } from './palette.ts';
import { cutText, plainText } from './text-wrap.ts';

/** What a bridge is called by its type; others go by their class. */
const BRIDGE_WORDS: Readonly<Partial<Record<PciType, string>>> = {
  'root-port': 'root port',
  'upstream-port': 'switch, upstream port',
  'downstream-port': 'switch, downstream port',
  'pcie-to-pci-bridge': 'PCIe-to-PCI bridge',
  'pci-to-pcie-bridge': 'PCI-to-PCIe bridge',
};

/** What a function is, in words. */
export function kindInWords({ type, classCode }: FunctionSpec): string {
  return BRIDGE_WORDS[type] ?? classInWords(classCode);
}

/** Draws the tree: a line a function, none longer than `width`. */
export function drawPciTree(tree: PciTree, width: number, palette: Palette): readonly string[] {
  return tree.hostBridges.flatMap((bridge) => [
    palette.heading(cutText(hostBridgeText(bridge), width)),
    ...drawBelow(bridge.children, '', width, palette),
  ]);
}

/** True if a port or function sends peer requests up instead of straight on. */
export function redirects({ acs }: FunctionSpec): boolean {
  return acs !== null && acs !== 'unknown' && (acs.control & ACS_REDIRECT_MASK) !== 0;
}

function hostBridgeText({ name, spec }: HostBridge): string {
  const { node, peerForwarding } = spec;
  const place = node === null ? '' : `node ${node}, `;
  return `${name}  ${place}${FORWARDING[peerForwarding]}`;
}

const FORWARDING = {
  none: 'carries no requests between devices',
  'same-host-bridge': 'carries requests between its own devices',
  all: 'carries requests between devices',
} as const;

function drawBelow(
  nodes: readonly PciNode[],
  indent: string,
  width: number,
  palette: Palette,
): readonly string[] {
  return nodes.flatMap((node, at) => {
    const isLast = at === nodes.length - 1;
    const lead = `${indent}${isLast ? '└─' : '├─'} `;
    const text = cutText(functionText(node.spec), Math.max(width - lead.length, 1));
    const painted = redirects(node.spec) ? palette.refusal(text) : text;
    const deeper = `${indent}${isLast ? '  ' : '│ '} `;
    return [palette.quiet(lead) + painted, ...drawBelow(node.children, deeper, width, palette)];
  });
}

function functionText(spec: FunctionSpec): string {
  const parts = [
    `${spec.address}  ${kindInWords(spec)} ${hex4(spec.vendor)}:${hex4(spec.device)}`,
    ...(spec.acs === 'unknown' ? ['ACS not known'] : []),
    ...(redirects(spec) ? ['ACS redirects'] : []),
    ...(spec.physicalFunction === null ? [] : [`virtual, of ${spec.physicalFunction}`]),
    ...(spec.driver === null ? [] : [`driver ${spec.driver}`]),
    ...(linkText(spec) === '' ? [] : [linkText(spec)]),
  ];
  return plainText(parts.join(', '));
}

/** `16 GT/s x4`; empty if there is no link or nothing is known of it. */
function linkText({ link }: FunctionSpec): string {
  if (link === null || link.width === 0) return '';
  const speed = link.speed === null ? '' : `${link.speed} GT/s`;
  const width = link.width === null ? '' : `x${link.width}`;
  return [speed, width].filter((part) => part !== '').join(' ');
}

function hex4(value: number): string {
  return value.toString(16).padStart(4, '0');
}
