/**
 * Makes the changes of an import: all of them, or none. What can fail is prepared first, each file is
 * replaced at once, and a failure puts back what was done. A script that undoes the import is written
 * before anything is changed.
 */
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { syncDirectory, writeNewFile } from '../host/write-file.ts';
import { errnoText } from '../model/errno.ts';
import { shellWord } from '../model/shell-quote.ts';
import type { Change } from './changes.ts';
import { editedText } from './changes.ts';

/** Why nothing was changed. */
export class ImportError extends Error {
  override readonly name = 'ImportError';
}

/** Where the script that undoes an import is left. */
const undoDirectory = '/var/backups';

const backupEnd = '.before-import';

/** A change with the names that it takes. */
interface Step {
  readonly change: Change;
  readonly path: string;
  /** Beside the file; undefined for what has no old content. */
  readonly backup: string | undefined;
  readonly temporary: string;
}

/**
 * Applies changes below `root` (the empty string for the host itself).
 * @returns the path of the script that undoes them
 * @throws {ImportError} when nothing was changed
 */
export function applyImport(root: string, changes: readonly Change[], now: Date): string {
  return new Application(root, changes).run(now);
}

class Application {
  readonly #root: string;
  readonly #steps: readonly Step[];
  readonly #undo: (() => void)[] = [];
  /** Directories that were not there, each after the one that it is in. */
  readonly #made: string[] = [];

  constructor(root: string, changes: readonly Change[]) {
    this.#root = root;
    this.#steps = changes.map((change) => ({
      change,
      path: root + change.path,
      backup: change.kind === 'edit' ? freeName(root + change.path + backupEnd) : undefined,
      temporary:
        join(dirname(root + change.path), `.lockerd-import-${process.pid}`) +
        `.${basenameOf(change.path)}`,
    }));
  }

  run(now: Date): string {
    let at = '';
    try {
      for (const step of this.#steps) {
        at = step.change.path;
        this.#prepare(step);
      }
      const stamp = now
        .toISOString()
        .replaceAll(/[-:]|\..*/g, '')
        .replace('T', '-');
      at = `${undoDirectory}/lockerd-import-${stamp}.sh`;
      const script = this.#writeScript(at);
      for (const step of this.#steps) {
        at = step.change.path;
        this.#commit(step);
      }
      return script;
    } catch (error) {
      const why = error instanceof ImportError ? error.message : errnoText(error);
      const what = this.#putBack()
        ? 'nothing was changed'
        : 'the import ended halfway and could not be undone; run it again';
      throw new ImportError(`${what}: ${at}: ${why}`, { cause: error });
    }
  }

  /** Undoes what was done, the last first; false where that failed somewhere. */
  #putBack(): boolean {
    let isWhole = true;
    for (const undo of this.#undo.reverse()) {
      try {
        undo();
      } catch {
        // The others are undone all the same.
        isWhole = false;
      }
    }
    return isWhole;
  }

  /** Writes the new content beside the old one. */
  #prepare({ change, path, temporary }: Step): void {
    if (change.kind === 'edit') {
      const stat = lstatSync(path);
      if (!stat.isFile()) throw new ImportError('it is no regular file any more');
      if (readFileSync(path, 'utf8') !== change.before) {
        throw new ImportError('it was changed meanwhile; run the import again');
      }
      this.#write(temporary, editedText(change.before, change.edits), stat);
      return;
    }
    if (change.kind === 'unlink') {
      if (readlinkSync(path) !== change.target)
        throw new ImportError('the link was changed meanwhile');
      return;
    }
    this.#makeDirectory(dirname(path));
    if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
      throw new ImportError('there is something of this name already');
    }
    if (change.kind === 'create') this.#write(temporary, change.text, undefined);
  }

  #makeDirectory(path: string): void {
    if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) return;
    this.#makeDirectory(dirname(path));
    mkdirSync(path, { mode: 0o755 });
    this.#made.push(path.slice(this.#root.length));
    this.#undo.push(() => {
      rmdirSync(path);
    });
  }

  #write(
    path: string,
    text: string,
    like: { readonly uid: number; readonly gid: number; readonly mode: number } | undefined,
  ): void {
    writeNewFile(path, text, like);
    this.#undo.push(() => {
      rmSync(path, { force: true });
    });
  }

  #commit({ change, path, backup, temporary }: Step): void {
    switch (change.kind) {
      case 'edit': {
        if (backup === undefined) return;
        // The old file itself, so that it has its times and rights.
        linkSync(path, backup);
        this.#undo.push(() => {
          renameSync(backup, path);
        });
        renameSync(temporary, path);
        break;
      }
      case 'create':
        // link(2) puts nothing in the place of what has come meanwhile.
        linkSync(temporary, path);
        this.#undo.push(() => {
          unlinkSync(path);
        });
        unlinkSync(temporary);
        break;
      case 'link':
        symlinkSync(change.target, path);
        this.#undo.push(() => {
          unlinkSync(path);
        });
        break;
      case 'unlink':
        unlinkSync(path);
        this.#undo.push(() => {
          symlinkSync(change.target, path);
        });
        break;
    }
    syncDirectory(dirname(path));
  }

  /** Each line can run whatever is done already, also after a power cut. */
  #writeScript(path: string): string {
    const lines = [...this.#steps].reverse().map(({ change, backup }) => {
      const word = shellWord(change.path);
      switch (change.kind) {
        case 'edit': {
          const old = shellWord((backup ?? '').slice(this.#root.length));
          return `[ ! -e ${old} ] || mv -- ${old} ${word}`;
        }
        case 'create':
          return `rm -f -- ${word}`;
        case 'link':
          return `[ ! -L ${word} ] || rm -- ${word}`;
        case 'unlink':
          return `[ -L ${word} ] || ln -s -- ${shellWord(change.target)} ${word}`;
      }
    });
    // Something else may be in them by then.
    const directories = [...this.#made].reverse().map((made) => {
      const word = shellWord(made);
      return `[ ! -d ${word} ] || rmdir --ignore-fail-on-non-empty -- ${word}`;
    });
    const head = ['#!/bin/sh', '# Undoes "lockerctl import --apply".', 'set -e'];
    this.#makeDirectory(this.#root + undoDirectory);
    this.#write(this.#root + path, [...head, ...lines, ...directories, ''].join('\n'), undefined);
    return path;
  }
}

function basenameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** A name that nothing has yet; earlier backups stay. */
function freeName(path: string): string {
  let name = path;
  for (let number = 1; lstatSync(name, { throwIfNoEntry: false }) !== undefined; number++) {
    name = `${path}.${number}`;
  }
  return name;
}
