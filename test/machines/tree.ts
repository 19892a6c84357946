/** What is put into the root tree of a host before it boots. */

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';

/** A name for one host. */
export function uniqueName(name: string): string {
  return `${name}-${randomBytes(3).toString('hex')}`;
}

/** Gives a tree an identity of its own. */
export function identify(root: string, name: string): void {
  // /etc/machine-id must be a host's own, and given: an empty one means "first boot".
  fs.writeFileSync(`${root}/etc/machine-id`, `${randomBytes(16).toString('hex')}\n`);
  fs.writeFileSync(`${root}/etc/hostname`, `${name}\n`);
}

const checkout = path.resolve(import.meta.dirname, '../..');

/** Puts the built lockerd where a package would put it in a tree. */
export async function installBuild(root: string): Promise<void> {
  await runHere(process.execPath, [
    path.join(checkout, 'src/build/install.mjs'),
    '--destdir',
    root,
  ]);
}

/** The page for Cockpit, as its package has it. */
export async function installPage(root: string): Promise<void> {
  const program = path.join(checkout, 'src/build/install.mjs');
  await runHere(process.execPath, [program, '--destdir', root, '--page']);
}

/** What the package's postinst does before the first boot: makes the user of the service. */
export async function makeUser(root: string): Promise<void> {
  await runHere('chroot', [root, '/usr/bin/systemd-sysusers', 'lockerd.conf']);
}

async function runHere(program: string, args: string[]): Promise<void> {
  const child = spawn(program, args, { cwd: checkout });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0) throw new Error(`lockerd was not installed (exit ${status}):\n${output}`);
}
