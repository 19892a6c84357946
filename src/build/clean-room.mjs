// The tree of Debian 13 in which the package is built: cached, made by quickjs/toolchain.sh, and never
// changed. What runs in it sees a copy of its own that ends with it, and no network.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const unusedDays = 3;

const recipe = fileURLToPath(new URL('quickjs/toolchain.sh', import.meta.url));

/**
 * A program's output; the error of a program that fails has its output too.
 * @param {string} command
 * @param {string[]} args
 */
export function run(command, ...args) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (error !== undefined) throw new Error(`${command} cannot be run: ${error.message}`);
  if (status !== 0) throw new Error(`${command} failed:\n${stdout}${stderr}`);
  return stdout;
}

/** The tree, which is built when its recipe has changed (some minutes). */
export function buildRoot() {
  if (!['x64', 'arm64'].includes(process.arch)) throw new Error(`not for ${process.arch}`);
  if (process.getuid?.() !== 0) throw new Error('only root can make the tree with the compiler');
  const key = createHash('sha256').update(readFileSync(recipe)).update(process.arch).digest('hex');
  const caches = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const directory = join(caches, 'lockerd-build');
  const tree = join(directory, key.slice(0, 16));
  if (!existsSync(tree)) {
    mkdirSync(directory, { recursive: true });
    process.stderr.write('build: installing the compiler and debhelper in a tree, once\n');
    const lock = join(directory, 'lock');
    // Somebody else may have built it meanwhile.
    run('flock', lock, 'sh', '-c', '[ -d "$2" ] || exec bash "$1" "$2"', 'sh', recipe, tree);
    removeUnused(directory);
  }
  const now = new Date();
  utimesSync(tree, now, now);
  return tree;
}

/**
 * Removes trees of other recipes; other checkouts may still build in one.
 * @param {string} directory
 */
function removeUnused(directory) {
  for (const other of readdirSync(directory)) {
    const tree = join(directory, other);
    const isTree = /^[0-9a-f]{16}$/.test(other);
    if (!isTree || Date.now() - statSync(tree).mtimeMs < unusedDays * 86_400_000) continue;
    rmSync(tree, { recursive: true });
  }
}

/** Ends with its mounts, its processes and all that it changed in the tree. */
const enter = `
mount -t tmpfs -o mode=755 clean-room /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" clean-room /mnt/root
mount -t proc proc /mnt/root/proc
mkdir /mnt/root/work
mount --bind "$2" /mnt/root/work
script=$3
shift 3
cd /mnt/root/work
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/nonexistent \
  chroot /mnt/root sh -euc "cd /work; $script" sh "$@"`;

/**
 * Runs a shell script as root in a clean copy of the tree.
 * @param {string} directory the script's /work; all else that it writes is lost
 * @param {string} script
 * @param {string[]} args
 */
export function inCleanRoom(directory, script, ...args) {
  const namespaces = ['--mount', '--net', '--pid', '--ipc', '--uts', '--fork', '--kill-child'];
  return run(
    'unshare',
    ...namespaces,
    ...['sh', '-euc', enter, 'sh', buildRoot(), directory, script, ...args],
  );
}
