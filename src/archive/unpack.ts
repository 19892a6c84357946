/** "lockerctl import-archive": makes a container of a file that an export has written. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  createReadStream,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  rmdirSync,
  statfsSync,
} from 'node:fs';
import { lxcEnvironment } from '../helper/lxc.ts';
import { replaceFile } from '../host/replace-file.ts';
import { LockerdError } from '../model/errors.ts';
import { startWatch } from '../move/frozen.ts';
import { release } from '../move/guard.ts';
import { Incoming } from '../move/incoming.ts';
import { inJail } from '../move/jail.ts';
import { withMoveLock } from '../move/lock.ts';
import { NotMovable, type MoveReport } from '../move/mover.ts';
import { abortIncoming, hostLxcpath, installIncoming } from '../move/receiver.ts';
import { run } from '../move/run.ts';
import { checkTarget, isName } from '../move/target-checks.ts';
import { ArchiveReader } from './check-tar.ts';
import { decompressorOf } from './compress.ts';
import { parseManifest, type Manifest } from './format.ts';
import { relocateConfig, relocatePaths, type Relocation } from './relocate.ts';

export interface ImportResult {
  readonly container: string;
  /** The name that it had where it was exported. */
  readonly original: string;
  /** False for what only was looked at. */
  readonly imported: boolean;
  readonly bytes: number;
  readonly files: number;
  readonly checksum: string;
  readonly warnings: readonly string[];
}

/** What an archive has, once all of it was read. */
interface Contents {
  readonly manifest: Manifest;
  readonly checksum: string;
  readonly files: number;
  readonly bytes: number;
}

/** The bytes of an archive as they were before they were made smaller. */
async function* bytesOf(path: string, onRead: (bytes: number) => void): AsyncGenerator<Buffer> {
  const filter = decompressorOf(path);
  const source = createReadStream(path, { highWaterMark: 1024 * 1024 });
  let bytes = 0;
  source.on('data', (chunk) => {
    onRead((bytes += chunk.length));
  });
  if (filter === undefined) {
    yield* source as AsyncIterable<Buffer>;
    return;
  }
  const [program, ...args] = filter;
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, 2000);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  }).catch((error: unknown) => {
    throw new LockerdError('Failed', `there is no ${program}; install it`, { cause: error });
  });
  ended.catch(() => undefined);
  child.stdin.on('error', () => undefined);
  source.pipe(child.stdin);
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
  } finally {
    source.destroy();
    child.kill();
  }
  const status = await ended;
  if (status !== 0) throw new LockerdError('Failed', `${program} failed: ${complaint.trim()}`);
}

/** Reads an archive to its end. @param room bytes that the tree may take */
async function readAll(
  path: string,
  room: number,
  onRead: (bytes: number) => void,
): Promise<Contents & { readonly reader: ArchiveReader }> {
  let manifest: Manifest | undefined;
  const reader = new ArchiveReader({ manifest: (text) => (manifest = parseManifest(text)) });
  for await (const chunk of bytesOf(path, onRead)) {
    reader.push(chunk);
    if (reader.size.bytes > room) {
      throw new LockerdError('Failed', 'its files take more than there is room for');
    }
  }
  reader.end();
  const { checksum, size } = reader;
  if (manifest === undefined || checksum === undefined) throw new Error('nothing was read');
  return { manifest, checksum, ...size, reader };
}

/** Throws Failed unless tar has unpacked all of it without a word. */
async function unpack(
  path: string,
  directory: string,
  checksum: string,
  onRead: (bytes: number) => void,
): Promise<void> {
  const tar = [
    ...['tar', '--extract', '--file=-', '--directory=/tree', '--keep-old-files', '--numeric-owner'],
    ...['--same-owner', '--preserve-permissions', '--acls', '--xattrs', '--xattrs-include=*'],
    ...['--delay-directory-restore', '--warning=no-timestamp'],
  ];
  const { program, args } = inJail({ directory, name: 'tree', isReadOnly: false }, tar);
  const child = spawn(program, args, {
    stdio: ['pipe', 'ignore', 'pipe'],
    env: lxcEnvironment,
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, 2000);
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  child.stdin.on('error', () => undefined);
  let waiting: Buffer[] = [];
  const reader = new ArchiveReader({
    manifest: () => undefined,
    tree: (bytes) => waiting.push(bytes),
  });
  try {
    for await (const chunk of bytesOf(path, onRead)) {
      reader.push(chunk);
      const bytes = Buffer.concat(waiting);
      waiting = [];
      if (hasEnded()) break;
      if (bytes.length > 0 && !child.stdin.write(bytes)) {
        await Promise.race([once(child.stdin, 'drain'), closed]);
      }
    }
    if (!hasEnded()) {
      reader.end();
      child.stdin.end(Buffer.alloc(1024));
    }
  } finally {
    // What has been refused must not look like an end to tar.
    if (reader.checksum === undefined && !hasEnded()) child.kill('SIGKILL');
  }
  const [status] = await closed;
  if (status !== 0 || complaint !== '') {
    const words = complaint.trim().split('\n').slice(0, 3).join('; ');
    throw new LockerdError('Failed', `tar failed (${status ?? 'killed'}): ${words}`);
  }
  if (reader.checksum !== checksum) {
    throw new LockerdError('Failed', `${path} was changed while it was read`);
  }
}

/** Changes files of the unpacked container that name its old place or name. Nobody else can reach them yet. */
function relocateFiles(copy: string, relocation: Relocation, fstab: string | undefined): void {
  const change = (path: string, edit: (text: string) => string): void => {
    if (lstatSync(path, { throwIfNoEntry: false })?.isFile() !== true) return;
    const before = readFileSync(path, 'latin1');
    const after = edit(before);
    if (after !== before) replaceFile(path, Buffer.from(after, 'latin1'));
  };
  change(`${copy}/config`, (text) => relocateConfig(text, relocation));
  if (fstab !== undefined) change(`${copy}/${fstab}`, (text) => relocatePaths(text, relocation));
}

/** The file of mounts that lies in the container's directory, by its name there. */
function ownFstab(config: string, directory: string): string | undefined {
  const [, path = ''] = /^lxc\.mount(?:\.fstab)? = "(.*)"$/m.exec(config) ?? [];
  const name = path.startsWith(`${directory}/`) ? path.slice(directory.length + 1) : '';
  return /^[^/]+$/.test(name) && name !== '..' ? name : undefined;
}

interface Plan {
  readonly contents: Contents;
  readonly relocation: Relocation;
  readonly warnings: readonly string[];
}

/** Looks at everything and changes nothing. Throws NotMovable. */
async function check(
  path: string,
  newName: string | undefined,
  onRead: (bytes: number) => void,
): Promise<Plan> {
  const lxcpath = hostLxcpath();
  const lxc = (await run('lxc-start', ['--version'])).trim();
  const { bsize, bavail } = statfsSync(lxcpath);
  const { reader, ...contents } = await readAll(path, bsize * bavail, onRead);
  const { manifest, bytes, files } = contents;
  const name = newName ?? manifest.name;
  if (!isName(name)) {
    throw new NotMovable([`"${name}" cannot be the name of a container; take --name=NEW`]);
  }
  if (manifest.rootfs !== '' && !reader.hasDirectory(manifest.rootfs)) {
    throw new NotMovable([`the archive has no root file system "${manifest.rootfs}"`]);
  }
  const relocation = {
    from: { name: manifest.name, directory: manifest.directory },
    to: { name, directory: `${lxcpath}/${name}` },
  };
  const { needs, idmaps, lockers } = manifest;
  const config = relocateConfig(manifest.config, relocation);
  const size = { bytes, files, leftBytes: 0, leftFiles: 0 };
  const id = randomBytes(8).toString('hex');
  const asked = { id, name, config, needs, idmaps, lockers, ...size };
  const { problems, warnings } = checkTarget(asked, lxcpath);
  if (problems.length > 0) throw new NotMovable(problems);
  const others =
    manifest.lxc === lxc ? [] : [`it ran with LXC ${manifest.lxc}, and here is ${lxc}`];
  return { contents, relocation, warnings: [...warnings, ...others] };
}

/** Unpacks into a directory of its own, and gives that the name. Throws Failed; then nothing has the name. */
async function install(
  path: string,
  { contents, relocation }: Plan,
  onRead: (bytes: number) => void,
): Promise<void> {
  const { manifest, checksum } = contents;
  const { name } = relocation.to;
  await startWatch(name);
  const incoming = Incoming.make(hostLxcpath(), randomBytes(8).toString('hex'), name);
  try {
    // tar makes it, and nothing may be there before.
    rmdirSync(incoming.copy);
    await unpack(path, incoming.directory, checksum, onRead);
    relocateFiles(incoming.copy, relocation, ownFstab(manifest.config, manifest.directory));
    await run('sync', ['--file-system', '--', incoming.copy]);
    await installIncoming(incoming, manifest.belongings, manifest.autostart);
    release(name);
    incoming.finish();
  } catch (error) {
    await abortIncoming(incoming);
    const why = error instanceof Error ? error.message : String(error);
    const what = `what was unpacked is left in ${incoming.directory}, which you can remove`;
    throw new LockerdError('Failed', `${why}\n${what}`, { cause: error });
  }
}

const lockWaitSec = 5;

/**
 * Makes a container of an archive.
 * @param newName another name than it had
 * @throws {LockerdError} Failed or NotMovable; then there is no such container
 */
export async function importArchive(
  path: string,
  newName: string | undefined,
  isDry: boolean,
  report: MoveReport,
): Promise<ImportResult> {
  const fd = openSync(path, 'r');
  const stat = fstatSync(fd);
  closeSync(fd);
  if (!stat.isFile()) throw new LockerdError('Failed', `${path} is no file`);
  const progress = (step: string): ((bytes: number) => void) => {
    const began = performance.now();
    return (bytes) => {
      const rate = (bytes * 1000) / Math.max(1, performance.now() - began);
      report.progress(step, { bytes, total: stat.size, rate });
    };
  };
  const plan = await check(path, newName, progress('reading'));
  const { contents, relocation, warnings } = plan;
  for (const warning of warnings) report.warn(warning);
  const { name } = relocation.to;
  if (!isDry) {
    await withMoveLock(name, lockWaitSec, () => install(path, plan, progress('unpacking')));
  }
  const { manifest, bytes, files, checksum } = contents;
  const what = { container: name, original: manifest.name, bytes, files, checksum };
  return { ...what, imported: !isDry, warnings };
}
