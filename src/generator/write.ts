/**
 * The last step: files in a directory that systemd has made for this run, empty and for generators
 * alone. It reads them when all generators have ended, so each is written in its place at once.
 */
import { codeOf, errnoText } from '../model/errno.ts';
import { typeOf } from '../host/system-calls.ts';
import { system } from '../host/system.ts';

/** One thing to write below a generator directory: a file's text or a link's target. */
export interface Output {
  readonly path: string;
  readonly text?: string;
  readonly target?: string;
}

/** A file or link that could not be written. */
export class WriteError extends Error {
  override readonly name = 'WriteError';
}

/** Makes a directory and those above it. */
function makeDirectory(path: string): void {
  try {
    system.makeDirectory(path);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EEXIST' && isDirectory(path)) return;
    if (code !== 'ENOENT') {
      const reason = errnoText(error);
      throw new WriteError(`cannot make the directory ${path}: ${reason}`, { cause: error });
    }
    makeDirectory(path.slice(0, path.lastIndexOf('/')));
    makeDirectory(path);
  }
}

function isDirectory(path: string): boolean {
  try {
    return typeOf(system.stat(path)) === 'directory';
  } catch {
    // A link that leads nowhere.
    return false;
  }
}

function isName(part: string): boolean {
  return part !== '' && part !== '.' && part !== '..' && !part.includes('/');
}

/** Paths are made from escaped names; this is the last gate before the file system. */
function checkInside(path: string): void {
  const slash = path.indexOf('/');
  const isInside =
    slash < 0 ? isName(path) : isName(path.slice(0, slash)) && isName(path.slice(slash + 1));
  if (!isInside) {
    throw new WriteError(`refusing to write outside the generator's directory: ${path}`);
  }
}

/** Writes one output; nothing is left of it where that fails. */
function writeOutput(path: string, { target, text }: Output): void {
  try {
    if (target === undefined) system.write(path, text ?? '');
    else system.symlink(target, path);
  } catch (error) {
    throw new WriteError(`cannot write ${path}: ${errnoText(error)}`, { cause: error });
  }
}

/** Writes below a generator directory. What fails does not keep back the others. */
export class OutputWriter {
  readonly #directory: string;
  readonly #made = new Set<string>();
  /** In the order of the outputs. */
  readonly errors: WriteError[] = [];

  constructor(directory: string) {
    this.#directory = directory;
  }

  write(output: Output): void {
    try {
      checkInside(output.path);
      const path = `${this.#directory}/${output.path}`;
      const parent = path.slice(0, path.lastIndexOf('/'));
      if (!this.#made.has(parent)) {
        makeDirectory(parent);
        this.#made.add(parent);
      }
      writeOutput(path, output);
    } catch (error) {
      if (!(error instanceof WriteError)) throw error;
      this.errors.push(error);
    }
  }
}

/** Writes all outputs below a generator directory, and tells which could not be written. */
export function writeOutputs(directory: string, outputs: readonly Output[]): WriteError[] {
  const writer = new OutputWriter(directory);
  for (const output of outputs) writer.write(output);
  return writer.errors;
}
