/**
 * Copies a container's directory to the target by rsync(1), also while its guest runs. A hostile guest could
 * put symbolic links in the place of directories while rsync is on its way through them. So rsync runs in a jail,
 * and sees the socket of a connection that is there already.
 */
import { execa } from 'execa';
import { LockerdError } from '../model/errors.ts';
import { isAtOrBelow } from '../model/path.ts';
import type { TreeChange } from './changed.ts';
import { inJail } from './jail.ts';
import { run } from './run.ts';

/** How far a copy has come. */
export interface CopyProgress {
  /** Bytes of files that are the same on both ends now. */
  readonly bytes: number;
  /** Bytes a second. */
  readonly rate: number;
}

/** Exit status of rsync(1): some files were not copied. */
const someFailed = 23;
/** Those that a tree which changes meanwhile can cause; the other one says that files have gone. */
const ofChange: readonly number[] = [someFailed, 24];

const unitFactors: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1024,
  MB: 1024 ** 2,
  GB: 1024 ** 3,
  TB: 1024 ** 4,
};

/** Reads what rsync prints with --info=progress2; undefined for any other text. */
export function parseProgress(text: string): CopyProgress | undefined {
  const match = /^\s*([\d,.]{1,30})\s+\d{1,3}%\s+([\d.]{1,12})([kMGT]?B)\/s/.exec(text);
  if (match === null) return undefined;
  const [, bytes = '', rate = '', unit = ''] = match;
  return {
    bytes: Number(bytes.replaceAll(/[,.]/g, '')),
    rate: Math.round(Number(rate) * (unitFactors[unit] ?? 1)),
  };
}

/** Bytes of a file system on a device, those that its files take, and how many files these are. */
export async function sizeOfVolume(
  device: string,
): Promise<{ size: number; used: number; files: number }> {
  const command = ['df', '--block-size=1', '--output=size,used,iused', '/tree'];
  const { program, args } = inJail({ directory: device, name: 'tree', isReadOnly: true }, command);
  const [size = 0, used = 0, files = 0] = ((await run(program, args)).split('\n')[1] ?? '')
    .trim()
    .split(/\s+/)
    .map(Number);
  // btrfs counts none.
  return { size, used, files: Number.isFinite(files) ? files : 0 };
}

/** What ends the copy, in words of rsync. */
function failure(exitCode: number | undefined, stderr: string): LockerdError {
  const words = stderr
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .slice(0, 3)
    .join('; ');
  return new LockerdError('Failed', `rsync failed (${exitCode ?? 'killed'}): ${words}`);
}

/** Each file system of the ext family has its own. */
const ofFileSystem = '/lost+found';

/** A directory of this host, or a device with a file system, and where it is to be at the target. */
export interface CopiedTree {
  readonly from: string;
  /** Absolute path. */
  readonly to: string;
  /** Paths in it, with a slash in front, that stay as they are at the target. */
  readonly excluded: readonly string[];
}

export interface CopyHow {
  /** Of the ssh connection, see ssh.ts. */
  readonly socket: string;
  /** Whether nothing changes the directory, so that any doubt is a failure. */
  readonly isAtRest: boolean;
  readonly report: (progress: CopyProgress) => void;
}

/** Runs rsync(1), with paths on its standard input or nothing. @returns its exit status; throws Failed */
async function runRsync(
  { from, to, excluded }: CopiedTree,
  { socket, isAtRest, report }: CopyHow,
  options: readonly string[],
  input = '',
): Promise<number> {
  // Only the connection that is there is used: this ssh knows neither hosts nor keys.
  const ssh = 'ssh -F none -S /socket -o ControlMaster=no -o ProxyCommand=false -o BatchMode=yes';
  const rsync = [
    ...['rsync', '--archive', '--hard-links', '--acls', '--xattrs', '--sparse', '--numeric-ids'],
    // By default, what was written in the second in which a file was copied would be the same to it.
    '--modify-window=-1',
    ...[ofFileSystem, ...excluded].map((path) => `--exclude=${path}`),
    ...['--one-file-system', '--secluded-args', '--info=progress2', '--outbuf=N', ...options],
    ...[`--rsh=${ssh}`, '/tree/', `target:${to}/`],
  ];
  const { program, args } = inJail(
    { directory: from, name: 'tree', isReadOnly: true, socket },
    rsync,
  );
  const child = execa(program, args, {
    reject: false,
    input: Buffer.from(input, 'latin1'),
    env: { LC_ALL: 'C' },
    buffer: { stdout: false, stderr: true },
    maxBuffer: 1024 * 1024,
  });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const progress = parseProgress(text.split('\r').at(-1) ?? '');
    if (progress !== undefined) report(progress);
  });
  const { failed, exitCode, stderr } = await child;
  if (!failed) return 0;
  if (!isAtRest && exitCode !== undefined && ofChange.includes(exitCode)) return exitCode;
  throw failure(exitCode, stderr);
}

/**
 * Makes what is at the target equal to a directory of this host.
 * @returns whether all of it was copied that was not removed meanwhile
 * @throws {LockerdError} Failed
 */
export async function copyTree(tree: CopiedTree, how: CopyHow): Promise<boolean> {
  return (await runRsync(tree, how, ['--delete'])) !== someFailed;
}

/** Paths as rsync(1) reads them with --from0. A dot in front keeps one from being a comment. */
const listOf = (paths: readonly string[], end: string): string =>
  paths.map((path) => `./${path}${path === '' ? '' : end}\0`).join('');

/**
 * Does the same where all but some files and directories is equal already.
 * @throws {LockerdError} Failed
 */
export async function copyChange(
  tree: CopiedTree,
  how: CopyHow,
  { files, directories }: TreeChange,
): Promise<void> {
  // What is named in full, rsync copies also out of a directory that is excluded.
  const isCopied = (path: string): boolean =>
    ![ofFileSystem, ...tree.excluded].some((out) => isAtOrBelow(`/${path}`, out));
  const listed = ['--from0', '--files-from=-'];
  // By their contents, whatever their size and mtime are. One may be where a directory was.
  const byContent = [...listed, '--ignore-times', '--force'];
  const ofFiles = files.filter(isCopied);
  if (ofFiles.length > 0) await runRsync(tree, how, byContent, listOf(ofFiles, ''));
  // Each for itself, with the names in it: what has gone, and times, owners and modes.
  const ofNames = [...listed, '--dirs', '--delete'];
  const changed = directories.filter(isCopied);
  if (changed.length > 0) await runRsync(tree, how, ofNames, listOf(changed, '/'));
}
