/** Files that root's programs write for good: they are on the disk before anybody relies on them. */
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  rmSync,
  writeFileSync,
} from 'node:fs';

/** Owner and mode of the file that another one takes the place of. */
interface Rights {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/**
 * Makes a file that nobody can read before it is whole; without `like` it is root's, with mode 0644.
 * Throws where something has the name already; a file that could not be written whole is removed.
 */
export function writeNewFile(
  path: string,
  text: string | Uint8Array,
  like: Rights | undefined,
): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    writeFileSync(fd, text);
    if (like !== undefined) fchownSync(fd, like.uid, like.gid);
    fchmodSync(fd, like === undefined ? 0o644 : like.mode & 0o7777);
    fsyncSync(fd);
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** Has the kernel write what names a directory has. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
