/** Two hosts of one network, of which the first logs in to the second as root. */

import type { TestHost } from './test-host.ts';

/** Addresses of the source and of the target. */
export const addresses = { source: '10.99.0.1', target: '10.99.0.2' } as const;

/** The source gets a key of its own, which the target's sshd knows, and knows the target's. */
export async function introduce(source: TestHost, target: TestHost): Promise<void> {
  await target.shell('ssh-keygen -A >/dev/null && systemctl restart ssh');
  await source.shell(
    'mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519',
  );
  const own = await source.readFile('/root/.ssh/id_ed25519.pub');
  await target.writeFile('/root/.ssh/authorized_keys', own, 0o600);
  const [type = '', key = ''] = (await target.readFile('/etc/ssh/ssh_host_ed25519_key.pub')).split(
    ' ',
  );
  await source.writeFile('/root/.ssh/known_hosts', `${addresses.target} ${type} ${key}\n`, 0o600);
}
