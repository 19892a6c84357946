/** The life of a locker as an ordinary user has it by the example rule, over D-Bus, from its birth to its end. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { configurePackage, runAs } from './service.ts';
import { mebibyte } from './stores.ts';
import { answerOfGuest, lockersSeenBy, offline, systemctl } from './support.ts';
import type { TestHost } from './test-host.ts';

const rule = path.resolve(import.meta.dirname, '../../src/examples/rules/60-lockers.rules');

export const gibibyte = 2 ** 30;

/** What methods take behind their names, before the options. */
const signatures = {
  CreateLocker: 'st',
  GrowLocker: 'st',
  RenameLocker: 'ss',
  SnapshotLocker: 'ss',
  RestoreLocker: 'sss',
  ForgetLocker: 's',
  AdoptLocker: 's',
  MountLocker: 'ss',
  UnmountLocker: 'ss',
} as const;

type Member = keyof typeof signatures;
type Call = readonly [
  user: string,
  member: Member,
  args: readonly (string | number)[],
  options?: readonly string[],
];

/** What users do with lockers on a host with the container "ann-web" and the users ann and stranger. */
export class LockerUsers {
  readonly #host: () => TestHost;

  constructor(host: () => TestHost) {
    this.#host = host;
  }

  /** Makes users and container, and sets the bounds of the example rule to two lockers. */
  async prepare(stores: readonly string[]): Promise<void> {
    const host = this.#host();
    await host.shell(`
      groupadd lockers
      useradd --no-create-home --groups lockers ann
      useradd --no-create-home stranger`);
    const names = stores.map((store) => `action.lookup("store") === "${store}"`).join(' || ');
    const bounded = fs
      .readFileSync(rule, 'utf8')
      .replace('lockers <= 4', 'lockers <= 2')
      .replace('action.lookup("store") === "users"', `(${names})`);
    await host.writeFile('/etc/polkit-1/rules.d/60-lockers.rules', bounded);
    await host.createContainer('ann-web', 'busybox', { config: offline });
    await configurePackage(host);
  }

  async start(): Promise<void> {
    const host = this.#host();
    for (const unit of ['polkit.service', 'lockerd.service', 'lxc@ann-web']) {
      await systemctl(host, 'start', unit);
    }
    await host.waitForGuest('ann-web');
  }

  /**
   * Calls a method and waits for the end of its job, without a program in Node of the caller's. The output has the
   * name of an error as well.
   */
  call(...[user, member, args, options = []]: Call): Promise<{ exitCode: number; output: string }> {
    const all = ['wait', 'b', 'true', ...options];
    return runAs(
      this.#host(),
      user,
      'env',
      ...['SYSTEMD_LOG_LEVEL=debug', 'SYSTEMD_LOG_TARGET=console', 'busctl', '--timeout=900'],
      ...['--allow-interactive-authorization=no', '--', 'call', 'org.lockerd1', '/org/lockerd1'],
      ...['org.lockerd1.Manager', member, `${signatures[member]}a{sv}`],
      ...[...args.map(String), String(all.length / 3), ...all],
    );
  }

  async does(...request: Call): Promise<void> {
    const { exitCode, output } = await this.call(...request);
    if (exitCode !== 0) throw new Error(`${request.join(' ')}: ${output}`);
  }

  /** Polkit does not let the user do it. */
  async isRefused(...request: Call): Promise<void> {
    const { exitCode, output } = await this.call(...request);
    expect({ request, exitCode, output }).toMatchObject({
      exitCode: 1,
      output: expect.stringMatching(/polkit does not allow you|takes a password/) as string,
    });
  }

  /** Nothing of it is done, by an error of this name with these words. */
  async fails(request: Call, error: string, message: RegExp): Promise<void> {
    const before = await this.#host().shell('ls -A /lockers /var/lib/lockerd/changes');
    const { exitCode, output } = await this.call(...request);
    expect({ request, exitCode, output }).toMatchObject({
      exitCode: 1,
      output: expect.stringMatching(message) as string,
    });
    expect(/error-name=\S*\.Error\.(\w+)/.exec(output)?.[1]).toBe(error);
    const after = await this.#host().shell('ls -A /lockers /var/lib/lockerd/changes');
    expect(after).toEqual(before);
  }
}

export interface Story {
  readonly store: string;
  readonly size: number;
  /** Bytes that it grows by, and that the guest writes meanwhile. */
  readonly by: number;
  readonly encrypt?: 'key-file';
  /** Where the data is. */
  readonly place: (locker: string) => string;
  /** What is told of the file system. */
  readonly fileSystem: string;
  /**
   * Whether what is refused is told too, which is the same in each store. Where each program of the helper's
   * takes seconds to start, that is half of the time.
   */
  readonly withRefusals: boolean;
}

/** The story of one store, in which the user has no locker when it begins, and none when it has ended. */
export function tellStory(
  host: () => TestHost,
  users: LockerUsers,
  { store, size, by, encrypt, place, fileSystem, withRefusals }: Story,
): void {
  const locker = `ann-${store}`;
  const copy = `${locker}.2`;
  const path = `/lockers/${locker}`;
  const answer = (command: string): Promise<string> => answerOfGuest(host(), 'ann-web', command);
  /** The quotas of directories do not bind root of a guest that has no ids of its own. */
  const answerOfUser = async (command: string): Promise<string> => {
    const user = ['--uid', '1234', '--gid', '1234', '--clear-env'];
    const args = ['-n', 'ann-web', ...user, '--', '/bin/sh', '-c', `{ ${command}\n} 2>&1`];
    return (await host().run('lxc-attach', args, { timeoutMs: 300_000, reject: false })).stdout;
  };
  const options = [
    ...['store', 's', store],
    ...(encrypt === undefined ? [] : ['encrypt', 's', encrypt]),
  ];

  const isRefused = async (...request: Call): Promise<void> => {
    if (withRefusals) await users.isRefused(...request);
  };

  test('beyond the bounds of the rule nothing is allowed, and nothing is done', async () => {
    await isRefused('stranger', 'CreateLocker', ['stranger-a', size], options);
    await isRefused('ann', 'CreateLocker', ['bob-a', size], options);
    await users.isRefused('ann', 'CreateLocker', [locker, 21 * gibibyte], options);
    expect(await host().exists(place('stranger-a'))).toBe(false);
    const left = 'ls -A /lockers /var/lib/lockerd/changes 2>/dev/null | grep -v : || :';
    expect((await host().shell(left)).stdout.trim()).toBe('');
  });

  test('a locker is made, attached and filled', async () => {
    await users.does('ann', 'CreateLocker', [locker, size], options);
    await isRefused('stranger', 'MountLocker', ['ann-web', locker]);
    await users.does('ann', 'MountLocker', ['ann-web', locker]);
    expect(await lockersSeenBy(host(), 'ann-web')).toEqual([locker]);
    await answer(`chmod 777 ${path}`);
    const said = await answerOfUser(`dd if=/dev/zero of=${path}/fill bs=1M conv=fsync; sync`);
    expect(said).toMatch(/No space left|quota exceeded/);
    // It takes what it has, and no more than that. The header of an encrypted one is 16 MiB.
    const { stdout } = await host().run('stat', ['-c', '%s', `${path}/fill`]);
    expect(Number(stdout)).toBeLessThanOrEqual(size);
    expect(Number(stdout)).toBeGreaterThan(size * 0.4);
    const type = (await host().run('stat', ['-fc', '%T', path])).stdout.trim();
    expect(type).toBe(fileSystem);
  });

  test('it grows while the guest writes', async () => {
    const count = Math.floor(by / mebibyte / 2);
    const write = `dd if=/dev/zero of=${path}/more bs=1M count=${count} conv=notrunc,fsync`;
    const writer = `until ${write}; do sleep 0.2; done; : > ${path}/done`;
    await answerOfUser(`sh -c '${writer}' >/dev/null 2>&1 </dev/null &`);
    const isDone = () => host().exists(`${path}/done`);
    await isRefused('stranger', 'GrowLocker', [locker, 2 * size]);
    expect(await isDone()).toBe(false);
    await users.does('ann', 'GrowLocker', [locker, by], ['by', 'b', 'true']);
    await host().waitFor('the guest has written all', isDone, 120_000);
    const { stdout } = await host().run('stat', ['-c', '%s', `${path}/more`]);
    expect(Number(stdout)).toBe(count * mebibyte);
  });

  test('what a snapshot kept comes back as another locker', async () => {
    await answer(`rm ${path}/fill ${path}/more; echo first > ${path}/word; sync`);
    await isRefused('stranger', 'SnapshotLocker', [locker, 'before']);
    await users.does('ann', 'SnapshotLocker', [locker, 'before']);
    await answer(`echo second > ${path}/word`);
    await isRefused('stranger', 'RestoreLocker', [locker, 'before', 'stranger-copy']);
    await users.does('ann', 'RestoreLocker', [locker, 'before', copy]);
    expect(await host().readFile(`/lockers/${copy}/word`)).toBe('first\n');
    expect(await host().readFile(`${path}/word`)).toBe('second\n');
  });

  test('it is detached and forgotten, and its data stays', async () => {
    // A third one is beyond the bounds.
    await isRefused('ann', 'CreateLocker', ['ann-third', size], options);
    await isRefused('stranger', 'ForgetLocker', [copy]);
    await users.does('ann', 'ForgetLocker', [copy]);
    const busy = await users.call('ann', 'ForgetLocker', [locker]);
    expect(busy.output).toContain(`locker "${locker}" is attached to container "ann-web"`);
    await isRefused('stranger', 'UnmountLocker', ['ann-web', locker]);
    await users.does('ann', 'UnmountLocker', ['ann-web', locker]);
    expect(await lockersSeenBy(host(), 'ann-web')).toEqual([]);
    await users.does('ann', 'ForgetLocker', [locker]);
    for (const name of [locker, copy]) {
      expect(await host().exists(`/lockers/${name}`)).toBe(false);
      expect(await host().exists(place(name))).toBe(true);
    }
    // What is forgotten still counts.
    await isRefused('ann', 'CreateLocker', ['ann-third', size], options);
  });

  test('root takes it back as it was, and nobody else', async () => {
    await isRefused('stranger', 'AdoptLocker', [locker]);
    await isRefused('ann', 'AdoptLocker', [locker]);
    // Stores of one volume group have each other's.
    await users.does('root', 'AdoptLocker', [locker], ['store', 's', store]);
    expect(await host().readFile(`/lockers/${locker}/word`)).toBe('second\n');
    // It is hers still.
    await users.does('ann', 'ForgetLocker', [locker]);
  });
}
