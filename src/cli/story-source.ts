/**
 * Finds the story that the user means: a built-in one, or a module of the user's own, which is
 * loaded and looked at before anything is run.
 */

import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { InputError, isInputError } from '../base/index.ts';
import { oneLine, oneLinePath } from '../doctor/index.ts';
import { findScenario, ROLES, SCENARIOS, type Scenario } from '../scenarios/index.ts';
import { isRegularFile } from './input-file.ts';

/** LIMIT: characters of a foreign error that a message repeats. */
const ERROR_MAX = 300;
const MODULE_NAME = /\.[cm]?[jt]s$/;

/** A story, and where it comes from. */
export interface StorySource {
  /** As the user named it: an id, or a path. */
  readonly name: string;
  /** False for a module of the user's: what goes wrong in it is not our bug. */
  readonly isBuiltIn: boolean;
  readonly scenario: Scenario;
}

/**
 * Finds the story called `name`: a built-in id, or a path to a module whose default export is a
 * scenario. A name with a slash in it, or that ends like a module, is always a path.
 *
 * @throws {@link InputError} There is none, or it exports something else.
 * @throws {@link StoryError} It cannot be loaded.
 */
export async function readStory(name: string): Promise<StorySource> {
  const scenario = findScenario(name);
  if (scenario !== null) return { name, isBuiltIn: true, scenario };
  if (!/[/\\]/.test(name) && !MODULE_NAME.test(name)) {
    const ids = SCENARIOS.map(({ id }) => id).join(', ');
    throw new InputError(oneLine(name), '', `expected a story (${ids}) or a path to a module`);
  }
  return { name, isBuiltIn: false, scenario: checked(await load(name), oneLinePath(name)) };
}

/** An error that came out of a user's module, whatever it was: `cause`. */
export class StoryError extends Error {
  override readonly name = 'StoryError';

  constructor(story: string, what: string, cause: unknown) {
    super(`${oneLinePath(story)}: ${what}: ${messageOf(cause)}`, { cause });
  }
}

/**
 * Runs a story's own code.
 *
 * @throws {@link InputError} As `play` does.
 * @throws {@link StoryError} `play` threw anything else, and the story is the user's.
 */
export async function playStory<T>(
  { name, isBuiltIn }: StorySource,
  play: () => T | Promise<T>,
): Promise<T> {
  try {
    return await play();
  } catch (error) {
    if (isBuiltIn || isInputError(error)) throw error;
    throw new StoryError(name, 'it fails', error);
  }
}

async function load(path: string): Promise<unknown> {
  const source = oneLinePath(path);
  if (!isRegularFile(path)) throw new InputError(source, '', 'expected a module, found no file');
  try {
    const module: { readonly default?: unknown } = await import(pathToFileURL(resolve(path)).href);
    return module.default;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_UNKNOWN_FILE_EXTENSION') {
      const problem = 'this Node does not load TypeScript; run peerbuf with tsx, or compile it';
      throw new InputError(source, '', problem);
    }
    throw new StoryError(path, 'it cannot be loaded', error);
  }
}

/** Checks what a module exports; types are gone by then. */
function checked(value: unknown, source: string): Scenario {
  if (typeof value !== 'object' || value === null) {
    throw new InputError(
      source,
      'default export',
      'expected a story, as defineScenario returns it',
    );
  }
  const fields = value as Readonly<Record<string, unknown>>;
  for (const field of ['id', 'title', 'story', 'machine'] as const) {
    if (typeof fields[field] !== 'string' || fields[field] === '') {
      throw new InputError(source, field, 'expected a text');
    }
  }
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(fields.id as string)) {
    throw new InputError(source, 'id', 'expected a name in kebab-case');
  }
  const { roles, boot } = fields;
  const known: readonly unknown[] = ROLES;
  if (!Array.isArray(roles) || !roles.every((role) => known.includes(role))) {
    throw new InputError(source, 'roles', `expected a list of ${ROLES.join(' and ')}`);
  }
  if (typeof boot !== 'function') throw new InputError(source, 'boot', 'expected a function');
  return value as Scenario;
}

function messageOf(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return oneLine(text.replace(/\s*\n\s*/g, ' '), ERROR_MAX);
}
