/** lockerd-helper@.service behind its socket, one connection a request. */

import { unlimited } from '../model/memory-limit.ts';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockerdError } from '../model/errors.ts';
import { guestLook } from './guest-look.ts';
import {
  askHelper,
  booleanOf,
  errorOf,
  isAborted,
  isCount,
  linesOf,
  textsOf,
  whyNoAnswer,
  type AskOptions,
  type Json,
} from './helper-socket.ts';
import type { GuestLook, HelperPort, LxcStatus, Unwatch } from '../core/ports.ts';

interface Timing {
  /** How long the helper may be silent before its verb counts as failed. */
  readonly silenceMs: Readonly<Record<Verb, number>>;
  readonly reconnectMinMs: number;
  readonly reconnectMaxMs: number;
  /** How long the first report of all containers may take. */
  readonly readyMs: number;
}

type Verb =
  | (
      | 'attach'
      | 'detach'
      | 'freeze'
      | 'thaw'
      | 'balloon'
      | 'apply-limits'
      | 'set-autostart'
      | 'look'
    )
  | 'set-limits';

const defaultTiming: Timing = {
  silenceMs: {
    // Mounts what fsck(8) may check first, and unmounts what must be written out first.
    attach: 180_000,
    detach: 180_000,
    freeze: 30_000,
    thaw: 30_000,
    // Between two lines about its progress.
    balloon: 120_000,
    'set-limits': 120_000,
    // The kernel takes back first what is above.
    'apply-limits': 120_000,
    // systemd runs all generators, and others may change settings at the same time.
    'set-autostart': 180_000,
    // Between two guests.
    look: 10_000,
  },
  reconnectMinMs: 200,
  reconnectMaxMs: 30_000,
  readyMs: 20_000,
};

/** How many times as long a helper may take that follows one which took too long. */
const patienceGrowth = 16;

export class HelperClient implements HelperPort {
  readonly #socketPath: string;
  readonly #timing: Timing;

  constructor(socketPath: string, timing: Partial<Timing> = {}) {
    this.#socketPath = socketPath;
    this.#timing = { ...defaultTiming, ...timing };
  }

  async attach({
    container,
    locker,
    readOnly,
    persist,
  }: Parameters<HelperPort['attach']>[0]): Promise<{ changed: boolean }> {
    // The helper refuses a request with a member too many.
    const answer = await this.#request('attach', { container, locker, readOnly, persist });
    return { changed: booleanOf(answer, 'changed') };
  }

  async detach({
    container,
    locker,
    force,
    persist,
  }: Parameters<HelperPort['detach']>[0]): Promise<{ changed: boolean; lazy: boolean }> {
    const answer = await this.#request('detach', { container, locker, force, persist });
    return { changed: booleanOf(answer, 'changed'), lazy: booleanOf(answer, 'lazy') };
  }

  async freeze(container: string): Promise<void> {
    await this.#request('freeze', { container });
  }

  async thaw(container: string): Promise<void> {
    await this.#request('thaw', { container });
  }

  async balloon(
    { container, limit, swap, force, persist }: Parameters<HelperPort['balloon']>[0],
    progress: (phase: string, fraction: number) => void,
    signal: AbortSignal,
  ): ReturnType<HelperPort['balloon']> {
    const limitText = (bytes: bigint) => (bytes === unlimited ? 'max' : bytes.toString());
    const request = {
      ...{ container, limit: limitText(limit), force, persist },
      ...(swap === undefined ? {} : { swap: limitText(swap) }),
    };
    const answer = await this.#request('balloon', request, { signal, progress });
    const { stallUsec } = answer;
    return {
      warnings: textsOf(answer, 'warnings'),
      stallUsec: isCount(stallUsec) ? BigInt(stallUsec) : undefined,
    };
  }

  async setLimits({
    container,
    limits,
    persist,
  }: Parameters<HelperPort['setLimits']>[0]): ReturnType<HelperPort['setLimits']> {
    const answer = await this.#request('set-limits', { container, limits, persist });
    return { warnings: textsOf(answer, 'warnings') };
  }

  async setAutostart({
    container,
    autostart,
  }: Parameters<HelperPort['setAutostart']>[0]): ReturnType<HelperPort['setAutostart']> {
    const answer = await this.#request('set-autostart', { container, autostart });
    return { changed: booleanOf(answer, 'changed'), warnings: textsOf(answer, 'warnings') };
  }

  async look(containers: readonly string[]): ReturnType<HelperPort['look']> {
    const found = new Map<string, GuestLook>();
    await this.#request(
      'look',
      { containers },
      {
        line: ({ container, seen }) => {
          if (typeof container === 'string') found.set(container, guestLook(seen));
        },
      },
    );
    return found;
  }

  async applyLimits(container: string): Promise<void> {
    await this.#request('apply-limits', { container });
  }

  #request(verb: Verb, fields: Json, options: Omit<AskOptions, 'silenceMs'> = {}): Promise<Json> {
    const silenceMs = this.#timing.silenceMs[verb];
    return askHelper(this.#socketPath, verb, fields, { ...options, silenceMs });
  }

  async watch(...listeners: Parameters<HelperPort['watch']>): Promise<Unwatch> {
    const ended = new AbortController();
    await new Promise<void>((settled) => {
      void this.#watchForEver(listeners, settled, ended.signal);
    });
    return () => {
      ended.abort();
      return Promise.resolve();
    };
  }

  async #watchForEver(
    [guestChanged, oomAnnounced, helperChanged]: Parameters<HelperPort['watch']>,
    settled: () => void,
    ended: AbortSignal,
  ): Promise<void> {
    const { reconnectMinMs, reconnectMaxMs, readyMs } = this.#timing;
    /** Containers of which something else than STOPPED was reported. */
    const alive = new Set<string>();
    let delayMs = reconnectMinMs;
    // Each helper that is given up goes on with its start, so a slow host must get one that is waited for.
    let patienceMs = readyMs;
    while (!ended.aborted) {
      const reported = new Set<string>();
      // An object, for what a callback changes is not known to be changed.
      const seen = { ready: false };
      let problem = 'the helper of lockerd ended before it had told of all containers';
      try {
        await this.#watchOnce({ ended, patienceMs }, oomAnnounced, (status) => {
          if (status === 'ready') {
            seen.ready = true;
            delayMs = reconnectMinMs;
            patienceMs = readyMs;
            // What went while the connection was down is not reported any more.
            for (const container of [...alive].filter((container) => !reported.has(container))) {
              alive.delete(container);
              guestChanged({ container, state: 'STOPPED', leader: 0 });
            }
            helperChanged(undefined);
            settled();
            return;
          }
          reported.add(status.container);
          if (status.state === 'STOPPED') alive.delete(status.container);
          else alive.add(status.container);
          guestChanged(status);
        });
      } catch (error) {
        problem =
          error instanceof LockerdError
            ? `the helper of lockerd refuses to tell of containers: ${error.message}; see "journalctl -t lockerd-helper"`
            : whyNoAnswer('watch', error);
      }
      // A helper that ends and is back at once, as with a new version, is no problem.
      if (!seen.ready && !isAborted(ended)) {
        alive.clear();
        helperChanged(problem);
        settled();
        patienceMs = Math.min(patienceMs * 2, readyMs * patienceGrowth);
      }
      await pause(delayMs, ended);
      delayMs = Math.min(delayMs * 2, reconnectMaxMs);
    }
  }

  async #watchOnce(
    { ended, patienceMs }: { readonly ended: AbortSignal; readonly patienceMs: number },
    oomAnnounced: (container: string) => void,
    report: (status: LxcStatus | 'ready') => void,
  ): Promise<void> {
    const socket = connect(this.#socketPath);
    const leave = (): void => {
      socket.destroy();
    };
    const late = setTimeout(() => {
      socket.destroy(new Error('silence'));
    }, patienceMs);
    ended.addEventListener('abort', leave, { once: true });
    try {
      socket.write(`${JSON.stringify({ verb: 'watch' })}\n`);
      for await (const line of linesOf(socket)) {
        if (ended.aborted) return;
        if (line['event'] === 'ready') {
          clearTimeout(late);
          report('ready');
        } else if (line['event'] === 'state') report(statusOf(line));
        else if (line['event'] === 'oom') oomAnnounced(String(line['container']));
        else if (line['ok'] === false) throw errorOf(line);
      }
    } finally {
      clearTimeout(late);
      ended.removeEventListener('abort', leave);
      socket.destroy();
    }
  }
}

function statusOf({ container, state, leader, squatter }: Json): LxcStatus {
  if (
    typeof container !== 'string' ||
    typeof state !== 'string' ||
    typeof leader !== 'number' ||
    !Number.isInteger(leader)
  ) {
    throw new Error('no state of a container');
  }
  const { pid, uid } = (squatter ?? {}) as Json;
  const isKnown = isCount(pid) && isCount(uid);
  return { container, state, leader, ...(isKnown && { squatter: { pid, uid } }) };
}

/** Ends early when the signal fires. */
async function pause(ms: number, ended: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal: ended }).catch(() => undefined);
}
