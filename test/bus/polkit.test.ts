// The fixture of a real polkitd, which the tests of the service build on.

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { Variant } from '../../src/bus/values.ts';
import { startPolkit, startPrivateBus } from './bus.ts';
import { RawClient } from './raw.ts';

const action = 'org.lockerd1.test';

test('a rule decides by the user of the caller, and may change under way', async () => {
  const bus = await startPrivateBus();
  try {
    const actionsDir = path.join(bus.directory, 'actions');
    const rulesDir = path.join(bus.directory, 'rules');
    for (const directory of [actionsDir, rulesDir]) fs.mkdirSync(directory, { mode: 0o755 });
    fs.writeFileSync(
      path.join(actionsDir, 'test.policy'),
      `<?xml version="1.0"?>
<policyconfig><action id="${action}"><description>Test</description><message>Test</message>
<defaults><allow_any>no</allow_any><allow_inactive>no</allow_inactive><allow_active>no</allow_active></defaults>
</action></policyconfig>`,
    );
    const writeRule = (user: string): void => {
      const rule = `polkit.addRule(function(a, s) { if (a.id == "${action}" && s.user == "${user}") return polkit.Result.YES; });`;
      fs.writeFileSync(path.join(rulesDir, '10.rules'), rule);
    };
    writeRule('nobody');
    await startPolkit(bus, { actionsDir, rulesDir });
    const asker = await bus.connect();
    const check = async (name: string): Promise<unknown> => {
      const [result] = await asker.call({
        destination: 'org.freedesktop.PolicyKit1',
        path: '/org/freedesktop/PolicyKit1/Authority',
        interface: 'org.freedesktop.PolicyKit1.Authority',
        member: 'CheckAuthorization',
        signature: '(sa{sv})sa{ss}us',
        body: [['system-bus-name', { name: new Variant('s', name) }], action, {}, 0, ''],
      });
      return (result as unknown[])[0];
    };
    const nobody = await RawClient.connect(bus, 65534);
    const daemon = await RawClient.connect(bus, 1);
    const nameOf = async (client: RawClient): Promise<string> => {
      const reply = await client.call({
        destination: 'org.freedesktop.DBus',
        path: '/org/freedesktop/DBus',
        interface: 'org.freedesktop.DBus.Peer',
        member: 'Ping',
      });
      return reply.destination ?? '';
    };
    const names = [await nameOf(nobody), await nameOf(daemon)] as const;
    expect([await check(names[0]), await check(names[1])]).toEqual([true, false]);
    writeRule('daemon');
    await expect.poll(() => check(names[1]), { timeout: 30_000 }).toBe(true);
    expect(await check(names[0])).toBe(false);
  } finally {
    await bus.close();
  }
});
