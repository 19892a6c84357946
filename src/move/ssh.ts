/** The source's connection to the target. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { removeFile } from '../host/replace-file.ts';
import { LockerdError } from '../model/errors.ts';
import { shellWord } from '../model/shell-quote.ts';
import { printable } from '../model/unit-syntax.ts';
import type { Fields } from './fields.ts';
import { makeRunDirectory } from './guard.ts';
import { leaseEndFromNow, pingMs } from './lease.ts';
import { eachLine, programPath, protocolVersion, type Operation } from './protocol.ts';
import { runDirectory } from './record.ts';

interface Waiting {
  readonly resolve: (answer: Fields) => void;
  readonly reject: (error: Error) => void;
}

/** What the target says of itself. */
export interface Hello {
  readonly lockerd: string;
  readonly lxc: string;
  readonly lxcpath: string;
}

/** Takes part of `[USER@]HOST[:PORT]` for ssh(1), which must not take it for an option. */
function hostArguments(host: string): string[] {
  const [, address = '', port] = /^(.*?)(?::(\d+))?$/s.exec(host) ?? [];
  if (address === '' || address.startsWith('-')) {
    throw new LockerdError('InvalidArgs', `"${host}" is not a host`);
  }
  return [...(port === undefined ? [] : ['-p', port]), '--', address];
}

/** One connection of ssh(1), with lockerd-move at its other end. rsync(1) goes through it as well. */
export class Target {
  /** The socket by which other programs use this connection. */
  readonly socket: string;
  readonly #host: string;
  readonly #ssh: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting = new Map<number, Waiting>();
  #count = 0;
  #seen = 0;
  #leaseEndMs = 0;
  #lost: Error | undefined;
  readonly #pings: NodeJS.Timeout;

  private constructor(host: string, id: string) {
    this.#host = host;
    makeRunDirectory();
    this.socket = `${runDirectory}/${id}.ssh`;
    removeFile(this.socket);
    const master = ['ControlMaster=yes', `ControlPath=${this.socket}`, 'ControlPersist=no'];
    const alive = ['ConnectTimeout=15', 'ServerAliveInterval=5', 'ServerAliveCountMax=3'];
    const options = [...master, 'BatchMode=yes', ...alive];
    const args = ['-xT', ...options.flatMap((option) => ['-o', option]), ...hostArguments(host)];
    // Nothing of this command has to be quoted for the shell there.
    this.#ssh = spawn('ssh', [...args, `${programPath} receive`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#ssh.stdin.on('error', () => undefined);
    this.#ssh.once('error', (error) => {
      this.#lose(`cannot run ssh: ${error.message}`);
    });
    this.#ssh.once('close', (status) => {
      const hint = `does "ssh ${shellWord(host)} lockerctl --version" work, as root?`;
      this.#lose(`the connection to ${host} ended (${status ?? 'killed'}); ${hint}`);
    });
    void eachLine(this.#ssh.stdout, (answer) => {
      this.#answered(answer);
    }).catch((error: unknown) => {
      this.#lose(error instanceof Error ? error.message : String(error));
    });
    this.#pings = setInterval(() => {
      if (this.#seen > 0) void this.ask('ping').catch(() => undefined);
    }, pingMs);
  }

  /** Connects, and asks who is there. Throws Failed. */
  static async connect(host: string, id: string): Promise<{ target: Target; hello: Hello }> {
    const target = new Target(host, id);
    try {
      const hello = await target.ask('hello', { protocol: protocolVersion });
      return {
        target,
        hello: {
          lockerd: hello.text('lockerd'),
          lxc: hello.text('lxc'),
          lxcpath: hello.text('lxcpath'),
        },
      };
    } catch (error) {
      target.close();
      throw error;
    }
  }

  /** When the target ends what it runs if it hears nothing more; CLOCK_REALTIME, milliseconds. */
  get leaseEndMs(): number {
    return this.#leaseEndMs;
  }

  #lose(why: string): void {
    clearInterval(this.#pings);
    this.#lost ??= new LockerdError('Failed', printable(why));
    for (const { reject } of this.#waiting.values()) reject(this.#lost);
    this.#waiting.clear();
    this.#ssh.kill();
  }

  #answered(answer: Fields): void {
    this.#seen = answer.number('now');
    this.#leaseEndMs = leaseEndFromNow();
    const waiting = this.#waiting.get(answer.number('n'));
    this.#waiting.delete(answer.number('n'));
    if (answer.has('error')) {
      const text = answer.text('error').split('\n').map(printable).join('\n');
      waiting?.reject(new LockerdError('Failed', `${this.#host}: ${text}`));
    } else waiting?.resolve(answer);
  }

  /** Asks the target for something. Throws Failed with its reason, or when the connection is lost. */
  async ask(op: Operation, body: Readonly<Record<string, unknown>> = {}): Promise<Fields> {
    if (this.#lost !== undefined) throw this.#lost;
    const n = ++this.#count;
    const answer = new Promise<Fields>((resolve, reject) => {
      this.#waiting.set(n, { resolve, reject });
    });
    this.#ssh.stdin.write(`${JSON.stringify({ ...body, n, op, seen: this.#seen })}\n`);
    return answer;
  }

  close(): void {
    this.#lose('it was closed');
  }
}
