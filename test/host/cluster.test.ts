/** A container in a Pacemaker cluster of two booted hosts with a common disk, as the printed commands make it. */

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { offline } from '../machines/support.ts';
import { makeNodes, nodeNames, type ClusterNodes, type NodeName } from './cluster-nodes.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 600_000 });

const web = { name: 'my web', unit: 'lxc@my\\x20web.service', group: 'lxc-my.20web' };

/** Says on the common disk which host's guest runs, ten times a second. All have the same clock. */
const witness = `#!/bin/sh
while :; do
    read -r now _ </proc/uptime
    echo "$(cat /etc/node) $now" >>/lockers/data/witness
    busybox usleep 100000
done
`;

let nodes: ClusterNodes;
/** Moments at which both hosts had a process that runs the container. */
const overlaps: string[] = [];
let isOver = false;
let watching: Promise<unknown> = Promise.resolve();

async function createWeb(name: NodeName): Promise<void> {
  const host = nodes.hosts[name];
  const config = [...offline, 'lxc.start.auto = 1', 'lxc.group = onboot'];
  await host.createContainer(web.name, 'busybox', { config });
  const rootfs = `/var/lib/lxc/${web.name}/rootfs`;
  await host.writeFile(`${rootfs}/etc/node`, `${name}\n`);
  await host.writeFile(`${rootfs}/bin/witness`, witness, 0o755);
  const inittab = await host.readFile(`${rootfs}/etc/inittab`);
  await host.writeFile(`${rootfs}/etc/inittab`, `${inittab}::respawn:/bin/witness\n`);
  await host.writeFile(
    `/etc/lockerd/containers/${web.name}.conf`,
    'managed-by = pacemaker\nlockers = data\n',
  );
  await host.writeFile(
    '/etc/fstab',
    `${nodes.device} /lockers/data ext4 noauto,nosuid,nodev,x-systemd.device-timeout=1s 0 0\n`,
  );
}

/** One whose guest has no init. */
async function createBroken(name: NodeName): Promise<void> {
  const host = nodes.hosts[name];
  await host.createContainer('broken', 'busybox', { config: [...offline] });
  await host.writeFile('/etc/lockerd/containers/broken.conf', 'managed-by = pacemaker\n');
  await host.writeFile('/var/lib/lxc/broken/rootfs/sbin/init', 'no program\n', 0o644);
}

/** Whether a process runs the container there. */
async function isRunningOn(name: NodeName): Promise<boolean> {
  const host = nodes.hosts[name];
  if (!host.isOn) return false;
  // The pattern does not match itself: several look at the same time, and pgrep leaves out only itself.
  const look = host.run('pgrep', ['-f', `[l]xc-start.*${web.name}`], { reject: false });
  return (await look.catch(() => ({ exitCode: 1 }))).exitCode === 0;
}

async function runningOn(): Promise<NodeName[]> {
  const found = await Promise.all(nodeNames.map(isRunningOn));
  return nodeNames.filter((_, index) => found[index]);
}

/** It runs on both if it runs on one before and after a moment at which it runs on the other. */
async function watchForOverlaps(): Promise<void> {
  while (!isOver) {
    for (const name of nodeNames) {
      const before = await isRunningOn(name);
      if (!before || !(await isRunningOn(otherThan(name)))) continue;
      if (await isRunningOn(name)) overlaps.push(new Date().toISOString());
    }
    await sleep(100);
  }
}

const otherThan = (name: NodeName): NodeName => (name === 'one' ? 'two' : 'one');

/** The node whose guest writes now; waits until one does. */
async function writingNode(expected?: NodeName): Promise<NodeName> {
  let found: NodeName | undefined;
  const isWriting = async (name: NodeName): Promise<boolean> => {
    const host = nodes.hosts[name];
    if (!host.isOn) return false;
    const last = 'tail -n 1 /lockers/data/witness && cat /proc/uptime';
    const { stdout, exitCode } = await host.shell(last, { reject: false });
    const [line = '', uptime = ''] = stdout.split('\n');
    const [node, at = ''] = line.split(' ');
    return exitCode === 0 && node === name && Number.parseFloat(uptime) - Number(at) < 1;
  };
  const wanted = expected === undefined ? nodeNames : [expected];
  const asked = nodes.hosts[nodeNames.find((name) => nodes.hosts[name].isOn) ?? 'one'];
  const isFound = async (): Promise<boolean> => {
    for (const name of wanted) if (await isWriting(name)) found = name;
    return found !== undefined;
  };
  try {
    await asked.waitFor(`the guest writes on ${wanted.join(' or ')}`, isFound, 60_000);
  } catch (error) {
    const { stdout } = await asked.run('crm_mon', ['-1rfn'], { reject: false });
    throw new Error(`the cluster has other thoughts:\n${stdout}`, { cause: error });
  }
  if (found === undefined) throw new Error('nobody writes');
  return found;
}

/** The commands as they are printed, run by a shell. */
async function applyCommands(on: NodeName, name: string, format: 'crm' | 'pcs'): Promise<void> {
  const host = nodes.hosts[on];
  await host.run('sh', [
    '-euc',
    'lockerctl cluster-resource --format="$2" "$1" >/run/commands && exec sh -e /run/commands',
    ...['sh', name, format],
  ]);
}

attachJournalOnFailure(() => nodes.hosts.one);

beforeAll(async () => {
  nodes = await makeNodes();
  for (const name of nodeNames) {
    await createWeb(name);
    await createBroken(name);
  }
  await nodes.boot('one', 'two');
  await nodes.join();
  await nodes.startCluster('one', 'two');
  const fencing =
    'configure\nprimitive fencing stonith:fence_test params pcmk_host_list="one two" op monitor interval=60s timeout=20s\ncommit\n';
  await nodes.hosts.one.run('crm', ['-f', '-'], { input: fencing });
  watching = watchForOverlaps();
});

afterAll(async () => {
  isOver = true;
  await watching;
  await nodes[Symbol.asyncDispose]();
});

test('nothing but the cluster starts a container of the cluster', async () => {
  expect(await runningOn()).toEqual([]);
  await applyCommands('one', web.name, 'crm');
  const host = nodes.hosts[otherThan(await writingNode())];
  const refused = async (...command: readonly [string, ...string[]]): Promise<string> => {
    const [program, ...args] = command;
    const { exitCode, stdout, stderr } = await host.run(program, args, { reject: false });
    expect({ command, exitCode }).toEqual({ command, exitCode: 1 });
    return stdout + stderr;
  };
  await refused('systemctl', 'start', web.unit);
  await refused('systemctl', 'start', 'lockers-data.mount');
  expect(await refused('lockerctl', 'start', web.name)).toContain(
    `is started by Pacemaker alone; run: crm resource start ${web.group}`,
  );
  expect(await refused('lockerctl', 'enable', web.name)).toContain('Pacemaker alone starts it');
  const moved = await refused('lockerctl', 'move', web.name, 'root@elsewhere.example');
  expect(moved).toContain(`crm resource move ${web.group} NODE`);
  for (const target of ['lxc-autostart.target', 'lxc-group@onboot.target']) {
    await host.run('systemctl', ['start', target]);
  }
  // A link that no generator makes.
  await host.run('systemctl', ['enable', web.unit]);
  await host.run('systemctl', ['restart', 'lockerd-rescan.service', 'multi-user.target']);
  expect((await host.shell('cat /proc/mounts')).stdout).not.toContain('/lockers/data');
  expect(await runningOn()).toHaveLength(1);
});

test('it comes up on the other node when its own loses power', async () => {
  const lost = await writingNode();
  const kept = otherThan(lost);
  const before = Date.now();
  await nodes.hosts[lost].crash();
  await writingNode(kept);
  console.log(`on the other node after ${((Date.now() - before) / 1000).toFixed(1)} s`);
  expect(await nodes.hosts[kept].exists(`/srv/fence/${lost}.dead`)).toBe(true);
  // The boot starts it neither by lxc.start.auto nor by a link, and it stays where it is.
  await nodes.boot(lost);
  await nodes.join();
  expect(await runningOn()).toEqual([kept]);
  await nodes.startCluster(lost);
  await nodes.hosts[kept].run('crm_resource', ['--wait'], { timeoutMs: 60_000 });
  expect(await runningOn()).toEqual([kept]);
});

test('it moves when an admin asks, and when its node goes into standby', async () => {
  const from = await writingNode();
  const to = otherThan(from);
  await nodes.hosts[from].clearMarker(web.name);
  await nodes.hosts[from].run('crm', ['resource', 'move', web.group, to]);
  await writingNode(to);
  expect(await nodes.hosts[from].marker(web.name)).toBeDefined();
  await nodes.hosts[from].run('crm', ['resource', 'clear', web.group]);
  await nodes.hosts[from].run('crm_standby', ['--node', to, '--update', 'on']);
  await writingNode(from);
  await nodes.hosts[from].run('crm_standby', ['--node', to, '--delete']);
  await nodes.hosts[from].run('crm_resource', ['--wait'], { timeoutMs: 60_000 });
  expect(await runningOn()).toEqual([from]);
});

test('one that does not start is tried once on each node, and left alone then', async () => {
  await applyCommands('two', 'broken', 'pcs');
  const starts = async (): Promise<number[]> =>
    Promise.all(
      nodeNames.map(async (name) => {
        const { stdout } = await nodes.hosts[name].shell(
          "journalctl --boot -u lxc@broken.service -o cat | grep -c '^Starting ' || true",
        );
        return Number(stdout);
      }),
    );
  await nodes.hosts.two.waitFor('both have tried', async () => {
    return (await starts()).every((count) => count > 0);
  });
  await nodes.hosts.two.run('crm_resource', ['--wait'], { timeoutMs: 60_000 });
  await sleep(5000);
  expect(await starts()).toEqual([1, 1]);
  for (const name of nodeNames) {
    expect((await nodes.hosts[name].unit('lxc@broken.service'))['ActiveState']).not.toBe('active');
  }
});

test('it has never run on both', async () => {
  const last = await writingNode();
  const { stdout } = await nodes.hosts[last].shell('cat /lockers/data/witness');
  const lines = stdout.trim().split('\n');
  const times = lines.map((line) => Number(line.split(' ')[1]));
  expect(times).toEqual([...times].sort((a, b) => a - b));
  const turns = lines
    .map((line) => line.split(' ')[0])
    .filter((node, index, all) => node !== all[index - 1]);
  // The first start, the loss of power, the move, the standby.
  const [first] = turns;
  const second = first === 'one' ? 'two' : 'one';
  expect(turns).toEqual([first, second, first, second]);
  expect(overlaps).toEqual([]);
});
