import { rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  expectState,
  guestPid,
  journalOf,
  offline,
  systemctl,
  timed,
  trySystemctl,
} from '../machines/support.ts';

/** Containers that have a second unit, for the init script of an older host. */
vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

const bind = (path: string) => `lxc.mount.entry = ${path} srv none bind,create=dir 0 0`;
const containers: Readonly<Record<string, string[]>> = {
  sound: [],
  headless: [],
  mountless: [bind('/srv/data')],
  rootless: [],
  lockerless: [],
  refused: ['lxc.signal.halt = SIGNOTHING'],
};

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'script', boot: false });
  await host.writeFile(
    '/etc/fstab',
    ['/srv/data', '/srv/root', '/lockers/lockerless']
      .map((place) => `/dev/absent ${place} ext4 noauto,x-systemd.device-timeout=1s 0 0\n`)
      .join(''),
  );
  for (const [name, config] of Object.entries(containers)) {
    await host.createContainer(name, 'busybox', { config: [...offline, ...config] });
    writeFileSync(`${host.root}/etc/init.d/lxc.${name}`, '#!/bin/sh\n', { mode: 0o755 });
  }
  rmSync(`${host.root}/var/lib/lxc/headless/rootfs/sbin/init`);
  const config = '/var/lib/lxc/rootless/config';
  const text = await host.readFile(config);
  await host.writeFile(config, text.replace('/var/lib/lxc/rootless/', '/srv/root/'));
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

/** Until units are down and do nothing. */
async function untilDown(...units: string[]): Promise<void> {
  await host.waitFor(`${units.join(' and ')} are down`, async () => {
    const states = await Promise.all(units.map((name) => host.unit(name)));
    return states.every((unit) => unit['ActiveState'] === 'inactive' && unit['Job'] === undefined);
  });
}

describe.each(Object.keys(containers).filter((name) => name !== 'sound'))(
  'a start of "%s" that fails',
  (name) => {
    test.each([
      ['start', `lxc@${name}`],
      ['start', `lxc.${name}`],
      ['restart', `lxc@${name}`],
      ['restart', `lxc.${name}`],
    ])('has failed, and is not canceled, when "systemctl %s %s" returns', async (verb, unit) => {
      const { exitCode, output } = await trySystemctl(host, verb, unit);
      expect(exitCode).toBe(1);
      expect(output).toMatch(/^(Job for|A dependency job for) lxc.* failed/);
      expect(output).not.toContain('cancel');
      const { ActiveState: state, Result: result } = await host.unit(`lxc@${name}`);
      expect(['failed', 'inactive']).toContain(state);
      if (state === 'failed') expect(result).toBe('exit-code');
      await untilDown(`lxc.${name}`, `lxc-started@${name}`);
      expect(await journalOf(host, `lxc@${name}`)).not.toMatch(/cancel/i);
      await systemctl(host, 'stop', `lxc@${name}`);
    });
  },
);

test('a start that is repeated at once fails each time', async () => {
  for (const name of ['headless', 'rootless']) {
    for (let times = 0; times < 6; times++) {
      expect((await trySystemctl(host, 'start', `lxc.${name}`)).exitCode).toBe(1);
    }
  }
});

describe('a container that runs', () => {
  test.each(['lxc@sound', 'lxc.sound'])(
    '"systemctl restart %s" returns when it is up',
    async (unit) => {
      await systemctl(host, 'start', unit);
      await host.waitForGuest('sound');
      const before = await guestPid(host, 'sound');
      await systemctl(host, 'restart', unit);
      await expectState(host, 'lxc@sound', 'active');
      const after = await guestPid(host, 'sound');
      expect(after).toBeDefined();
      expect(after).not.toBe(before);
      await host.waitFor('lxc.sound is active', async () => {
        return (await host.unit('lxc.sound'))['ActiveState'] === 'active';
      });
      await systemctl(host, 'stop', unit);
      expect(await guestPid(host, 'sound')).toBeUndefined();
      await expectState(host, 'lxc@sound', 'inactive');
    },
  );

  test('has its second unit stopped with it when it powers itself off', async () => {
    await systemctl(host, 'start', 'lxc.sound');
    await host.waitForGuest('sound');
    await host.run('lxc-attach', ['-n', 'sound', '--clear-env', '--', '/bin/poweroff']);
    await untilDown('lxc@sound', 'lxc.sound');
    expect(await journalOf(host, 'lxc@sound')).not.toMatch(/cancel/i);
  });

  test('is waited for when the host goes down', async () => {
    await systemctl(host, 'start', 'lxc.sound');
    await host.waitForGuest('sound');
    await host.clearMarker('sound');
    const { ms } = await timed(() => host.powerOff());
    expect(ms).toBeLessThan(60_000);
    expect(await host.marker('sound')).toBeDefined();
  });
});
