/** What lockerd-generator(8) wrote into its drop-ins for lockerd, which systemd has loaded. */

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TimeSlices } from '../bus/event-loop.ts';
import { LockerdError } from '../model/errors.ts';
import type { Definitions, DefinitionsPort } from '../core/ports.ts';
import type { ContainerFactsRead } from '../model/facts.ts';
import { decodeContainer, decodeHost, hostFactsFile } from '../model/facts.ts';

const containerDropIn = /^lxc@.+\.service\.d$/;
/** How long generators may take before what is there counts as all that will come. */
const settleMs = 10_000;
const againMs = 100;

type HostDefinitions = Definitions & { readonly containers: readonly ContainerFactsRead[] };

export class GeneratedDefinitions implements DefinitionsPort {
  readonly #directory: string;
  readonly #settleMs: number;
  /** What was read last, by the name of its directory, and a hash of its text. */
  #known = new Map<
    string,
    { readonly hash: string; readonly facts: ContainerFactsRead | undefined }
  >();

  constructor(directory = '/run/systemd/generator', options: { settleMs?: number } = {}) {
    this.#directory = directory;
    this.#settleMs = options.settleMs ?? settleMs;
  }

  /**
   * systemd empties the directory for each daemon-reload, and containers must not seem gone
   * meanwhile: what was read counts when the generator's last file was there all the time.
   */
  async read(): Promise<HostDefinitions> {
    const end = performance.now() + this.#settleMs;
    for (;;) {
      const before = await this.#version();
      const definitions = await this.#readOnce();
      const isWhole = before !== undefined && before === (await this.#version());
      if (isWhole || performance.now() >= end) return definitions;
      await sleep(againMs);
    }
  }

  /** Changes with each run of the generator; undefined until it has written everything. */
  async #version(): Promise<string | undefined> {
    try {
      const { ino, mtimeNs } = await stat(join(this.#directory, hostFactsFile), { bigint: true });
      return `${ino} ${mtimeNs}`;
    } catch {
      return undefined;
    }
  }

  /** Synchronous, in slices: the files are in memory, and a thread for each would cost much more. */
  async #readOnce(): Promise<HostDefinitions> {
    const slices = new TimeSlices();
    const known = new Map<string, { hash: string; facts: ContainerFactsRead | undefined }>();
    const containers: ContainerFactsRead[] = [];
    for (const name of this.#list().filter((one) => containerDropIn.test(one))) {
      const text = this.#text(join(name, '60-container.conf'));
      if (text === undefined) continue;
      const hash = createHash('sha1').update(text).digest('base64');
      const before = this.#known.get(name);
      // The same object, by which is seen that nothing has changed.
      const facts = before?.hash === hash ? before.facts : decodeContainer(text);
      known.set(name, { hash, facts });
      if (facts !== undefined) containers.push(facts);
      await slices.pause();
    }
    this.#known = known;
    const host = this.#text(hostFactsFile);
    return { ...decodeHost(host ?? ''), containers };
  }

  /** Sorted. */
  #list(): string[] {
    try {
      return readdirSync(this.#directory).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw new LockerdError('Failed', 'what the generator wrote cannot be read', { cause: error });
    }
  }

  #text(path: string): string | undefined {
    try {
      return readFileSync(join(this.#directory, path), 'utf8');
    } catch (error) {
      // Of another program, or just being written again.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new LockerdError('Failed', 'what the generator wrote cannot be read', { cause: error });
    }
  }
}
