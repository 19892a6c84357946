import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { shellWord } from '../model/shell-quote.ts';
import { connectBus, type BusConnection } from '../bus/connection.ts';
import { CommandError, exitStatus, UsageError } from './exit.ts';

type Bridge = ChildProcessByStdio<Writable, Readable, null>;

/** How ssh is called to reach a host: `[USER@]HOST[:PORT]`. */
export function sshArguments(host: string, use: 'terminal' | 'pipe'): string[] {
  const [, address = '', port] = /^(.*?)(?::(\d+))?$/s.exec(host) ?? [];
  if (address === '' || address.startsWith('-')) throw new UsageError(`"${host}" is not a host`);
  const portArguments = port === undefined ? [] : ['-p', port];
  return [use === 'terminal' ? '-xt' : '-xT', ...portArguments, '--', address];
}

/** `%` and whatever else an address of D-Bus does not take as it is. */
function escapeAddress(path: string): string {
  return [...Buffer.from(path)]
    .map((byte) => {
      const char = String.fromCharCode(byte);
      return /[-0-9A-Za-z_/.*]/.test(char) ? char : `%${byte.toString(16).padStart(2, '0')}`;
    })
    .join('');
}

/** The first line of a stream; what follows it stays unread. */
function readLine(stream: Readable): Promise<string> {
  return new Promise((resolve, reject) => {
    let line = '';
    const stop = (): void => {
      stream.off('readable', read).off('close', closed);
    };
    const closed = (): void => {
      stop();
      reject(new Error('the connection is closed'));
    };
    const read = (): void => {
      for (
        let byte = stream.read(1) as Buffer | null;
        byte;
        byte = stream.read(1) as Buffer | null
      ) {
        line += byte.toString('latin1');
        if (!line.endsWith('\n') && line.length < 4096) continue;
        stop();
        resolve(line);
        return;
      }
    };
    stream.on('readable', read).on('close', closed);
  });
}

/** Waits until the bridge speaks D-Bus: somebody may have to type ssh's password first. */
async function authenticate(ssh: Bridge, host: string): Promise<string> {
  const ended = new Promise<never>((_, reject) => {
    ssh.once('error', (error) => {
      reject(new CommandError(`cannot run ssh: ${error.message}`, exitStatus.failure));
    });
    ssh.once('close', (status) => {
      const message = `ssh to ${host} ended with status ${status ?? 'unknown'}`;
      const hint = `Does "ssh ${shellWord(host)} systemd-stdio-bridge" run there?`;
      reject(new CommandError(message, exitStatus.failure, hint));
    });
  });
  const uid = String(process.getuid?.() ?? 0);
  ssh.stdin.on('error', () => undefined);
  // The bridge takes any uid: sshd has decided who this is.
  ssh.stdin.write(`\0AUTH EXTERNAL ${Buffer.from(uid).toString('hex')}\r\n`);
  // ssh's end says more than that of its output, and comes right after it.
  const answered = readLine(ssh.stdout).catch(() => ended);
  const answer = await Promise.race([answered, ended]);
  if (!answer.startsWith('OK ')) {
    ssh.kill();
    throw new CommandError(`${host} does not speak D-Bus`, exitStatus.failure);
  }
  return answer;
}

/** Gives the bridge to the first who connects, who is told of its authentication. */
async function relay(socket: net.Socket, ssh: Bridge, answer: string): Promise<void> {
  socket.on('error', () => ssh.kill());
  await readLine(socket);
  socket.write(answer);
  socket.pipe(ssh.stdin);
  ssh.stdout.pipe(socket);
  ssh.once('close', () => socket.destroy());
  socket.once('close', () => ssh.kill());
}

/**
 * Connects to the system bus of another host as busctl and systemctl do: ssh runs
 * systemd-stdio-bridge(1) there, as the user who logs in.
 *
 * Our D-Bus layer connects to sockets. This one is in a directory that only this user can enter;
 * it is gone before the first call.
 */
export async function connectRemote(host: string): Promise<BusConnection> {
  const ssh = spawn('ssh', [...sshArguments(host, 'pipe'), 'systemd-stdio-bridge'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answer = await authenticate(ssh, host);
  const directory = mkdtempSync(join(tmpdir(), 'lockerctl-'));
  const path = join(directory, 'bus');
  const server = net.createServer((socket) => {
    server.close();
    relay(socket, ssh, answer).catch(() => ssh.kill());
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(path, resolve);
    });
    return await connectBus({ address: `unix:path=${escapeAddress(path)}` });
  } catch (error) {
    ssh.kill();
    throw error;
  } finally {
    server.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
