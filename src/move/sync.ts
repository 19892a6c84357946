/**
 * Copies a container's directory to the target by rsync(1), also while its guest runs. A hostile guest could
 * put symbolic links in the place of directories while rsync is on its way through them. So rsync runs in a jail,
 * and sees the socket of a connection that is there already.
 */
import { execa } from 'execa';
import { LockerdError } from '../model/errors.ts';
import { inJail } from './jail.ts';
import { run } from './run.ts';

/** How far a copy has come. */
export interface CopyProgress {
  /** Bytes of files that are the same on both ends now. */
  readonly bytes: number;
  /** Bytes a second. */
  readonly rate: number;
}

/** Exit statuses of rsync(1) that a tree which changes meanwhile can cause. */
const ofChange: readonly number[] = [23, 24];

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

/** Bytes of a file system on a device, and those that its files take. */
export async function sizeOfVolume(device: string): Promise<{ size: number; used: number }> {
  const command = ['df', '--block-size=1', '--output=size,used', '/tree'];
  const { program, args } = inJail({ directory: device, name: 'tree', isReadOnly: true }, command);
  const [size = 0, used = 0] = ((await run(program, args)).split('\n')[1] ?? '')
    .trim()
    .split(/\s+/)
    .map(Number);
  return { size, used };
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

/**
 * Makes what is at the target equal to a directory of this host.
 * @param socket of the ssh connection, see ssh.ts
 * @param destination absolute path at the target
 * @param excluded paths in it, with a slash in front, that stay as they are at the target
 * @param isAtRest whether nothing changes the directory, so that any doubt is a failure
 * @throws {LockerdError} Failed
 */
export async function copyTree(
  directory: string,
  socket: string,
  destination: string,
  isAtRest: boolean,
  excluded: readonly string[],
  report: (progress: CopyProgress) => void,
): Promise<void> {
  // Only the connection that is there is used: this ssh knows neither hosts nor keys.
  const ssh = 'ssh -F none -S /socket -o ControlMaster=no -o ProxyCommand=false -o BatchMode=yes';
  const rsync = [
    ...['rsync', '--archive', '--hard-links', '--acls', '--xattrs', '--sparse', '--numeric-ids'],
    // Each file system of the ext family has its own.
    ...['/lost+found', ...excluded].map((path) => `--exclude=${path}`),
    ...['--one-file-system', '--delete', '--secluded-args', '--info=progress2', '--outbuf=N'],
    ...[`--rsh=${ssh}`, '/tree/', `target:${destination}/`],
  ];
  const { program, args } = inJail({ directory, name: 'tree', isReadOnly: true, socket }, rsync);
  const child = execa(program, args, {
    reject: false,
    stdin: 'ignore',
    env: { LC_ALL: 'C' },
    buffer: { stdout: false, stderr: true },
    maxBuffer: 1024 * 1024,
  });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const progress = parseProgress(text.split('\r').at(-1) ?? '');
    if (progress !== undefined) report(progress);
  });
  const { failed, exitCode, stderr } = await child;
  if (!failed || (!isAtRest && ofChange.includes(exitCode ?? -1))) return;
  throw failure(exitCode, stderr);
}
