/** Two booted hosts of one network, of which the first logs in to the second as root. */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { addresses, introduce } from '../machines/ssh-pair.ts';
import { bootHost, type Host } from './host.ts';
import { ensureToolsImage } from './image.mjs';

const runHere = promisify(execFile);

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
    await introduce(source, target);
    await join(source, target);
    return pair;
  } catch (error) {
    await pair[Symbol.asyncDispose]();
    throw error;
  }
}
