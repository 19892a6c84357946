import type { ChildProcess } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Variant } from '../../src/bus/values.ts';
import type { ServiceConnection } from '../../src/bus/connection.ts';
import type { PrivateBus } from './bus.ts';

/** How the agent answers a prompt. */
export type Answer = 'right' | 'wrong' | 'dismissed' | 'waits';

type Event =
  | { event: 'connected'; name: string }
  | { event: 'registered' }
  | { event: 'failed'; message: string }
  | { event: 'begin'; message: string; cookie: string }
  | { event: 'cancel'; cookie: string };

/** A client of another uid (caller.ts); it can be its own password agent. */
export class Caller {
  readonly uniqueName: string;
  /** What the prompts said, in order. */
  readonly messages: string[] = [];
  /** Prompts that polkit took back. */
  cancelled = 0;
  readonly #uid: number;
  readonly #child: ChildProcess;
  /** Says to polkit, as only root may, that a password was right. */
  readonly #root: ServiceConnection;
  readonly #cookies: string[] = [];
  #answer: Answer = 'waits';
  #registered: ((error?: Error) => void) | undefined;

  private constructor(name: string, uid: number, child: ChildProcess, root: ServiceConnection) {
    this.uniqueName = name;
    this.#uid = uid;
    this.#child = child;
    this.#root = root;
  }

  static async connect(bus: PrivateBus, uid: number): Promise<Caller> {
    const root = await bus.connect();
    const loader = path.resolve(import.meta.dirname, '../typescript.mjs');
    const program = path.resolve(import.meta.dirname, 'caller.ts');
    const child = bus.spawn([
      ...[process.execPath, '--import', loader, program],
      ...[bus.address, `${uid}`],
    ]);
    let problem = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (problem += text));
    if (child.stdout === null) throw new Error('the caller has no output');
    const lines = createInterface(child.stdout);
    return new Promise((resolve, reject) => {
      let caller: Caller | undefined;
      child.once('exit', () => {
        reject(new Error(`the caller ended: ${problem}`));
      });
      lines.on('line', (line) => {
        const event = JSON.parse(line) as Event;
        if (event.event === 'connected') {
          caller = new Caller(event.name, uid, child, root);
          resolve(caller);
        } else if (caller !== undefined) void caller.#on(event);
      });
    });
  }

  #order(order: string, cookie?: string): void {
    this.#child.stdin?.write(`${JSON.stringify({ order, cookie })}\n`);
  }

  async #on(event: Event): Promise<void> {
    switch (event.event) {
      case 'connected':
        break;
      case 'registered':
        this.#registered?.();
        break;
      case 'failed':
        this.#registered?.(new Error(event.message));
        break;
      case 'cancel':
        this.cancelled++;
        break;
      case 'begin':
        this.#cookies.push(event.cookie);
        this.messages.push(event.message);
        if (this.#answer !== 'waits') await this.answerNow(this.#answer);
        break;
    }
  }

  /** Has prompts shown by this caller from now on, and answered so. */
  async becomeAgent(answer: Answer): Promise<void> {
    this.#answer = answer;
    await new Promise<void>((resolve, reject) => {
      this.#registered = (error) => {
        if (error === undefined) resolve();
        else reject(error);
      };
      this.#order('register');
    });
  }

  /** Answers the oldest prompt that is open. */
  async answerNow(answer: Exclude<Answer, 'waits'>): Promise<void> {
    const cookie = this.#cookies.shift();
    if (cookie === undefined) throw new Error('there is no prompt');
    if (answer === 'right') {
      await this.#root.call({
        destination: 'org.freedesktop.PolicyKit1',
        path: '/org/freedesktop/PolicyKit1/Authority',
        interface: 'org.freedesktop.PolicyKit1.Authority',
        member: 'AuthenticationAgentResponse2',
        signature: 'us(sa{sv})',
        body: [this.#uid, cookie, ['unix-user', { uid: new Variant('u', this.#uid) }]],
      });
    }
    this.#order(answer === 'dismissed' ? 'dismiss' : 'done', cookie);
  }

  /** Leaves the bus. */
  leave(): void {
    this.#child.stdin?.end();
  }
}
