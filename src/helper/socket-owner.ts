import { spawn } from 'node:child_process';

const program = '/usr/lib/lockerd/hooks/socket-owner';

/** The hook only asks the kernel, which never blocks, so this is ample. */
const patienceMs = 5000;

export interface SocketOwner {
  readonly pid: number;
  readonly uid: number;
}

/** The processes that listen on containers' command sockets, from the kernel, by container. */
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
  // The `close` event already handles a hook that has ended.
  child.stdin.on('error', () => undefined);
  child.stdin.end(names.map((name, id) => `${id} ${lxcpath}/${name}\n`).join(''));
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
