import { spawn } from 'node:child_process';

const program = '/usr/lib/lockerd/hooks/socket-owner';

/** It only asks the kernel, which does not wait for anybody. */
const patienceMs = 5000;

/** Longest name of an abstract socket that LXC makes; it hashes what would be longer. */
const addressMaxBytes = 105;

/** Hash of FNV-1a with 64 bits, in hex. */
function fnv1a(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(text)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, '0');
}

/** Address of the socket at which LXC's monitor of a container takes commands, without its NUL. */
export function commandSocket(lxcpath: string, name: string): string {
  const path = `${lxcpath}/${name}`;
  const address = `${path}/command`;
  return Buffer.byteLength(address) > addressMaxBytes ? `lxc/${fnv1a(path)}/command` : address;
}

export interface SocketOwner {
  readonly pid: number;
  readonly uid: number;
}

/** Who listens at the command sockets of containers, as the kernel says; nobody is left out. */
export async function commandSocketOwners(
  lxcpath: string,
  names: readonly string[],
  path: string = program,
): Promise<Map<string, SocketOwner>> {
  if (names.length === 0) return new Map();
  const child = spawn(path, { stdio: ['pipe', 'pipe', 'inherit'], env: {} });
  const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  // Its end says it all.
  child.stdin.on('error', () => undefined);
  child.stdin.end(names.map((name, id) => `${id} ${commandSocket(lxcpath, name)}\n`).join(''));
  await new Promise<void>((resolve) => {
    child.once('error', () => {
      resolve();
    });
    child.once('close', () => {
      resolve();
    });
  });
  clearTimeout(timer);
  const owners = new Map<string, SocketOwner>();
  for (const line of text.split('\n')) {
    const [, id, pid, uid] = /^([0-9]+) ([0-9]+) ([0-9]+)$/.exec(line) ?? [];
    const name = names[Number(id)];
    if (name !== undefined) owners.set(name, { pid: Number(pid), uid: Number(uid) });
  }
  return owners;
}
