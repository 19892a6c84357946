import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Host } from '../host/host.ts';
import { runAs } from '../machines/service.ts';
import { systemctl } from '../machines/support.ts';
import { bootAttackHost, bystander, perlAs, perlInGuest, stranger } from './attack-host.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

let host: Host;
beforeAll(async () => {
  host = await bootAttackHost('attack');
});
afterAll(() => host.close());

test('the users of an attacked host are nobody in particular', async () => {
  for (const user of [stranger, bystander]) {
    expect((await perlAs(host, user, 'print "$< $>";')).output).toMatch(/^(\d{4,}) \1$/);
    expect((await runAs(host, user, 'id', '-nG')).output).toBe(`${user}\n`);
  }
});

test.each(['evil', 'mapped'])('the hostile guest "%s" runs Perl as its root', async (guest) => {
  await systemctl(host, 'start', `lxc@${guest}`);
  await host.waitForGuest(guest);
  expect((await perlInGuest(host, guest, 'print "$<";')).output).toBe('0');
});
