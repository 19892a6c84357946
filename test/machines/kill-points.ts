/**
 * Kills the helper of stores at a step that is counted: before each call that changes a file, before and after
 * each start of a program, and after each message to systemd, from the moment on at which its change is recorded.
 */

import type { TestHost } from './test-host.ts';

const hook = '/usr/local/lib/kill-points.cjs';
/** The number of the step, what is to happen there, and where the number of steps is written in the end. */
const order = '/run/kill-point';
const steps = '/run/kill-steps';
/** Is there as soon as a helper stands still at its step. */
const stopped = '/run/kill-stopped';

const program = `
const fs = require('node:fs');
const { syncBuiltinESMExports } = require('node:module');
const children = require('node:child_process');
const { Socket } = require('node:net');
const { openSync, readFileSync, writeFileSync, rmSync } = fs;

let wanted;
let count = 0;

function step() {
  if (wanted === undefined || ++count !== wanted.at) return;
  if (wanted.how === 'stop') writeFileSync('${stopped}', '');
  process.kill(process.pid, wanted.how === 'stop' ? 'SIGSTOP' : 'SIGKILL');
}

/** Only the helper that records a change takes the order. */
function begin() {
  try {
    wanted = JSON.parse(readFileSync('${order}', 'utf8'));
    rmSync('${order}');
  } catch {
    return;
  }
  process.on('exit', () => writeFileSync('${steps}', String(count)));
}

fs.openSync = (path, flags, ...more) => {
  const writes = typeof flags === 'string' ? flags !== 'r' : (flags & 3) !== 0;
  if (writes && wanted === undefined && String(path).startsWith('/var/lib/lockerd/changes/')) begin();
  if (writes) step();
  return openSync(path, flags, ...more);
};
for (const name of ['writeFileSync', 'fsyncSync', 'renameSync', 'rmSync', 'rmdirSync', 'mkdirSync', 'symlinkSync',
  'chmodSync', 'lchownSync', 'fchmodSync', 'fchownSync']) {
  const original = fs[name];
  fs[name] = (...args) => {
    step();
    return original(...args);
  };
}
const { spawn } = children;
children.spawn = (...args) => {
  step();
  const child = spawn(...args);
  step();
  return child;
};
const { write } = Socket.prototype;
Socket.prototype.write = function (...args) {
  const result = write.apply(this, args);
  if (this !== process.stdout && this !== process.stderr) step();
  return result;
};
syncBuiltinESMExports();
`;

/** Has the helpers of stores listen to orders, from the next one on. */
export async function installKillPoints(host: TestHost): Promise<void> {
  await host.writeFile(hook, program);
  await host.writeFile(
    '/etc/systemd/system/lockerd-stores@.service.d/kill-points.conf',
    `[Service]\nEnvironment=NODE_OPTIONS=--require=${hook}\n`,
  );
  await host.run('systemctl', ['daemon-reload'], { timeoutMs: 180_000 });
}

/** What happens to the next helper that records a change; 0 is no step, and lets it come to its end. */
export function orderAt(at: number, how: 'kill' | 'stop' = 'kill'): string {
  return `rm -f ${steps} ${stopped}; echo '${JSON.stringify({ at, how })}' > ${order}`;
}

/** Waits in a shell until the helper stands still. */
export const untilStopped = `until test -e ${stopped}; do sleep 0.05; done`;

/** How many steps the last helper had that came to its end. */
export async function countedSteps(host: TestHost): Promise<number> {
  return Number(await host.readFile(steps));
}

/** Steps of a change at which it is killed, so many, spread over all that it has. */
export function spread(count: number, last: number): number[] {
  const wanted = Math.min(count, last);
  return Array.from({ length: wanted }, (_, index) =>
    Math.ceil(((index + 1) * last) / (wanted + (wanted < last ? 1 : 0))),
  );
}

/** Ends in a shell when what was killed has been brought to an end, by the unit that systemd starts for that. */
export const untilRecovered = `
n=0
until test -z "$(ls -A /var/lib/lockerd/changes)" && test -z "$(systemctl list-units --plain --no-legend \\
    --state=active,activating,deactivating,reloading 'lockerd-stores@*' lockerd-recover.service)"; do
  n=$((n + 1))
  test $n -lt 600 || { ls -A /var/lib/lockerd/changes; systemctl list-units 'lockerd-stores@*'; exit 1; }
  sleep 0.3
done
systemctl reset-failed 'lockerd-stores@*' 2>/dev/null || true
`;
