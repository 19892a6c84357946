import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { errnoText } from '../model/errno.ts';

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

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    throw new WriteError(`cannot make the directory ${path}: ${errnoText(error)}`, {
      cause: error,
    });
  }
}

/** Paths are made from escaped names; this is the last gate before the file system. */
function checkInside(path: string): void {
  const parts = path.split('/');
  if (parts.length > 2 || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new WriteError(`refusing to write outside the generator's directory: ${path}`);
  }
}

/**
 * Writes one output under a temporary name and renames it, so that systemd never reads half a
 * file. Throws a WriteError that names the path and the reason; nothing is left behind then.
 */
function writeOutput(directory: string, output: Output): void {
  const path = join(directory, output.path);
  // systemd ignores names that begin with a dot.
  const temporary = join(dirname(path), `.lockerd-${process.pid}.tmp`);
  try {
    if (output.target === undefined) writeFileSync(temporary, output.text ?? '', { mode: 0o644 });
    else symlinkSync(output.target, temporary);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new WriteError(`cannot write ${path}: ${errnoText(error)}`, { cause: error });
  }
}

/**
 * Writes all outputs below a generator directory. One that fails does not keep back the others;
 * the errors come back in the order of the outputs.
 */
export function writeOutputs(directory: string, outputs: readonly Output[]): WriteError[] {
  const made = new Set<string>();
  const errors: WriteError[] = [];
  for (const output of outputs) {
    try {
      checkInside(output.path);
      const parent = dirname(join(directory, output.path));
      if (!made.has(parent)) {
        makeDirectory(parent);
        made.add(parent);
      }
      writeOutput(directory, output);
    } catch (error) {
      if (!(error instanceof WriteError)) throw error;
      errors.push(error);
    }
  }
  return errors;
}
