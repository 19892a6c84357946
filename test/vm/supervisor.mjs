// Keeps one virtual test host: its disks, the emulator, the mount of its tree while it is off. Lives
// exactly as long as its stdin stays open, so that the VM vanishes with the test process however
// that one ends.
//
//   usage: supervisor.mjs NAME IMAGE VMS MEMORY-MIB KIND STATE|cold
//                                              (root; the caller holds a lock on VMS/NAME.lock)
//   stdin:  boot | tree | crash | close, one word a line
//   stdout: one JSON object a line: {event: 'made' | 'on' | 'tree' | 'off' | 'error', ...}

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountsBelow, must, removeFiles, report, supervise } from '../machines/supervise.mjs';
import { createDisks, filesOf, machineOf, qemuArguments } from './qemu.mjs';

/** @param {string} directory */
function removeVm(directory) {
  // The tree first, then the disk under it.
  for (const point of mountsBelow(directory).reverse()) must('umount', point);
  removeFiles(directory);
}

/**
 * A program that must not outlive this one.
 * @param {string} program
 * @param {string[]} args
 * @param {string} log
 */
function spawnBound(program, args, log) {
  const output = fs.openSync(log, 'a');
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], {
    detached: true,
    stdio: ['ignore', output, output],
  });
  fs.closeSync(output);
  return child;
}

class VirtualMachine {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #qemu;
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #exporter;
  /** @type {Promise<void> | undefined} */
  #closed;

  /**
   * @param {string} directory
   * @param {string} image
   * @param {import('./qemu.mjs').Machine} machine
   * @param {string | undefined} state directory of a saved state, to go on from at the first boot
   */
  constructor(directory, image, machine, state) {
    this.directory = directory;
    this.image = image;
    this.machine = machine;
    this.files = filesOf(directory);
    this.exported = path.join(directory, 'root.img');
    this.root = path.join(directory, 'root');
    this.log = path.join(directory, 'qemu.log');
    this.state = state;
  }

  create() {
    fs.mkdirSync(this.root, { recursive: true });
    fs.writeFileSync(this.exported, '');
    if (this.state) createDisks(this.directory, path.join(this.state, 'root.qcow2'), 'qcow2');
    else createDisks(this.directory, path.join(this.image, 'root.img'), 'raw');
    report({ event: 'made', directory: this.directory, root: this.root });
  }

  async boot() {
    if (this.#qemu) throw new Error('the VM is booted already');
    await this.#releaseTree();
    for (const socket of [this.files.agent, this.files.qmp]) fs.rmSync(socket, { force: true });
    const state = this.state && path.join(this.state, 'state');
    // Its disk goes on from here: the state fits it no more.
    this.state = undefined;
    const args = qemuArguments(this.directory, this.image, this.machine, state);
    const qemu = spawnBound('qemu-system-x86_64', args, this.log);
    this.#qemu = qemu;
    qemu.once('exit', (code, signal) => {
      this.#qemu = undefined;
      if (this.#closed) return;
      if (code === 0 || signal === 'SIGKILL') report({ event: 'off', code, signal });
      else report({ event: 'error', message: `qemu: ${fs.readFileSync(this.log, 'utf8')}` });
    });
    report({ event: 'on' });
  }

  /** Mounts the root disk of the VM, which is off. */
  async mountTree() {
    if (this.#qemu) throw new Error('the VM is on: its tree cannot be mounted');
    if (!this.#exporter) {
      this.#exporter = spawnBound(
        'qemu-storage-daemon',
        [
          ...[
            '--blockdev',
            `driver=qcow2,node-name=root,file.driver=file,file.filename=${this.files.disk.root}`,
          ],
          ...[
            '--export',
            `type=fuse,id=root,node-name=root,mountpoint=${this.exported},writable=on`,
          ],
        ],
        this.log,
      );
      for (let round = 0; !mountsBelow(this.directory).includes(this.exported); round++) {
        if (round > 1200 || this.#exporter.exitCode !== null) {
          throw new Error(`the disk was not exported: ${fs.readFileSync(this.log, 'utf8')}`);
        }
        await sleep(50);
      }
      must('mount', '-o', 'loop', this.exported, this.root);
      must('mount', '--make-private', this.root);
    }
    report({ event: 'tree' });
  }

  async #releaseTree() {
    const exporter = this.#exporter;
    if (!exporter) return;
    this.#exporter = undefined;
    if (mountsBelow(this.directory).includes(this.root)) must('umount', this.root);
    const ended = once(exporter, 'exit');
    exporter.kill('SIGTERM');
    await ended;
  }

  /** A power cut: what the guest has not handed to its disk is lost. */
  crash() {
    this.#qemu?.kill('SIGKILL');
  }

  /** @returns {Promise<void>} */
  close() {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close() {
    const qemu = this.#qemu;
    if (qemu) {
      const ended = once(qemu, 'exit');
      qemu.kill('SIGKILL');
      await ended;
    }
    await this.#releaseTree();
    removeVm(this.directory);
  }
}

const [name, image, vms, memory, kind, start] = process.argv.slice(2);
if (name === 'sweep' && image) {
  removeVm(image);
  process.exit();
}
if (!name || !image || !vms || !memory || !kind || !start) {
  throw new Error('usage: supervisor.mjs NAME IMAGE VMS MEMORY-MIB KIND STATE|cold');
}
const state = start === 'cold' ? undefined : start;
const vm = new VirtualMachine(path.join(vms, name), image, machineOf(memory, kind), state);

let previous = Promise.resolve();
/**
 * One order after the other, but an end at once.
 * @param {() => void | Promise<void>} order
 */
function inTurn(order) {
  return () => {
    const done = previous.then(order);
    previous = done.catch(() => undefined);
    return done;
  };
}

await supervise({
  hosts: vms,
  program: import.meta.filename,
  make: () => {
    vm.create();
  },
  close: () => vm.close(),
  orders: {
    boot: inTurn(() => vm.boot()),
    tree: inTurn(() => vm.mountTree()),
    crash: inTurn(() => {
      vm.crash();
    }),
  },
});
