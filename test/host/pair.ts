/** Two test hosts of one network, of which the first logs in to the second as root. */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { bootHost, type Host } from './host.ts';
import { ensureToolsImage } from './image.mjs';

const runHere = promisify(execFile);

/** Addresses of the source and of the target. */
export const addresses = { source: '10.99.0.1', target: '10.99.0.2' } as const;

export interface Pair extends AsyncDisposable {
  readonly source: Host;
  readonly target: Host;
  /** Joins the hosts, again after one of them has booted. */
  join(): Promise<void>;
}

async function join(source: Host, target: Host): Promise<void> {
  // The kernel removes both ends when one host goes down.
  const end = (host: Host): string[] => ['name', 'move0', 'netns', String(host.leader)];
  await runHere('ip', ['link', 'add', ...end(source), 'type', 'veth', 'peer', ...end(target)]);
  for (const [host, address] of [
    [source, addresses.source],
    [target, addresses.target],
  ] as const) {
    await host.shell(`ip address add ${address}/24 dev move0 && ip link set move0 up`);
  }
}

/** Boots both at once. The target's sshd knows the source's key, and the source the target's. */
export async function bootPair(): Promise<Pair> {
  const image = await ensureToolsImage();
  const [source, target] = await Promise.all([
    bootHost({ name: 'source', image, boot: false }),
    bootHost({ name: 'target', image, boot: false }),
  ]);
  const pair: Pair = {
    source,
    target,
    join: () => join(source, target),
    [Symbol.asyncDispose]: async () => {
      await Promise.all([source.close(), target.close()]);
    },
  };
  try {
    await Promise.all([source.boot(), target.boot()]);
    await target.shell('ssh-keygen -A >/dev/null && systemctl restart ssh');
    await source.shell('ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519');
    await target.writeFile(
      '/root/.ssh/authorized_keys',
      await source.readFile('/root/.ssh/id_ed25519.pub'),
      0o600,
    );
    const [type = '', key = ''] = (
      await target.readFile('/etc/ssh/ssh_host_ed25519_key.pub')
    ).split(' ');
    await source.writeFile('/root/.ssh/known_hosts', `${addresses.target} ${type} ${key}\n`, 0o600);
    await join(source, target);
    return pair;
  } catch (error) {
    await pair[Symbol.asyncDispose]();
    throw error;
  }
}
