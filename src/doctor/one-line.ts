/** Text from outside, made fit to stand in an error or a note: those are one line each. */

/** LIMIT: characters of foreign text that a message repeats; enough to recognise it by. */
const LENGTH_MAX = 80;
/** LIMIT: characters of a path in a message; what matters of a path is its end. */
const PATH_MAX = 512;

/** `text` with control characters and line ends replaced by `?`, and cut if it is long. */
export function oneLine(text: string, lengthMax: number = LENGTH_MAX): string {
  const cut = text.length <= lengthMax ? text : `${text.slice(0, lengthMax)}…`;
  return cut.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?');
}

/** A path that is not ours, as the place in an error. */
export function oneLinePath(path: string): string {
  const isLong = path.length > PATH_MAX;
  return isLong ? `…${oneLine(path.slice(-PATH_MAX), PATH_MAX)}` : oneLine(path, PATH_MAX);
}
