/**
 * `peerbuf/linux`: the real machine. Reading what it is, from its own files or from copies of them.
 */

export { type CaptureOptions, readCapture } from './capture.ts';
export { DirectoryTree } from './sys-tree.ts';
