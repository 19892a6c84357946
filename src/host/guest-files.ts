/**
 * Files of a guest, read without trusting it: links are followed inside its root file system only, and
 * all of a look costs a bounded number of system calls; see guest-init.ts.
 */
import type { Files } from './files.ts';
import { resolveIn, Walk } from './guest-init.ts';

/** What an admin writes into a guest is small. */
const maxBytes = 64 * 1024;

/** A file of the guest. */
interface GuestFile {
  /** The name that the last link led to. */
  readonly name: string;
  readonly isThere: boolean;
  readonly isExecutable: boolean;
  /** The same for all names of one file; undefined where there is none. */
  readonly identity: string | undefined;
  /** Undefined for what is no regular file, or is too large. */
  readonly text: () => string | undefined;
}

/** The trees of a guest's root file system, the one that wins first. */
export class GuestFiles {
  readonly #files: Files;
  readonly #trees: readonly string[];

  constructor(files: Files, trees: readonly string[]) {
    this.#files = files;
    this.#trees = trees;
  }

  /** Looks for a path; undefined where the guest or its storage keeps it from being looked at. */
  find<T>(path: string, use: (file: GuestFile) => T): T | undefined {
    let walk: Walk | undefined;
    try {
      const guest = new Walk(this.#files, this.#trees);
      walk = guest;
      const { name, isThere } = resolveIn(guest, path);
      const stat = isThere ? guest.stat(name) : undefined;
      return use({
        name,
        isThere,
        isExecutable: stat !== undefined && (stat.mode & 0o100) !== 0,
        identity: stat === undefined ? undefined : `${stat.dev}:${stat.ino}`,
        text: () => (isThere ? guest.read(name, maxBytes) : undefined),
      });
    } catch {
      // Too many links or parts, a part that cannot be read, storage that does not answer.
      return undefined;
    } finally {
      walk?.close();
    }
  }

  isThere(path: string): boolean {
    return this.find(path, (file) => file.isThere) ?? false;
  }

  text(path: string): string | undefined {
    return this.find(path, (file) => file.text());
  }
}
