/**
 * Tells what of a directory has changed since a look at it, by one walk, so that the last copy of a move, for which
 * its container is away, need not compare all files of both ends.
 *
 * A file is the same as before if its path, its type, its inode and its ctime are: whatever is done to a file, the
 * kernel changes its ctime, which no program of the guest can set. Two things would be missed, and make a file a
 * changed one: a ctime so young at the first look that a later change may have the same one, and writes to pages
 * of a mapped file, which change it only at the first one after the page was written to the disk. So that is done
 * before the first look. The quick check of rsync(1), by size and mtime, would miss those of mapped files.
 */
import { execa } from 'execa';
import { inJail } from './jail.ts';

/** What a directory had in it. */
export interface TreeLook {
  /** A line for each file that would be seen to change. */
  readonly seen: ReadonlySet<string>;
}

/** What has changed, as paths in the directory; bytes of names stand as characters of Latin-1. */
export interface TreeChange {
  /** All that is no directory, and is new or may have changed. */
  readonly files: readonly string[];
  /** Directories that are new, or in which names may have come or gone; empty for the whole one itself. */
  readonly directories: readonly string[];
}

/** File systems that are known to keep ctime so, by stat(1): ext2 to ext4, XFS, btrfs, and an overlay of these. */
const trusted: readonly string[] = ['ef53', '58465342', '9123683e', '794c7630'];

/** The clock of file systems stands still between two ticks; this is far more, milliseconds. */
const youngMs = 2000;

/** More than that is compared by rsync instead; a line takes some hundred bytes. */
const outputMax = 64 * 1024 * 1024;

/** `$1` is `sync` to have pages of mapped files written first. */
const walk = `
[ "$1" != sync ] || sync -f /tree
stat -f -c %t /tree
exec find /tree/ -xdev -printf '%y %i %C@ %P\\0'`;

/** A line that the walk prints, in its parts. */
interface Entry {
  readonly isDirectory: boolean;
  readonly inode: string;
  readonly ctimeMs: number;
  readonly path: string;
}

/** Undefined for a line that makes no sense. */
export function parseLine(line: string): Entry | undefined {
  const [, type = '', inode = '', seconds = '', path = ''] =
    /^(\S+) (\d+) ([\d.]+) ([^]*)$/.exec(line) ?? [];
  const ctimeMs = Number(seconds) * 1000;
  if (type === '' || !Number.isFinite(ctimeMs)) return undefined;
  return { isDirectory: type === 'd', inode, ctimeMs, path };
}

/** The lines of the walk; undefined where it could not be done, or tells nothing. */
async function linesOf(
  directory: string,
  isAtRest: boolean,
): Promise<readonly string[] | undefined> {
  const command = ['sh', '-euc', walk, 'sh', isAtRest ? 'no' : 'sync'];
  const { program, args } = inJail({ directory, name: 'tree', isReadOnly: true }, command);
  const { stdout, failed, isMaxBuffer } = await execa(program, args, {
    ...{ reject: false, stdin: 'ignore', stderr: 'ignore', env: { LC_ALL: 'C' } },
    ...{ encoding: 'latin1', maxBuffer: outputMax, stripFinalNewline: false },
  });
  // A file that has gone meanwhile is a failure for find, and none for a first look.
  if (isMaxBuffer || (failed && isAtRest)) return undefined;
  const end = stdout.indexOf('\n');
  if (!trusted.includes(stdout.slice(0, Math.max(end, 0)))) return undefined;
  return stdout
    .slice(end + 1)
    .split('\0')
    .slice(0, -1);
}

/**
 * Looks at a directory, or at the file system on a device, before what is in it is copied.
 * @returns undefined where nobody could tell by that what changes later
 */
export async function lookAtTree(directory: string): Promise<TreeLook | undefined> {
  const youngestMs = Date.now() - youngMs;
  const lines = await linesOf(directory, false);
  if (lines === undefined) return undefined;
  const isOld = (line: string): boolean => (parseLine(line)?.ctimeMs ?? Infinity) < youngestMs;
  return { seen: new Set(lines.filter(isOld)) };
}

/** What of the lines is new since a look; undefined if one of them makes no sense. */
export function changeOf(lines: readonly string[], { seen }: TreeLook): TreeChange | undefined {
  const entries = lines.map((line) => ({ isNew: !seen.has(line), entry: parseLine(line) }));
  const directories: string[] = [];
  // A link to a file may be new where the others are as they were, and has to become one there as well.
  const inodes = new Set<string>();
  for (const { isNew, entry } of entries) {
    if (entry === undefined) return undefined;
    if (isNew && entry.isDirectory) directories.push(entry.path);
    else if (isNew) inodes.add(entry.inode);
  }
  const files = entries.flatMap(({ entry }) =>
    entry !== undefined && !entry.isDirectory && inodes.has(entry.inode) ? entry.path : [],
  );
  return { files, directories };
}

/** What has changed in a directory since a look, now that nothing changes it any more; undefined if that is not clear. */
export async function changedSince(
  directory: string,
  look: TreeLook,
): Promise<TreeChange | undefined> {
  const lines = await linesOf(directory, true);
  return lines === undefined ? undefined : changeOf(lines, look);
}
