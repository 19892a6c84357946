import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { GeneratedDefinitions } from '../../src/adapters/definitions.ts';
import { main } from '../../src/generator/main.ts';
import { system } from '../../src/host/system.ts';
import { hostFactsFile } from '../../src/model/facts.ts';

let directory: string;
beforeEach(() => {
  // This process is no generator that could be run once more, whatever is mounted here.
  vi.spyOn(system, 'runWatched').mockReturnValue({ status: -1 });
  directory = mkdtempSync(join(tmpdir(), 'lockerd-definitions-'));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

const output = (): string => join(directory, 'generator');

function put(path: string, text: string): void {
  const file = join(directory, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

/** As systemd does it: everything old goes, then the generators write. */
function generate(): void {
  rmSync(output(), { recursive: true, force: true });
  mkdirSync(output());
  // Whatever other disks this machine has, nothing is waited for.
  main([output(), output(), output()], { LOCKERD_ROOT: directory }, '');
}

beforeEach(() => {
  for (const name of ['web', 'mail']) {
    put(`var/lib/lxc/${name}/config`, 'lxc.rootfs.path = dir:/srv\nlxc.uts.name = x\n');
  }
});

const names = async (definitions: GeneratedDefinitions): Promise<string[]> =>
  (await definitions.read()).containers.map(({ name }) => name);

test('containers are not gone while the generator writes them anew', async () => {
  generate();
  const definitions = new GeneratedDefinitions(output());
  expect(await names(definitions)).toEqual(['mail', 'web']);
  rmSync(output(), { recursive: true });
  const reading = names(definitions);
  await sleep(300);
  // One is there before the other and before the end.
  mkdirSync(join(output(), 'lxc@web.service.d'), { recursive: true });
  writeFileSync(join(output(), 'lxc@web.service.d/60-container.conf'), '[X-Lockerd]\n');
  await sleep(300);
  generate();
  expect(await reading).toEqual(['mail', 'web']);
});

test('what a generator leaves without its last file counts in the end', async () => {
  generate();
  rmSync(join(output(), hostFactsFile));
  const definitions = new GeneratedDefinitions(output(), { settleMs: 300 });
  expect(await names(definitions)).toEqual(['mail', 'web']);
});
