import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CoreError } from '../core/errors.ts';
import type { Definitions, DefinitionsPort } from '../core/ports.ts';
import type { ContainerFactsRead } from '../model/facts.ts';
import { decodeContainer, decodeHost } from '../model/facts.ts';

const containerDropIn = /^lxc@.+\.service\.d$/;
/** Reads so many files at once. */
const batch = 32;

/** What lockerd-generator(8) wrote into its drop-ins for us, which systemd has loaded. */
export class GeneratedDefinitions implements DefinitionsPort {
  readonly #directory: string;

  constructor(directory = '/run/systemd/generator') {
    this.#directory = directory;
  }

  async read(): Promise<Definitions & { readonly containers: readonly ContainerFactsRead[] }> {
    // systemd empties the directory for each daemon-reload; who reads then sees too little.
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
    const host = await this.#text('lockerd.service.d/60-host.conf');
    return { ...decodeHost(host ?? ''), containers };
  }

  async #list(): Promise<string[]> {
    try {
      return await readdir(this.#directory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw new CoreError('failed', 'what the generator wrote cannot be read', { cause: error });
    }
  }

  async #text(path: string): Promise<string | undefined> {
    try {
      return await readFile(join(this.#directory, path), 'utf8');
    } catch (error) {
      // Of somebody else, or just being written anew.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new CoreError('failed', 'what the generator wrote cannot be read', { cause: error });
    }
  }
}
