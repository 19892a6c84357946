/** What the control-group tests of both kinds of hosts share: a container from before the installation. */
import { expect } from 'vitest';
import { containerProperty, runAs, waitForJob } from './service.ts';
import { systemctl } from './support.ts';
import type { TestHost } from './test-host.ts';

/** Until the service has seen the guest, which takes its time on a busy machine. */
export async function untilServiceSees(host: TestHost, name: string): Promise<void> {
  await host.waitForGuest(name);
  await host.waitFor(`the service sees ${name}`, async () => {
    return (await containerProperty(host, name, 'Leader')) !== 0;
  });
}

/** Starts a container as the unit of the lxc package does, which lockerd's drop-ins then change. */
export async function expectOldUnitIsTold(host: TestHost, name: string): Promise<void> {
  const lockerctl = (...args: string[]) => runAs(host, 'root', 'lockerctl', ...args);
  const plain = `/run/systemd/system/lxc@${name}.service.d/99-plain.conf`;
  await host.writeFile(
    plain,
    `[Service]\nType=simple\nExecStart=\nExecStart=/usr/bin/lxc-start -F -n ${name}\n`,
  );
  await systemctl(host, 'daemon-reload');
  await systemctl(host, 'start', `lxc@${name}.service`);
  await untilServiceSees(host, name);
  await host.run('rm', [plain]);
  await systemctl(host, 'daemon-reload');
  const { output } = await lockerctl('balloon', name, '100M');
  const told = `not in the control group of its unit.*systemctl restart lxc@${name}\\.service`;
  expect(output).toMatch(new RegExp(told));
  for (const method of ['FreezeContainer', 'ThawContainer']) await waitForJob(host, method, name);
  // As it was told.
  await systemctl(host, 'restart', `lxc@${name}.service`);
  await untilServiceSees(host, name);
  expect(await lockerctl('balloon', name, '100M')).toMatchObject({ exitCode: 0 });
}
