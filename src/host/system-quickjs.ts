/** The operating system as QuickJS shows it, for the compiled generator; see system-calls.ts. */
import * as os from 'quickjs:os';
import * as std from 'quickjs:std';
import { decodeUtf8 } from '../model/utf8.ts';
import { errnoName } from './errno-names.ts';
import type { Content, Encoding, Status, System, Watched, WatchedRun } from './system-calls.ts';
import { doneNote, typeOf } from './system-calls.ts';

const O_WRONLY = 0o1;
const O_RDWR = 0o2;
const O_NOCTTY = 0o400;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
// These two are different on the two processors.
const O_DIRECTORY = LOCKERD_ARCHITECTURE === 'arm64' ? 0o40000 : 0o200000;
const O_NOFOLLOW = LOCKERD_ARCHITECTURE === 'arm64' ? 0o100000 : 0o400000;
const ENOENT = 2;
const O_TMPFILE = 0o20000000 | O_DIRECTORY;

const SEEK_SET = 0;
const SIGKILL = 9;
const EIO = 5;
const EEXIST = 17;
const EISDIR = 21;
const EINVAL = 22;

/** What is opened here never waits for another program and never becomes our terminal. */
const quietly = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
/** A guest may put a symbolic link in the place of a directory at any time. */
const inside = O_NOFOLLOW | O_NONBLOCK;

function fail(errno: number, path: string): never {
  // Many paths are looked for in vain, and the engine writes a backtrace into each new error.
  if (errno === ENOENT) throw absent;
  throw failure(errnoName(errno), path);
}

function failure(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

const absent = failure('ENOENT', 'there is no such file');

/** Throws for what the functions of `os` answer where they fail. */
function check(result: number, path: string): number {
  return result < 0 ? fail(-result, path) : result;
}

function stat(path: string): Status {
  const status = fileStatus(path, true);
  return typeof status === 'number' ? fail(status, path) : status;
}

/** Methods of newer engines than Node 18. */
interface Formed {
  readonly isWellFormed: () => boolean;
  readonly toWellFormed: () => string;
}

/** Half a surrogate pair is no character, and has no UTF-8. */
function wellFormed(text: string): string {
  const formed = text as unknown as Formed;
  return formed.isWellFormed() ? text : formed.toWellFormed();
}

function targetOf(path: string): string | null | undefined {
  const target = linkTarget(path);
  if (typeof target === 'string') return target;
  if (target === EINVAL) return null;
  return target === ENOENT ? undefined : fail(target, path);
}

function names(path: string): string[] {
  const all = directoryNames(path);
  return typeof all === 'number' ? fail(all, path) : all;
}

/** Reads an open file and closes it. */
function use<T>(path: string, fd: number, reading: (file: std.File) => T): T {
  const file = std.fdopen(fd, 'r', {});
  if (file === null) {
    os.close(fd);
    return fail(EIO, path);
  }
  try {
    const result = reading(file);
    // It does not say which one.
    if (file.error()) fail(EIO, path);
    return result;
  } finally {
    file.close();
  }
}

function read(
  path: string,
  maxBytes: number,
  encoding: Encoding,
  isInside = false,
): Content | Status | 'too large' {
  const flags = quietly | (isInside ? inside : 0);
  const found = fileContent(path, flags, maxBytes, encoding === 'utf8');
  if (typeof found === 'number') return fail(found, path);
  return 'mode' in found || 'text' in found ? found : 'too large';
}

/** Makes a file or link, in the place of another one if need be. */
function make(path: string, content: string, create: Maker): void {
  let errno = create(path, content);
  if (errno === EEXIST) {
    const status = fileStatus(path, false);
    if (typeof status === 'object' && typeOf(status) === 'directory') fail(EISDIR, path);
    os.remove(path);
    errno = create(path, content);
  }
  if (errno !== 0) fail(errno, path);
}

/** Answers an errno, or 0. */
type Maker = (path: string, content: string) => number;

function newLink(path: string, target: string): number {
  return -os.symlink(target, path);
}

/** What a program writes until it ends; it sees to it itself that it ends in time. */
function outputOf(command: readonly string[]): string | undefined {
  const ends = os.pipe();
  if (ends === null) return undefined;
  const [from, to] = ends;
  const pid = os.exec([...command], { block: false, usePath: false, stdout: to });
  os.close(to);
  const text = use('pipe', from, (file) => file.readAsString());
  if (pid < 0) return undefined;
  os.waitpid(pid, 0);
  return text;
}

/** The note in a file, from its beginning to the end of the line. */
function readNote(fd: number, buffer: ArrayBuffer): string {
  os.seek(fd, 0, SEEK_SET);
  const count = os.read(fd, buffer, 0, buffer.byteLength);
  const bytes = new Uint8Array(buffer, 0, Math.max(count, 0));
  const end = bytes.indexOf(0x0a);
  return decodeUtf8(String.fromCharCode(...bytes.subarray(0, Math.max(end, 0))));
}

/** Waits for a process as long as it is let; its exit status, or its last note. */
function watch(pid: number, notes: number, { stallMs, totalMs }: WatchedRun): Watched {
  const buffer = new ArrayBuffer(8192);
  const start = os.now();
  let since = start;
  let last = '';
  for (let pause = 1; ; pause = Math.min(pause + 1, 20)) {
    os.sleep(pause);
    const [ended, status] = os.waitpid(pid, os.WNOHANG);
    if (ended === pid) return { status: (status & 0x7f) === 0 ? status >> 8 : -1 };
    const now = os.now();
    const note = readNote(notes, buffer);
    if (note !== last) {
      last = note;
      since = now;
    }
    if (now - start > totalMs || (last !== doneNote && now - since > stallMs)) break;
  }
  os.kill(pid, SIGKILL);
  return { note: last };
}

function runWatched(run: WatchedRun): Watched {
  const to = os.open(run.directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0o600);
  if (to < 0) return { status: -1 };
  // The two do not share where they are in the file.
  const notes = os.open(`/proc/self/fd/${to}`, O_CLOEXEC);
  const env = { ...std.getenviron(), ...run.environment };
  const command = ['/proc/self/exe', ...run.args];
  const pid = os.exec(command, { block: false, usePath: false, stdout: to, env });
  const result: Watched = pid < 0 || notes < 0 ? { status: -1 } : watch(pid, notes, run);
  os.close(to);
  os.close(notes);
  return result;
}

export const system: System = {
  stat,
  find: (path) => {
    const status = fileStatus(path, true);
    return typeof status === 'number' ? undefined : status;
  },
  lstat: (path) => {
    const status = fileStatus(path, false);
    return typeof status === 'number' ? fail(status, path) : status;
  },
  identity: (path) => {
    const { dev, ino } = stat(path);
    return `${dev}:${ino}`;
  },
  readlink: (path) => targetOf(path) ?? fail(ENOENT, path),
  linkTarget: targetOf,
  names,
  openDirectory: (path, isInside) =>
    check(os.open(path, O_DIRECTORY | O_CLOEXEC | (isInside ? inside : 0)), path),
  close: os.close,
  read,

  write: (path, text) => {
    make(path, wellFormed(text), newFile);
  },
  makeDirectory: (path) => {
    check(os.mkdir(path, 0o755), path);
  },
  symlink: (target, path) => {
    make(path, target, newLink);
  },
  remove: os.remove,
  print: (to, text) => {
    const file = to === 'output' ? std.out : std.err;
    file.puts(wellFormed(text));
    file.flush();
  },
  openRecords: (path) => {
    const fd = os.open(path, O_WRONLY | quietly);
    return fd < 0 ? undefined : fd;
  },
  writeRecord: (fd, bytes) => {
    const { buffer } = Uint8Array.from(bytes);
    os.write(fd, buffer, 0, buffer.byteLength);
  },

  now: os.now,
  runWatched,
  note: (text) => {
    std.out.seek(0, SEEK_SET);
    std.out.puts(`${text}\n`);
    std.out.flush();
  },
  outputOf,
};
