/** Two test hosts that are the nodes of a Pacemaker cluster and have a block device in common. */

import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { bootHost, type Host } from './host.ts';
import { ensureClusterImage } from './image.mjs';

const runHere = promisify(execFile);

/** Names of the nodes and their addresses. */
const addresses = { one: '10.98.0.1', two: '10.98.0.2' } as const;

export type NodeName = keyof typeof addresses;

export const nodeNames = ['one', 'two'] as const satisfies readonly NodeName[];

const node = (name: NodeName, id: number): string =>
  `    node {\n        ring0_addr: ${addresses[name]}\n        name: ${name}\n        nodeid: ${id}\n    }\n`;

/** Nobody can ask for real-time scheduling here, where it is the machine's. */
const corosync = `totem {
    version: 2
    cluster_name: test
    transport: udpu
    token: 2000
}
system {
    sched_rr: no
    allow_knet_handle_fallback: yes
}
nodelist {
${node('one', 1)}${node('two', 2)}}
quorum {
    provider: corosync_votequorum
    two_node: 1
    wait_for_all: 0
}
logging {
    to_syslog: yes
}
`;

/**
 * The fence agent of the test: it leaves a file with the node's name in a directory that the machine sees, and
 * waits until the machine says that the node is dead. What kills a host is outside of it, as in a real cluster.
 */
const agent = `#!/bin/sh
place=/srv/fence
action=reboot nodename=
while read -r line; do
    case $line in action=*) action=\${line#*=} ;; nodename=* | plug=* | port=*) nodename=\${line#*=} ;; esac
done
case $action in
    metadata) cat <<'XML'
<?xml version="1.0" ?>
<resource-agent name="fence_test" shortdesc="test"><longdesc>test</longdesc><parameters>
<parameter name="action"><content type="string" default="reboot"/></parameter>
<parameter name="port" required="1"><content type="string"/></parameter>
</parameters><actions><action name="off"/><action name="reboot"/><action name="on"/><action name="status"/><action name="list"/>
<action name="monitor"/><action name="metadata"/></actions></resource-agent>
XML
    ;;
    monitor | status | on | list) exit 0 ;;
    off | reboot)
        rm -f "$place/$nodename.dead"
        : >"$place/$nodename.wanted"
        for _ in $(seq 200); do
            [ ! -e "$place/$nodename.dead" ] || exit 0
            sleep 0.1
        done
        exit 1 ;;
esac
`;

export class ClusterNodes implements AsyncDisposable {
  readonly hosts: Readonly<Record<NodeName, Host>>;
  /** The block device that both have. */
  readonly device: string;
  readonly #place: string;
  readonly #fencing: Promise<void>;
  #isClosed = false;

  constructor(hosts: ClusterNodes['hosts'], place: string, device: string) {
    this.hosts = hosts;
    this.device = device;
    this.#place = place;
    this.#fencing = this.#watchFencing();
  }

  /** Kills whom the agent names, as a machine's management board does. */
  async #watchFencing(): Promise<void> {
    while (!this.#isClosed) {
      for (const name of nodeNames) {
        for (const asking of nodeNames) {
          const file = `${this.hosts[asking].root}/srv/fence/${name}`;
          if (!fs.existsSync(`${file}.wanted`)) continue;
          if (this.hosts[name].isOn) await this.hosts[name].crash();
          fs.rmSync(`${file}.wanted`);
          fs.writeFileSync(`${file}.dead`, '');
        }
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Boots a node, or both at once; without the cluster's programs. */
  async boot(...names: readonly NodeName[]): Promise<void> {
    await Promise.all(names.map((name) => this.hosts[name].boot()));
    const minor = this.device.replace('/dev/loop', '');
    for (const name of names) {
      await this.hosts[name].shell(`
        test -b ${this.device} || mknod ${this.device} b 7 ${minor}
        mount -o remount,size=256m /dev/shm
        test -e /var/lib/pacemaker/cib/cib.xml || { ${settings}
        }`);
    }
  }

  /** Joins both by a network; the kernel removes both ends when a host goes down. */
  async join(): Promise<void> {
    const end = (name: NodeName): string[] => [
      ...['name', 'ring0', 'netns', String(this.hosts[name].leader)],
    ];
    await runHere('ip', ['link', 'add', ...end('one'), 'type', 'veth', 'peer', ...end('two')]);
    for (const name of nodeNames) {
      const address = `${addresses[name]}/24`;
      await this.hosts[name].shell(
        `ip address add ${address} dev ring0 && ip link set ring0 up && ip link set lo up`,
      );
    }
  }

  /** Starts the cluster's programs, and waits until each node is there. */
  async startCluster(...names: readonly NodeName[]): Promise<void> {
    await Promise.all(
      names.map((name) => this.hosts[name].run('systemctl', ['start', 'corosync', 'pacemaker'])),
    );
    const [asked] = names;
    if (asked === undefined) return;
    await this.hosts[asked].waitFor('all nodes are online', async () => {
      const { stdout } = await this.hosts[asked].run('crm_mon', ['-1'], { reject: false });
      return stdout.includes('Online: [ one two ]');
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await this.#fencing;
    await Promise.all(nodeNames.map((name) => this.hosts[name].close()));
    await runHere('losetup', ['--detach', this.device]);
    fs.rmSync(this.#place, { recursive: true, force: true });
  }
}

/** A new cluster elects nobody for twenty seconds, unless its settings say less. */
const settings = `
file=/var/lib/pacemaker/cib/cib.xml
cibadmin --empty >"$file"
export CIB_file="$file"
crm_attribute --name dc-deadtime --update 2s
chown hacluster:haclient "$file" && chmod 600 "$file"
rm -f "$file".* /var/lib/pacemaker/cib/*.sig`;

/** Makes both nodes, powered off, and the device, with an empty file system. */
export async function makeNodes(): Promise<ClusterNodes> {
  const image = await ensureClusterImage();
  const [one, two] = await Promise.all(
    nodeNames.map((name) => bootHost({ name: `node-${name}`, image, boot: false })),
  );
  if (one === undefined || two === undefined) throw new Error('no hosts');
  const place = fs.mkdtempSync('/var/tmp/lockerd-cluster-');
  const disk = path.join(place, 'disk');
  fs.writeFileSync(disk, '');
  fs.truncateSync(disk, 64 * 1024 * 1024);
  await runHere('mke2fs', ['-q', '-t', 'ext4', disk]);
  const { stdout } = await runHere('losetup', ['--find', '--show', disk]);
  const nodes = new ClusterNodes({ one, two }, place, stdout.trim());
  for (const name of nodeNames) {
    const host = nodes.hosts[name];
    fs.mkdirSync(`${host.root}/srv/fence`, { recursive: true });
    await host.writeFile('/etc/corosync/corosync.conf', corosync);
    await host.writeFile('/usr/sbin/fence_test', agent, 0o755);
  }
  return nodes;
}
