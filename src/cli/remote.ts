/** Other hosts, by ssh. */

import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { Duplex, type Readable, type Writable } from 'node:stream';
import { shellWord } from '../model/shell-quote.ts';
import { connectBus, type BusConnection } from '../bus/connection.ts';
import { AuthenticationError } from '../bus/transport.ts';
import { CommandError, exitStatus, UsageError } from './exit.ts';

type Bridge = ChildProcessByStdio<Writable, Readable, null>;

/** Several hosts at once cannot ask on one terminal, and a dead one does not hold up the others. */
const askNobodyOptions = ['-o', 'BatchMode=yes', '-o', 'ConnectTimeout=15'];

/** How ssh is called to reach a host: `[USER@]HOST[:PORT]`. */
export function sshArguments(
  host: string,
  use: 'terminal' | 'pipe',
  { askNobody = false }: { readonly askNobody?: boolean } = {},
): string[] {
  const [, address = '', port] = /^(.*?)(?::(\d+))?$/s.exec(host) ?? [];
  if (address === '' || address.startsWith('-')) throw new UsageError(`"${host}" is not a host`);
  const portArguments = port === undefined ? [] : ['-p', port];
  const options = askNobody ? askNobodyOptions : [];
  return [use === 'terminal' ? '-xt' : '-xT', ...options, ...portArguments, '--', address];
}

/** Rejects with what ssh's end says, or with why it could not be run. */
function endOf(ssh: Bridge, host: string): Promise<never> {
  return new Promise((_, reject) => {
    ssh.once('error', (error) => {
      reject(new CommandError(`cannot run ssh: ${error.message}`, exitStatus.failure));
    });
    ssh.once('close', (status) => {
      const message = `ssh to ${host} ended with status ${status ?? 'unknown'}`;
      const hint = `Does "ssh ${shellWord(host)} systemd-stdio-bridge" run there?`;
      reject(new CommandError(message, exitStatus.failure, hint));
    });
  });
}

/**
 * Connects to the system bus of another host as busctl and systemctl do: ssh runs
 * systemd-stdio-bridge(1) there, as the user who logs in. The bridge takes any uid, since sshd has
 * decided who this is.
 */
export async function connectRemote(
  host: string,
  options: { readonly askNobody?: boolean } = {},
): Promise<BusConnection> {
  const ssh = spawn('ssh', [...sshArguments(host, 'pipe', options), 'systemd-stdio-bridge'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = endOf(ssh, host);
  ssh.stdin.on('error', () => undefined);
  const stream = Duplex.from({ readable: ssh.stdout, writable: ssh.stdin });
  const connected = connectBus({ stream }).catch(async (error: unknown) => {
    if (error instanceof AuthenticationError) {
      throw new CommandError(`${host} does not speak D-Bus`, exitStatus.failure);
    }
    // ssh's end says more than that of its output, and comes right after it.
    if (stream.destroyed) await ended;
    throw error;
  });
  try {
    const connection = await Promise.race([connected, ended]);
    // ssh is of no use after close(), nor after the loss of the connection.
    for (const event of ['finish', 'close']) stream.once(event, () => ssh.kill());
    return connection;
  } catch (error) {
    ssh.kill();
    throw error;
  }
}
