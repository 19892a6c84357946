// Boots a VM once and saves its state, from which others go on within seconds.
//
//   usage: save.mjs IMAGE MEMORY-MIB KIND STATE   (the caller holds a lock that keeps out others)

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent } from './agent.mjs';
import { createDisks, filesOf, machineOf, qemuArguments, saveState } from './qemu.mjs';

const bootTimeoutMs = 1_200_000;
const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };

const [image = '', memory = '', kind = '', state = ''] = process.argv.slice(2);
if (!image || !state) throw new Error('usage: save.mjs IMAGE MEMORY-MIB KIND STATE');
const machine = machineOf(memory, kind);
/** Under emulation a kernel oopses now and then, and would be a broken one in all tests. */
class KernelOops extends Error {}
const attempts = 3;

for (let attempt = 1; !fs.existsSync(state); attempt++) {
  try {
    await save();
  } catch (error) {
    if (!(error instanceof KernelOops) || attempt === attempts) throw error;
    console.error(`[vm image] ${error.message}; booting once more`);
  }
}

async function save() {
  const start = Date.now();
  const draft = `${state}.draft`;
  // Whoever left a draft here was killed.
  fs.rmSync(draft, { recursive: true, force: true });
  fs.mkdirSync(draft);
  const files = filesOf(draft);
  // A relative name, so that an image can be moved with its states.
  createDisks(draft, '../../root.img', 'raw');
  const qemu = spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...qemuArguments(draft, image, machine)],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const ended = once(qemu, 'exit');
  try {
    const agent = await Agent.connect(files.agent);
    await runningSystem(agent);
    await expectSoundKernel(agent);
    await saveState(files.qmp, path.join(draft, 'state'));
    await ended;
  } catch (error) {
    console.error(fs.existsSync(files.console) ? fs.readFileSync(files.console, 'utf8') : '');
    throw error;
  } finally {
    qemu.kill('SIGKILL');
  }
  const sockets = [files.agent, files.qmp, files.wire.own];
  for (const file of [files.disk.data, files.disk.swap, ...sockets]) {
    fs.rmSync(file, { force: true });
  }
  fs.renameSync(draft, state);
  const seconds = Math.round((Date.now() - start) / 1000);
  const size = Math.round(fs.statSync(path.join(state, 'state')).size / 1e6);
  console.error(
    `[vm image] booted (${memory} MiB, ${kind}) and saved its state: ${seconds} s, ${size} MB`,
  );
}

/** @param {Agent} agent */
async function expectSoundKernel(agent) {
  // Bit 7: the kernel died recently, with an oops or a BUG (admin-guide/tainted-kernels).
  const { stdout } = await agent.execute(['cat', '/proc/sys/kernel/tainted'], {
    timeoutMs: bootTimeoutMs,
    env,
  });
  if ((Number(stdout) & 128) !== 0) throw new KernelOops('the kernel of the VM has oopsed at boot');
}

/** @param {Agent} agent */
async function runningSystem(agent) {
  const end = Date.now() + bootTimeoutMs;
  const began = once(agent, 'begin');
  agent.hello();
  await Promise.race([
    began,
    sleep(bootTimeoutMs, undefined, { ref: false }).then(() => {
      throw new Error('the agent did not start');
    }),
  ]);
  for (;;) {
    const { stdout } = await agent.execute(['systemctl', 'is-system-running'], {
      timeoutMs: bootTimeoutMs,
      env,
    });
    if (stdout.trim() === 'running') break;
    if (stdout.trim() === 'degraded' || Date.now() > end) {
      const failed = await agent.execute(['systemctl', 'list-units', '--failed', '--no-pager'], {
        timeoutMs: bootTimeoutMs,
        env,
      });
      throw new Error(`the VM is not running but ${stdout}${failed.stdout}`);
    }
    await sleep(1000);
  }
  // A kernel that is saved while it loads modules oopses when it goes on.
  const settled = await agent.execute(['udevadm', 'settle', '--timeout=300'], {
    timeoutMs: bootTimeoutMs,
    env,
  });
  if (settled.exitCode !== 0) throw new Error(`udev is still busy: ${settled.stderr}`);
  await agent.execute(['sync'], { timeoutMs: bootTimeoutMs, env });
}
