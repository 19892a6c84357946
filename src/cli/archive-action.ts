/** "export" and "import-archive": a container in a file, by src/archive. */
import { resolve } from 'node:path';
import { exportContainer } from '../archive/pack.ts';
import { importArchive } from '../archive/unpack.ts';
import { codeOf, errnoText } from '../model/errno.ts';
import { LockerdError } from '../model/errors.ts';
import { formatBytes } from '../model/memory-limit.ts';
import type { Invocation } from './arguments.ts';
import { CommandError, exitStatus } from './exit.ts';
import type { Terminal } from './terminal.ts';
import { escapeText } from './text.ts';
import { reporter, withFiles } from './with-files.ts';

function sizeText({ bytes, files }: { readonly bytes: number; readonly files: number }): string {
  return `${formatBytes(BigInt(bytes))}, ${files} files`;
}

/** Throws CommandError for what a file system says of the file. */
async function withFile<T>(file: string, use: (path: string) => Promise<T>): Promise<T> {
  try {
    return await use(resolve(file));
  } catch (error) {
    if (error instanceof LockerdError || codeOf(error) === undefined) throw error;
    throw new CommandError(`${file}: ${errnoText(error)}`, exitStatus.failure, undefined, {
      cause: error,
    });
  }
}

/** Writes a container of this host into a file. */
export function exportToFile(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [name = '', file = ''] = invocation.operands;
  const { freeze, json, quiet } = invocation;
  return withFiles(name, invocation, terminal, async () => {
    const report = reporter(name, terminal, invocation);
    const result = await withFile(file, (path) => exportContainer(name, path, freeze, report));
    terminal.status('');
    if (json) terminal.printJson({ ...result }, json);
    else if (!quiet) {
      terminal.print(`${escapeText(name)}: ${escapeText(result.file)}: ${sizeText(result)}`);
    }
  });
}

/** Makes a container of a file. */
export function importFromFile(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [file = ''] = invocation.operands;
  const { name, dryRun, json, quiet } = invocation;
  return withFiles(file, invocation, terminal, async () => {
    const report = reporter(file, terminal, invocation);
    const result = await withFile(file, (path) => importArchive(path, name, dryRun, report));
    terminal.status('');
    const { container, imported } = result;
    if (json) terminal.printJson({ ...result }, json);
    else if (!quiet) {
      const what = imported ? `imported from ${file}` : `could be imported from ${file}`;
      terminal.print(escapeText(`${container}: ${what}: ${sizeText(result)}`));
    }
  });
}
