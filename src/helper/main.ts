/**
 * The program lockerd-helper: the part of the service that runs as root. It answers one request per
 * connection. A request names containers and lockers, never paths.
 *
 * src/helper holds what needs root: mounts, control groups and lasting settings. It trusts neither the
 * service nor the guests: each name is checked against what root owns.
 */

import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { printable } from '../model/unit-syntax.ts';
import { attach } from './attach.ts';
import { applyMemoryLimits, changeMemory } from './change-memory.ts';
import { forLockers, withSystemd } from './context.ts';
import { changeLimits } from './change-limits.ts';
import { detach } from './detach.ts';
import { LockerdError } from '../model/errors.ts';
import { printHolders } from './holders.ts';
import { readRequest, whenLeft } from './input.ts';
import { look } from './look.ts';
import { withContainerLock } from './lock.ts';
import { parseUserId, peerOf } from './peer.ts';
import { freeze, thaw } from './lxc.ts';
import type { Request } from './request.ts';
import { isStoreRequest, parseRequest } from './request.ts';
import { setAutostart } from './set-autostart.ts';
import { viewContainer } from './view.ts';
import { watch } from './watch.ts';

const program = 'lockerd-helper';

const usage = `Usage: lockerd-helper [--stores] [--peer INSTANCE]
       lockerd-helper --stores --recover

The root side of lockerd: reads one request, one line of JSON, from standard input and answers it
on standard output. lockerd-helper.socket and lockerd-stores.socket start it; see lockerd-helper(8).

  --stores         serve requests about stores and their lockers, and no others
  --recover        with --stores and instead of a request: end changes of lockers that were killed
  --peer INSTANCE  instance name of the unit, which has the peer's user id at its end
  --help           show this help
  --version        show the version

Exit status: 0 the request was done or, with --peer, answered, 1 it was refused or failed, 2 wrong
usage.
`;

/** Priorities of syslog(3), which the journal reads at the start of a line. */
const priority = { info: 6, warning: 4, error: 3 } as const;

function log(level: keyof typeof priority, text: string): void {
  process.stderr.write(`<${priority[level]}>${printable(text)}\n`);
}

/** Describes the request and its caller for the journal. */
function describe(request: Request | undefined, uid: number | undefined): string {
  const fields = request === undefined ? [] : Object.entries(request);
  // A look names many containers.
  const shown = fields.map(([key, value]) => `${key}=${JSON.stringify(value).slice(0, 400)}`);
  return [...shown, `uid=${uid ?? 'unknown'}`].join(' ');
}

/** More than a request can ever wait; a watch lasts as long as its client. */
const requestMaxMs = 600_000;

/** Serves one request. A request about a locker is cancelled when its caller leaves. */
async function serve(
  request: Request,
  { isSocket, uid }: Caller,
): Promise<Record<string, unknown>> {
  if (isStoreRequest(request)) {
    // What comes with stores is loaded by those who need it.
    const { serveStores } = await import('./serve-stores.ts');
    return serveStores(request, uid, isSocket ? whenLeft(process.stdin) : undefined);
  }
  switch (request.verb) {
    case 'attach':
    case 'detach': {
      const { instance } = viewContainer(request.container);
      const left = isSocket ? whenLeft(process.stdin) : undefined;
      const change = () =>
        withSystemd(forLockers, async (systemd) => {
          // Read again, because another request may have changed something meanwhile.
          const view = viewContainer(request.container);
          return request.verb === 'attach'
            ? attach(systemd, view, request, left)
            : detach(systemd, view, request, left);
        });
      return withContainerLock(instance, change, left);
    }
    case 'balloon':
      viewContainer(request.container);
      return changeMemory(request);
    case 'set-limits':
      viewContainer(request.container);
      return changeLimits(request);
    case 'apply-limits':
      viewContainer(request.container);
      return applyMemoryLimits(request.container);
    case 'set-autostart':
      viewContainer(request.container);
      return withSystemd(forLockers, async (systemd) => ({
        ...(await setAutostart(systemd, viewContainer(request.container), request.autostart)),
      }));
    case 'freeze':
    case 'thaw': {
      const { name, lxcpath } = viewContainer(request.container);
      return request.verb === 'freeze' ? freeze({ name, lxcpath }) : thaw({ name, lxcpath });
    }
    case 'look':
      await look(request.containers, (container, seen) => {
        process.stdout.write(`${JSON.stringify({ container, seen })}\n`);
      });
      return {};
    case 'watch':
      await watch(process.stdin, process.stdout);
      return {};
  }
}

/** An unexpected error goes to the journal in full; the caller learns only that the request failed. */
function toLockerdError(error: unknown): LockerdError {
  if (error instanceof LockerdError) return error;
  log('error', error instanceof Error ? (error.stack ?? error.message) : String(error));
  return new LockerdError('Failed', 'the request failed; see "journalctl -t lockerd-helper"');
}

/** Writes the answer; a client that has gone does not get it. */
async function answer(output: Writable, value: Readonly<Record<string, unknown>>): Promise<void> {
  await new Promise<void>((resolve) => {
    output.once('error', () => {
      resolve();
    });
    output.write(`${JSON.stringify(value)}\n`, () => {
      resolve();
    });
  });
}

/** A timer of our own, because RuntimeMaxSec= of the unit would end watches as well. */
function limitTime(): void {
  setTimeout(() => {
    log('error', 'the request took too long and was given up');
    process.exit(1);
  }, requestMaxMs).unref();
}

/** Who has sent a request, and how. */
export interface Caller {
  /** By a socket of systemd's; otherwise from a terminal. */
  readonly isSocket: boolean;
  readonly uid: number | undefined;
}

/** The surroundings of a request, which tests replace. */
export interface Surroundings {
  readonly input: Readable;
  readonly output: Writable;
  /** Text in the form of passwd(5). */
  readonly passwd: () => string;
  readonly serve: (request: Request, caller: Caller) => Promise<Record<string, unknown>>;
}

const here: Surroundings = {
  input: process.stdin,
  output: process.stdout,
  passwd: () => readFileSync('/etc/passwd', 'utf8'),
  serve,
};

/** Reads, checks and serves one request, and answers it once. Returns the exit status. */
export async function run(
  instance: string | undefined,
  { input, output, passwd, serve: doIt }: Surroundings = here,
  isOfStores = false,
): Promise<number> {
  let request: Request | undefined;
  let uid: number | undefined;
  try {
    uid = instance === undefined ? process.getuid?.() : peerOf(instance);
    const allowed = parseUserId(passwd(), 'lockerd');
    if (uid === undefined || (uid !== 0 && uid !== allowed)) {
      throw new LockerdError('AccessDenied', 'only lockerd may ask its helper');
    }
    request = parseRequest(await readRequest(input));
    if (instance !== undefined && isStoreRequest(request) !== isOfStores) {
      throw new LockerdError('InvalidArgs', `"${request.verb}" is served at another socket`);
    }
    log('info', describe(request, uid));
    if (request.verb !== 'watch' && !isOfStores) limitTime();
    const result = await doIt(request, { isSocket: instance !== undefined, uid });
    await answer(output, { ok: true, ...result });
    return 0;
  } catch (thrown) {
    const error = toLockerdError(thrown);
    const { code, message, details } = error;
    const more = Object.keys(details).length === 0 ? '' : ` ${JSON.stringify(details)}`;
    log('warning', `${describe(request, uid)}: ${code}: ${message}${more}`);
    await answer(output, { ok: false, error: code, message, ...details });
    // A refused request is no failure of the unit that refused it.
    return instance === undefined ? 1 : 0;
  }
}

/** Brings to an end what killed changes of lockers have left, and writes what it could not. */
async function recoverNow(): Promise<number> {
  try {
    const result = await serve({ verb: 'recover' }, { isSocket: false, uid: process.getuid?.() });
    process.stdout.write(`${JSON.stringify(result)}\n`);
    return Array.isArray(result['unfinished']) && result['unfinished'].length > 0 ? 1 : 0;
  } catch (error) {
    log('error', toLockerdError(error).message);
    return 1;
  }
}

/** The whole program: arguments in, exit status out. */
export async function main(args: readonly string[]): Promise<number> {
  const [first, second, third, fourth] = args;
  if (first === '--help') {
    process.stdout.write(usage);
    return 0;
  }
  if (first === '--version') {
    process.stdout.write(`${program} ${LOCKERD_VERSION}\n`);
    return 0;
  }
  if (first === '--holders' && args.length === 4) {
    return printHolders({ device: second ?? '', container: third ?? '', locker: fourth ?? '' });
  }
  const isOfStores = first === '--stores';
  if (isOfStores && second === '--recover' && args.length === 2) return recoverNow();
  const [option, instance, ...more] = isOfStores ? args.slice(1) : args;
  if (option === undefined) return run(undefined, here, isOfStores);
  if (option !== '--peer' || instance === undefined || more.length > 0) {
    process.stderr.write(usage);
    return 2;
  }
  return run(instance, here, isOfStores);
}
