// Keeps one test host: its overlay, its cgroups, its processes. Lives exactly as long as its stdin
// stays open, so that a host vanishes with the test process however that one ends.
//
//   usage: supervisor.mjs NAME IMAGE HOSTS   (root; the caller holds a lock on HOSTS/NAME.lock)
//   stdin:  boot | crash | close, one word a line
//   stdout: one JSON object a line: {event: 'mounted' | 'leader' | 'rebooting' | 'off' | 'error', ...}

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  mountsBelow,
  must,
  removeFiles,
  report,
  reportError,
  supervise,
} from '../machines/supervise.mjs';

const cgroupRoot = '/sys/fs/cgroup';
const workDirectories = ['upper', 'work', 'root'];

/** @param {string} name */
function cgroupsOf(name) {
  const unified = fs.existsSync(`${cgroupRoot}/cgroup.controllers`);
  if (unified) return [`${cgroupRoot}/lockerd-${name}`];
  return fs
    .readdirSync(cgroupRoot, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => `${cgroupRoot}/${entry.name}/lockerd-${name}`);
}

/** @param {string} name */
function createCgroups(name) {
  for (const directory of cgroupsOf(name)) {
    fs.mkdirSync(directory, { recursive: true });
    if (!directory.startsWith(`${cgroupRoot}/cpuset/`)) continue;
    // A cpuset takes no process before it has processors and memory.
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      fs.writeFileSync(`${directory}/${file}`, fs.readFileSync(`${directory}/../${file}`));
    }
    fs.writeFileSync(`${directory}/cgroup.clone_children`, '1');
  }
}

/**
 * The cgroup and all below it, deepest first.
 * @param {string} directory
 * @returns {string[]}
 */
function cgroupTree(directory) {
  try {
    const children = fs.readdirSync(directory, { withFileTypes: true });
    return [
      ...children
        .filter((entry) => entry.isDirectory())
        .flatMap((entry) => cgroupTree(`${directory}/${entry.name}`)),
      directory,
    ];
  } catch {
    // It vanished while we looked.
    return [];
  }
}

/**
 * The text of a file that may vanish with its process or cgroup at any time.
 * @param {string} file
 */
function readOrNothing(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** @param {string} name */
function processesOf(name) {
  const found = new Set();
  for (const directory of cgroupsOf(name).flatMap(cgroupTree)) {
    // 0 stands for a process of another PID namespace: none of ours.
    const pids = readOrNothing(`${directory}/cgroup.procs`).split('\n').map(Number);
    for (const pid of pids) if (pid > 0) found.add(pid);
  }
  return [...found];
}

/** @param {number | 'self'} pid */
function pidNamespaces(pid) {
  const [, ids = ''] = /^NSpid:\s*(.*)$/m.exec(readOrNothing(`/proc/${pid}/status`)) ?? [];
  return ids.split(/\s+/).length;
}

/** @param {string} name */
async function killProcesses(name) {
  for (let round = 0; round < 400; round++) {
    const left = processesOf(name);
    if (left.length === 0) return;
    for (const cgroup of cgroupsOf(name).flatMap(cgroupTree)) {
      // A frozen process dies only after it is thawed.
      const state = `${cgroup}/freezer.state`;
      try {
        if (fs.existsSync(state)) fs.writeFileSync(state, 'THAWED');
      } catch {
        // It vanished with its last process.
      }
    }
    // A process outside the host's PID namespace (systemd-nspawn, nsenter) must outlive its child
    // inside and reap it: a zombie that nobody reaps would keep the namespace for ever.
    const inside = left.filter((pid) => pidNamespaces(pid) > pidNamespaces('self'));
    for (const pid of round < 40 && inside.length > 0 ? inside : left) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
    await sleep(25);
  }
  throw new Error(`processes of test host ${name} do not die: ${processesOf(name).join(' ')}`);
}

/** @param {string} name */
async function removeCgroups(name) {
  for (let round = 0; ; round++) {
    const left = cgroupsOf(name).flatMap(cgroupTree);
    if (left.length === 0) return;
    for (const directory of left) {
      try {
        fs.rmdirSync(directory);
      } catch (error) {
        // The kernel lets a cgroup go a moment after its last process.
        if (round > 200) throw error;
      }
    }
    if (round > 0) await sleep(25);
  }
}

/**
 * Removes all that a host left: processes, mounts, cgroups, files.
 * @param {string} directory
 */
async function tearDown(directory) {
  const name = path.basename(directory);
  await killProcesses(name);
  for (let round = 0; mountsBelow(directory).length > 0; round++) {
    for (const point of mountsBelow(directory).reverse()) {
      const lazily = round > 100 ? ['--lazy'] : [];
      const { stderr } = spawnSync('umount', [...lazily, point], { encoding: 'utf8' });
      if (stderr && round > 120) throw new Error(stderr);
    }
    if (mountsBelow(directory).length > 0) await sleep(50);
  }
  await removeCgroups(name);
  // systemd-nspawn leaves it when it is killed.
  const propagate = `/run/systemd/nspawn/propagate/${name}`;
  spawnSync('umount', ['--quiet', propagate]);
  if (fs.existsSync(propagate)) fs.rmdirSync(propagate);
  removeFiles(directory);
}

/** @param {number} container PID of systemd-nspawn */
async function findLeader(container) {
  for (let round = 0; round < 1200; round++) {
    if (!fs.existsSync(`/proc/${container}`)) return undefined;
    const children = readOrNothing(`/proc/${container}/task/${container}/children`);
    for (const pid of children.split(' ').map(Number).filter(Boolean)) {
      if (readOrNothing(`/proc/${pid}/comm`).trim() === 'systemd') return pid;
    }
    await sleep(25);
  }
  return undefined;
}

class Host {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #container;
  #closing = false;
  /** @type {Promise<void> | undefined} */
  #closed;
  #crashing = Promise.resolve();

  /**
   * @param {string} name
   * @param {string} image
   * @param {string} hosts
   */
  constructor(name, image, hosts) {
    this.name = name;
    this.image = image;
    this.directory = path.join(hosts, name);
  }

  mount() {
    const [upper, work, root] = workDirectories.map((part) => path.join(this.directory, part));
    for (const part of [upper, work, root]) fs.mkdirSync(part ?? '', { recursive: true });
    must(
      'mount',
      ...['-t', 'overlay', `lockerd-${this.name}`],
      ...['-o', `lowerdir=${this.image},upperdir=${upper},workdir=${work}`, root ?? ''],
    );
    // A shared mount would be copied into every other host that starts.
    must('mount', '--make-private', root ?? '');
    report({ event: 'mounted', root });
  }

  async boot() {
    if (this.#container) throw new Error(`test host ${this.name} is booted already`);
    createCgroups(this.name);
    const log = fs.openSync(path.join(this.directory, 'console.log'), 'a');
    const join = 'for c; do [ "$c" != -- ] || break; echo $$ > "$c/cgroup.procs"; shift; done; ';
    const nspawn = [
      'systemd-nspawn',
      ...['--quiet', '--register=no', '--keep-unit', '--private-network', '--capability=all'],
      ...['--kill-signal=SIGRTMIN+3', '--resolv-conf=off', '--timezone=off', '--link-journal=no'],
      ...[
        `--hostname=${this.name}`,
        `--machine=${this.name}`,
        '-D',
        path.join(this.directory, 'root'),
      ],
      ...['--', '/usr/local/sbin/testhost-init'],
    ];
    const args = ['-c', `${join} shift; exec "$@"`, 'sh', ...cgroupsOf(this.name), '--', ...nspawn];
    const container = spawn('sh', args, {
      detached: true,
      stdio: ['ignore', log, log],
      env: { PATH: process.env['PATH'], SYSTEMD_NSPAWN_API_VFS_WRITABLE: 'yes' },
    });
    fs.closeSync(log);
    this.#container = container;
    container.once('exit', (code, signal) => void this.#ended(code ?? 255, signal));
    const leader = await findLeader(container.pid ?? 0);
    if (leader !== undefined) report({ event: 'leader', pid: leader });
    else if (this.#container === container) throw new Error('systemd did not start');
  }

  /**
   * @param {number} code
   * @param {string | null} signal
   */
  async #ended(code, signal) {
    this.#container = undefined;
    if (this.#closing) return;
    try {
      // A boot that starts too early would have its first processes killed.
      await this.#crashing;
      await killProcesses(this.name);
      await removeCgroups(this.name);
      // systemd-nspawn's way to ask its service manager for a restart.
      if (code !== 133) {
        report({ event: 'off', code, signal });
        return;
      }
      report({ event: 'rebooting' });
      await this.boot();
    } catch (error) {
      reportError(error);
    }
  }

  async crash() {
    // The end of PID 1 takes every process of the host at once, as a power cut does.
    this.#crashing = killProcesses(this.name);
    await this.#crashing;
  }

  /** @returns {Promise<void>} */
  close() {
    this.#closing = true;
    // The word and the end of stdin both ask for it.
    this.#closed ??= tearDown(this.directory);
    return this.#closed;
  }
}

const [name, image, hosts] = process.argv.slice(2);
if (name === 'sweep' && image) {
  await tearDown(image);
  process.exit();
}
if (!name || !image || !hosts) throw new Error('usage: supervisor.mjs NAME IMAGE HOSTS');
const host = new Host(name, image, hosts);
await supervise({
  hosts,
  program: import.meta.filename,
  make: () => {
    host.mount();
  },
  close: () => host.close(),
  orders: { boot: () => host.boot(), crash: () => host.crash() },
});
