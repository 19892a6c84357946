/** What lockerd-generator(8) wrote into its drop-ins for lockerd, which systemd has loaded. */

import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockerdError } from '../model/errors.ts';
import type { Definitions, DefinitionsPort } from '../core/ports.ts';
import type { ContainerFactsRead } from '../model/facts.ts';
import { decodeContainer, decodeHost, hostFactsFile } from '../model/facts.ts';

const containerDropIn = /^lxc@.+\.service\.d$/;
/** Reads so many files at once. */
const batch = 32;
/** How long generators may take before what is there counts as all that will come. */
const settleMs = 10_000;
const againMs = 100;

type HostDefinitions = Definitions & { readonly containers: readonly ContainerFactsRead[] };

export class GeneratedDefinitions implements DefinitionsPort {
  readonly #directory: string;
  readonly #settleMs: number;

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

  async #readOnce(): Promise<HostDefinitions> {
    const names = await this.#list();
    const dropIns = names.filter((name) => containerDropIn.test(name)).sort();
    const containers = [];
    for (let start = 0; start < dropIns.length; start += batch) {
      const texts = await Promise.all(
        dropIns
          .slice(start, start + batch)
          .map((name) => this.#text(join(name, '60-container.conf'))),
      );
      for (const text of texts) {
        const container = text === undefined ? undefined : decodeContainer(text);
        if (container !== undefined) containers.push(container);
      }
    }
    const host = await this.#text(hostFactsFile);
    return { ...decodeHost(host ?? ''), containers };
  }

  async #list(): Promise<string[]> {
    try {
      return await readdir(this.#directory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw new LockerdError('Failed', 'what the generator wrote cannot be read', { cause: error });
    }
  }

  async #text(path: string): Promise<string | undefined> {
    try {
      return await readFile(join(this.#directory, path), 'utf8');
    } catch (error) {
      // Of another program, or just being written again.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new LockerdError('Failed', 'what the generator wrote cannot be read', { cause: error });
    }
  }
}
