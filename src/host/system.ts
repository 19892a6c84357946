/** The operating system as Node shows it; see system-calls.ts. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  opendirSync,
  openSync,
  readlinkSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { codeOf } from '../model/errno.ts';
import type { Encoding, System, Watched, WatchedRun } from './system-calls.ts';
import { doneNote } from './system-calls.ts';

/** What is opened here never waits for another program and never becomes our terminal. */
const quietly = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
const directoryOnly = constants.O_RDONLY | constants.O_DIRECTORY;
/** A guest may put a symbolic link in the place of a directory at any time. */
const directoryInside = directoryOnly | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Reads to the end; a file may grow meanwhile, and those of the kernel do not tell their size. */
function readAll(fd: number, size: number, maxBytes: number): Buffer | undefined {
  let bytes = Buffer.allocUnsafe(size + 1);
  let length = 0;
  for (;;) {
    const read = readSync(fd, bytes, length, bytes.length - length, null);
    if (read === 0) return bytes.subarray(0, length);
    length += read;
    if (length > maxBytes) return undefined;
    if (length === bytes.length) {
      const larger = Buffer.allocUnsafe(Math.min(maxBytes, length * 2 + 4096) + 1);
      bytes.copy(larger, 0, 0, length);
      bytes = larger;
    }
  }
}

function read(
  path: string,
  maxBytes: number,
  encoding: Encoding,
  inside = false,
): ReturnType<System['read']> {
  const fd = openSync(path, quietly | (inside ? constants.O_NOFOLLOW : 0));
  try {
    const status = fstatSync(fd);
    if (!status.isFile()) return status;
    if (status.size > maxBytes) return 'too large';
    const bytes = readAll(fd, status.size, maxBytes);
    if (bytes === undefined) return 'too large';
    const text = bytes.toString(encoding === 'utf8' ? 'utf8' : 'latin1');
    return { text, bytes: bytes.length };
  } finally {
    closeSync(fd);
  }
}

/** Names as the directory has them, which is the order of LXC; readdirSync would sort them. */
function names(path: string): string[] {
  const found: string[] = [];
  const directory = opendirSync(path);
  try {
    for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
      found.push(entry.name);
    }
  } finally {
    directory.closeSync();
  }
  return found;
}

/** Makes a file or link, in the place of another one if need be. */
function make<T>(path: string, create: () => T): T {
  try {
    return create();
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
    if (lstatSync(path).isDirectory()) {
      throw Object.assign(new Error(`EISDIR: ${path}`), { code: 'EISDIR' });
    }
    rmSync(path);
    return create();
  }
}

function write(path: string, text: string): void {
  const fd = make(path, () => openSync(path, 'wx', 0o644));
  try {
    writeFileSync(fd, text);
  } catch (error) {
    // Nobody is to read half of it.
    rmSync(path);
    throw error;
  } finally {
    closeSync(fd);
  }
}

/**
 * The watcher of a run. Node has no way to wait for a process and for a time: it would wait for the
 * end of what it has started.
 */
const watcher = `
use strict;
use Fcntl;
# Time::HiRes is not in perl-base.
sub now {
    open my $uptime, '<', '/proc/uptime' or return time;
    return (split ' ', <$uptime>)[0];
}
my ($directory, $stall, $total, $done, @command) = @ARGV;
my $path = "$directory/.lockerd-$$";
sysopen my $notes, $path, O_RDWR | O_CREAT | O_EXCL, 0600 or exit 126;
sysopen my $seen, $path, O_RDONLY or exit 126;
unlink $path;
my $child = fork // exit 126;
unless ($child) {
    open STDOUT, '>&', $notes;
    exec { $command[0] } @command or exit 126;
}
my ($start, $since, $last) = (now(), now(), '');
for (;;) {
    if (waitpid($child, 1) == $child) { exit($? & 127 ? 125 : $? >> 8) }
    sysseek $seen, 0, 0;
    sysread $seen, my $note, 8192;
    ($note) = split /\\n/, $note;
    ($last, $since) = ($note, now()) if ($note // '') ne $last;
    last if now() - $start > $total || $last ne $done && now() - $since > $stall;
    select undef, undef, undef, 0.02;
}
kill 'KILL', $child;
print $last;
exit 124;
`;

function runWatched({ args, environment, directory, stallMs, totalMs }: WatchedRun): Watched {
  const command = [process.execPath, process.argv[1] ?? '', ...args];
  const limits = [directory, String(stallMs / 1000), String(totalMs / 1000), doneNote];
  const { status, stdout } = spawnSync(
    '/usr/bin/perl',
    ['-e', watcher, '--', ...limits, ...command],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      encoding: 'utf8',
      env: { ...process.env, ...environment },
    },
  );
  if (status === 124) return { note: stdout };
  return { status: status === null || status > 124 ? -1 : status };
}

export const system: System = {
  stat: (path) => statSync(path),
  find: (path) => {
    try {
      return statSync(path);
    } catch {
      return undefined;
    }
  },
  lstat: (path) => lstatSync(path),
  identity: (path) => {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  },
  readlink: (path) => readlinkSync(path),
  linkTarget: (path) => {
    const status = lstatSync(path, { throwIfNoEntry: false });
    if (status === undefined) return undefined;
    return status.isSymbolicLink() ? readlinkSync(path) : null;
  },
  names,
  openDirectory: (path, inside) => openSync(path, inside ? directoryInside : directoryOnly),
  close: closeSync,
  read,

  write,
  makeDirectory: (path) => {
    mkdirSync(path);
  },
  symlink: (target, path) => {
    make(path, () => {
      symlinkSync(target, path);
    });
  },
  remove: (path) => {
    rmSync(path, { force: true });
  },
  print: (to, text) => {
    process[to === 'output' ? 'stdout' : 'stderr'].write(text);
  },
  openRecords: (path) => {
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    } catch {
      return undefined;
    }
  },
  writeRecord: (fd, bytes) => {
    writeSync(fd, Uint8Array.from(bytes));
  },

  now: () => performance.now(),
  runWatched,
  note: (text) => {
    writeSync(1, `${text}\n`, 0);
  },
  outputOf: ([program = '', ...args], maxSec) => {
    const { stdout, error } = spawnSync(program, args, {
      stdio: ['ignore', 'pipe', 'ignore'],
      encoding: 'utf8',
      timeout: maxSec * 1000,
      killSignal: 'SIGKILL',
    });
    const tooSlow = error !== undefined && 'code' in error && error.code === 'ETIMEDOUT';
    return error === undefined || tooSlow ? stdout : undefined;
  },
};
