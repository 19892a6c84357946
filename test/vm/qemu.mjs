// The virtual machine as qemu's arguments. A saved state fits only the very same ones.

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

/** Root, a disk for volume groups, a disk for swap; what the guest calls them. */
export const disks = /** @type {const} */ ({ root: 'vda', data: 'vdb', swap: 'vdc' });

const blankDisks = { data: '4G', swap: '2G' };

/**
 * What two VMs may differ in.
 * @typedef {{ memoryMiB: number, apparmor: boolean, isNetworked: boolean }} Machine
 */

const kinds = ['plain', 'apparmor', 'networked'];

/**
 * The kernel's arguments about AppArmor. Without it, as compiling the profiles takes the emulation
 * minutes at each boot; with it, denials are written to the kernel's log as audit messages.
 */
const security = { with: 'apparmor=1 security=apparmor', without: 'apparmor=0 audit=0' };

/**
 * Features that cost the emulation time and show nothing: with five levels of page tables, each translation of an
 * address takes a step more; with the others, the kernel switches something at each system call, and copies memory
 * by instructions that are emulated byte by byte. With cx16, the kernel oopses.
 */
const without = ['cx16', 'la57', 'smap', 'smep', 'umip', 'pku', 'erms', 'fsrm'];

/**
 * Node in the virtual machine, for its services and for what tests run: each thread of a pool that a short program
 * has no work for is started nevertheless.
 */
export const nodeOptions = '--v8-pool-size=0';

/**
 * A machine as arguments of a program, and back.
 * @param {Machine} machine
 */
export function machineSettings({ memoryMiB, apparmor, isNetworked }) {
  if (apparmor && isNetworked) throw new Error('no machine has a network and AppArmor');
  return [String(memoryMiB), isNetworked ? 'networked' : apparmor ? 'apparmor' : 'plain'];
}

/**
 * @param {string} memory
 * @param {string} kind
 * @returns {Machine}
 */
export function machineOf(memory, kind) {
  const memoryMiB = Number(memory);
  if (!(memoryMiB > 0) || !kinds.includes(kind)) {
    throw new Error(`no machine: ${memory} ${kind}`);
  }
  return { memoryMiB, apparmor: kind === 'apparmor', isNetworked: kind === 'networked' };
}

/** @param {string} directory */
export function filesOf(directory) {
  const file = (/** @type {string} */ name) => path.join(directory, name);
  const disk = { root: file('root.qcow2'), data: file('data.qcow2'), swap: file('swap.qcow2') };
  // Where the VM gets frames of Ethernet, and a link to where another one gets them, which are lost without it.
  const wire = { own: file('wire.sock'), peer: file('peer.sock') };
  const sockets = { agent: file('agent.sock'), qmp: file('qmp.sock') };
  return { disk, console: file('console.log'), ...sockets, wire };
}

/**
 * @param {string} directory where the VM's own files are
 * @param {string} image with the kernel
 * @param {Machine} machine
 * @param {string} [state] file with the state of a running VM to go on from
 */
export function qemuArguments(directory, image, { memoryMiB, apparmor, isNetworked }, state) {
  const files = filesOf(directory);
  // Nothing has to outlast a crash of this machine, as it does one of the virtual machine.
  const drives = Object.values(files.disk).flatMap((file) => [
    '-drive',
    `file=${file},format=qcow2,if=virtio,cache=unsafe,discard=unmap`,
  ]);
  const kernel = [
    'root=/dev/vda rw console=ttyS0 loglevel=4 mitigations=off random.trust_cpu=on',
    '8250.nr_uarts=1 cryptomgr.notests systemd.log_color=0 TERM=dumb',
    apparmor ? security.with : security.without,
    // Code at the same addresses each time need not be translated again: Node starts in half the time.
    'norandmaps',
    // Checks of the kernel by itself, which nobody reads here.
    'kfence.sample_interval=0 init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off',
    'nowatchdog',
    `systemd.setenv=NODE_OPTIONS=${nodeOptions}`,
  ].join(' ');
  const { own, peer } = files.wire;
  const ends = `local.type=unix,local.path=${own},remote.type=unix,remote.path=${peer}`;
  const network = ['-netdev', `dgram,id=wire,${ends}`, '-device', 'virtio-net-pci,netdev=wire'];
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'q35,accel=tcg'],
    // With two processors, the kernel oopses under emulation.
    ...['-smp', '1', '-cpu', ['max', ...without.map((name) => `${name}=off`)].join(',')],
    ...['-m', String(memoryMiB)],
    ...['-kernel', path.join(image, 'vmlinuz'), '-initrd', path.join(image, 'initramfs')],
    ...['-append', kernel, ...drives],
    ...(isNetworked ? network : []),
    ...[
      '-device',
      'virtio-serial-pci',
      '-device',
      'virtserialport,chardev=agent,name=org.lockerd.test',
    ],
    ...['-chardev', `socket,id=agent,path=${files.agent},server=on,wait=off`],
    ...['-qmp', `unix:${files.qmp},server=on,wait=off`],
    ...[
      '-chardev',
      `file,id=console,path=${files.console},append=on`,
      '-serial',
      'chardev:console',
    ],
    ...(state === undefined ? [] : ['-incoming', `exec:cat '${state}'`]),
  ];
}

/**
 * Makes the disks of a VM, which keep only what differs from the image's.
 * @param {string} directory
 * @param {string} backing
 * @param {'raw' | 'qcow2'} format
 */
export function createDisks(directory, backing, format) {
  const { disk } = filesOf(directory);
  qemuImg('create', '-q', '-f', 'qcow2', '-b', backing, '-F', format, disk.root);
  qemuImg('create', '-q', '-f', 'qcow2', disk.data, blankDisks.data);
  qemuImg('create', '-q', '-f', 'qcow2', disk.swap, blankDisks.swap);
}

/** @param {string[]} args */
function qemuImg(...args) {
  const { status, stderr, error } = spawnSync('qemu-img', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`qemu-img ${args.join(' ')}: ${error?.message ?? stderr}`);
}

/**
 * Writes the state of the running VM into a file and ends it; its disks then belong to the state.
 * Not stopped before, because a state remembers that, too.
 * @param {string} socketPath of QMP
 * @param {string} state
 */
export async function saveState(socketPath, state) {
  const socket = net.connect(socketPath);
  await once(socket, 'connect');
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  /**
   * @param {string} command
   * @param {Record<string, unknown>} [args]
   * @returns {Promise<{ status?: string }>}
   */
  const execute = async (command, args = {}) => {
    socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`qemu ended during ${command}`);
      const answer = JSON.parse(value);
      if (answer.error) throw new Error(`qemu: ${command}: ${answer.error.desc}`);
      if (answer.return) return answer.return;
    }
  };
  await execute('qmp_capabilities');
  await execute('migrate-set-parameters', { 'max-bandwidth': 1 << 30 });
  await execute('migrate', { uri: `exec:cat > '${state}'` });
  for (;;) {
    const { status } = await execute('query-migrate');
    if (status === 'completed') break;
    if (status === 'failed' || status === 'cancelled') {
      throw new Error(`qemu: the state could not be saved: ${status}`);
    }
    await sleep(100);
  }
  await execute('quit');
  socket.destroy();
}
