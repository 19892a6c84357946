/** "lockerctl export": writes a container into a file. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  createWriteStream,
  fsyncSync,
  lstatSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { basename, dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { ContainerView } from '../helper/view.ts';
import { lxcEnvironment, statusOf } from '../helper/lxc.ts';
import { syncDirectory } from '../host/write-file.ts';
import { LockerdError } from '../model/errors.ts';
import { isAtOrBelow } from '../model/path.ts';
import { freezeWatched, thawMarked } from '../move/frozen.ts';
import { inJail } from '../move/jail.ts';
import { withMoveLock } from '../move/lock.ts';
import type { MoveReport } from '../move/mover.ts';
import { sizeOf } from '../move/receiver.ts';
import { readRecord } from '../move/record.ts';
import { run, startOf } from '../move/run.ts';
import { readMovable, type Movable } from '../move/source-facts.ts';
import { ArchiveReader } from './check-tar.ts';
import { compressorFor } from './compress.ts';
import { formatManifest, memberOf, members, type Manifest } from './format.ts';

export interface ExportResult {
  readonly container: string;
  readonly file: string;
  /** Of the file. */
  readonly bytes: number;
  readonly files: number;
  /** SHA-256 that is in the archive. */
  readonly checksum: string;
  readonly warnings: readonly string[];
}

/** With one block a record, tar ends with two blocks and nothing more. */
const endBytes = 1024;

const tarOptions = [
  ...['--create', '--file=-', '--format=posix', '--pax-option=delete=atime,delete=ctime'],
  ...['--blocking-factor=1', '--numeric-owner', '--acls', '--xattrs', '--xattrs-include=*'],
  ...['--sparse', '--one-file-system', '--warning=no-file-ignored', '--directory=/'],
];

interface Tar {
  readonly output: AsyncIterable<Buffer>;
  /** Throws Failed unless it has read all. */
  readonly end: () => Promise<void>;
}

function startTar(directory: string): Tar {
  const { program, args } = inJail({ directory, name: members.tree, isReadOnly: true }, [
    'tar',
    ...tarOptions,
    members.tree,
  ]);
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: lxcEnvironment,
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, 2000);
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  return {
    output: child.stdout as AsyncIterable<Buffer>,
    end: async () => {
      const [status] = await closed;
      if (status === 0) return;
      const words = complaint.trim().split('\n').slice(0, 3).join('; ');
      throw new LockerdError('Failed', `tar failed (${status ?? 'killed'}): ${words}`);
    },
  };
}

/** What tar writes, without the blocks at its end. */
async function* withoutEnd(output: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let held: Buffer = Buffer.alloc(0);
  for await (const chunk of output) {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    if (held.length <= endBytes) continue;
    yield held.subarray(0, held.length - endBytes);
    held = Buffer.from(held.subarray(held.length - endBytes));
  }
  if (held.length === endBytes && held.every((byte) => byte === 0)) return;
  throw new LockerdError('Failed', 'tar has not written to its end');
}

/** All bytes of an archive. What an import would refuse is not written. */
async function* archiveOf(
  manifest: Manifest,
  directory: string,
  reader: ArchiveReader,
  progress: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  const first = memberOf(members.manifest, Buffer.from(formatManifest(manifest)));
  reader.push(first);
  yield first;
  const tar = startTar(directory);
  let bytes = 0;
  try {
    for await (const chunk of withoutEnd(tar.output)) {
      reader.push(chunk);
      yield chunk;
      progress((bytes += chunk.length));
    }
  } catch (error) {
    // What tar says is the reason where its end is missing.
    await tar.end();
    throw error;
  }
  await tar.end();
  const last = memberOf(members.checksum, Buffer.from(`${reader.digest()}\n`));
  reader.push(last);
  reader.end();
  yield Buffer.concat([last, Buffer.alloc(endBytes)]);
}

/** Writes chunks into a descriptor, by a program that makes them smaller where the name of the file says so. */
async function write(chunks: AsyncIterable<Buffer>, fd: number, path: string): Promise<void> {
  const filter = compressorFor(path);
  if (filter === undefined) {
    await pipeline(chunks, createWriteStream('', { fd, autoClose: false }));
    return;
  }
  const [program, ...args] = filter;
  const child = spawn(program, args, { stdio: ['pipe', fd, 'pipe'] });
  const { stdin, stderr } = child;
  if (stdin === null || stderr === null) throw new Error('a pipe is missing');
  let complaint = '';
  stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, 2000);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const [written, status] = await Promise.allSettled([pipeline(chunks, stdin), ended]);
  if (status.status === 'rejected') {
    throw new LockerdError('Failed', `there is no ${program}; install it`, {
      cause: status.reason,
    });
  }
  // A reason of ours is better than that of a program that got no more.
  if (written.status === 'rejected' && written.reason instanceof LockerdError) throw written.reason;
  if (status.value !== 0) throw new LockerdError('Failed', `${program} failed: ${complaint}`);
  if (written.status === 'rejected') throw written.reason;
}

/** The file as its directory has it. Throws Failed for one that cannot be written. */
function checkFile(file: string, { directory }: Movable): string {
  let parent: string;
  try {
    parent = realpathSync(dirname(file));
  } catch (error) {
    throw new LockerdError('Failed', `there is no directory ${dirname(file)}`, { cause: error });
  }
  const path = `${parent === '/' ? '' : parent}/${basename(file)}`;
  if (isAtOrBelow(parent, realpathSync(directory))) {
    throw new LockerdError('Failed', `${path} would be a part of what is exported`);
  }
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
    throw new LockerdError('Failed', `there is ${path} already; remove it, or take another name`);
  }
  return path;
}

/** Calls `use` with a descriptor of a new file, which has the name when all is on the disk, and not before. */
async function writeWhole(path: string, use: (fd: number) => Promise<void>): Promise<number> {
  const part = `${path}.part`;
  // Of an export that was killed.
  if (lstatSync(part, { throwIfNoEntry: false })?.isFile() === true) rmSync(part);
  const fd = openSync(part, 'wx', 0o600);
  try {
    await use(fd);
    fsyncSync(fd);
    const { size } = lstatSync(part);
    renameSync(part, path);
    syncDirectory(dirname(path));
    return size;
  } catch (error) {
    rmSync(part, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** Whether the guest runs, frozen or not. Throws Failed for one that would write meanwhile. */
async function checkState(view: ContainerView, isFreezing: boolean): Promise<boolean> {
  const { state } = await statusOf(view);
  if (state === 'STOPPED') return false;
  if (state === 'FROZEN' || (state === 'RUNNING' && isFreezing)) return true;
  const remedy =
    'stop it first, or have it stand still meanwhile with --freeze, which is as if its power had failed';
  throw new LockerdError('Failed', state === 'RUNNING' ? `it runs; ${remedy}` : `it is ${state}`);
}

/** Calls `use` while the guest stands still, or does not run. Throws Failed if it ran meanwhile. */
async function atRest<T>(
  { name, view }: Movable,
  isFreezing: boolean,
  use: (wasRunning: boolean) => Promise<T>,
): Promise<T> {
  const wasRunning = await checkState(view, isFreezing);
  const before = await startOf(name);
  if (wasRunning) await freezeWatched(view);
  try {
    const result = await use(wasRunning);
    const { state } = await statusOf(view);
    if (state === (wasRunning ? 'FROZEN' : 'STOPPED') && before === (await startOf(name))) {
      return result;
    }
    throw new LockerdError('Failed', 'it has run while its files were read');
  } finally {
    await thawMarked(name);
  }
}

function manifestOf(movable: Movable, lxc: string, wasRunning: boolean): Manifest {
  const { name, directory, rootfs, config, needs, idmaps, lockers, autostart } = movable;
  const { belongings } = movable;
  const what = { name, lxc, directory, rootfs, config, needs, idmaps, lockers, autostart };
  return { ...what, wasRunning, belongings };
}

const lockWaitSec = 5;

/**
 * Writes a container of this host into a new file.
 * @param isFreezing lets a guest that runs stand still meanwhile
 * @throws {LockerdError} NoSuchContainer, or Failed; then there is no such file
 */
export function exportContainer(
  name: string,
  file: string,
  isFreezing: boolean,
  report: MoveReport,
): Promise<ExportResult> {
  return withMoveLock(name, lockWaitSec, async () => {
    const phase = readRecord(name)?.phase;
    if (phase !== undefined && phase !== 'moved' && phase !== 'paused') {
      throw new LockerdError('Failed', `a move of it has not ended; undo it with "move --abort"`);
    }
    const movable = readMovable(name);
    if (movable.volume !== undefined) {
      throw new LockerdError(
        'Failed',
        'its root file system is a volume; these are not exported yet',
      );
    }
    const path = checkFile(file, movable);
    const total = (await sizeOf(movable.directory)).bytes;
    const lxc = (await run('lxc-start', ['--version'])).trim();
    for (const warning of movable.warnings) report.warn(warning);
    const reader = new ArchiveReader({ manifest: () => undefined });
    const began = performance.now();
    const bytes = await atRest(movable, isFreezing, (wasRunning) =>
      writeWhole(path, async (fd) => {
        const manifest = manifestOf(movable, lxc, wasRunning);
        const chunks = archiveOf(manifest, movable.directory, reader, (done) => {
          const rate = (done * 1000) / Math.max(1, performance.now() - began);
          report.progress('writing', { bytes: done, total, rate });
        });
        await write(chunks, fd, path);
      }),
    );
    const { checksum = '', size } = reader;
    const { warnings } = movable;
    return { container: name, file: path, bytes, files: size.files, checksum, warnings };
  });
}
