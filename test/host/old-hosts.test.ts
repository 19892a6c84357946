import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { expectState, guestPid, lockersSeenBy, systemctl } from '../machines/support.ts';
import type { Host } from './host.ts';
import { MovedHost, oldHosts } from './old-hosts.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

describe.each(oldHosts)('$name', ({ guests, notes = [] }) => {
  let moved: MovedHost;
  let host: Host;
  let before: Record<string, string>;
  beforeAll(async () => {
    moved = await MovedHost.make(oldHosts.find((old) => old.guests === guests) as never);
    host = moved.host;
    before = moved.snapshot();
  });
  afterAll(() => moved.close());
  attachJournalOnFailure(() => host);

  const lockerctl = async (...args: string[]): Promise<{ exitCode: number; stdout: string }> =>
    host.run('lockerctl', args, { reject: false });

  test('is imported: all at once, and once', async () => {
    const dry = await lockerctl('import');
    expect(dry.stdout).toContain('none of them made');
    expect(moved.snapshot()).toEqual(before);
    const said = dry.stdout.split('\n').filter((line) => line.startsWith('note: '));
    const expected = [
      ...notes,
      ...guests
        .filter(({ startedBy }) => startedBy === undefined)
        .map(({ name }) => new RegExp(`^${name}: nothing starts it at boot`)),
    ];
    expect(said.map((line) => line.slice('note: '.length)).sort()).toEqual(
      expected.map((pattern) => expect.stringMatching(pattern) as string),
    );

    const { exitCode, stdout } = await lockerctl('import', '--apply');
    expect({ exitCode, stdout }).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/\d changes? made\./) as string,
    });
    const after = moved.snapshot();
    expect(after).not.toEqual(before);
    expect((await lockerctl('import')).stdout).toContain('Nothing is left to import.');
    expect((await lockerctl('import', '--apply')).exitCode).toBe(0);
    expect(moved.snapshot()).toEqual(after);
  });

  test('has all of its containers running after a boot', async () => {
    // What the notes said.
    for (const { name, startedBy } of guests) {
      if (startedBy === undefined) await systemctl(host, 'enable', `lxc@${name}`);
    }
    await host.reboot();
    for (const { name, address, lockers, memoryMax } of guests) {
      await host.waitForGuest(name);
      const unit = await host.unit(`lxc@${name}`);
      expect(unit).toMatchObject({ ActiveState: 'active', NRestarts: '0' });
      if (memoryMax !== undefined) expect(unit['MemoryMax']).toBe(String(memoryMax));
      const net = ['-t', String(await guestPid(host, name)), '-n', 'ip', '-4', '-o', 'address'];
      if (address !== undefined) {
        expect((await host.run('nsenter', net)).stdout).toContain(` ${address} `);
      }
      expect(await lockersSeenBy(host, name)).toEqual(lockers ?? []);
    }
    const { stdout } = await lockerctl('check', '-q', '--no-legend', '--json');
    const findings = JSON.parse(stdout) as { severity: string; what: string }[];
    expect(findings.filter(({ severity }) => severity === 'error')).toEqual([]);
  });

  test('is as it was when the import is undone', async () => {
    for (const { name, startedBy } of guests) {
      await systemctl(host, 'stop', `lxc@${name}`);
      await expectState(host, `lxc@${name}`, 'inactive');
      if (startedBy === undefined) await systemctl(host, 'disable', `lxc@${name}`);
    }
    const script = (await host.shell('echo /var/backups/lockerd-import-*.sh')).stdout.trim();
    await host.shell(`sh ${script}`);
    const { [script]: left, ...after } = moved.snapshot();
    expect(left).toBeDefined();
    expect(after).toEqual(before);
  });
});
