/**
 * The resources that a Pacemaker cluster needs for a container: its logical volumes, its mounts and its unit,
 * in a group, which starts them one after the other on one node and stops them in the reverse order.
 */
import { clusterMounts } from '../generator/cluster-mounts.ts';
import type { Container, HostFacts } from '../generator/container.ts';
import { isBlockFileSystem } from '../host/block-types.ts';
import type { Attachment } from '../host/lockers.ts';
import { clusterGroup, idPart } from '../model/cluster-id.ts';
import type { LogicalVolume } from '../model/device-path.ts';
import { devicePath, logicalVolume } from '../model/device-path.ts';
import type { FstabEntry } from '../model/fstab.ts';
import { fitsUnitFile, printable } from '../model/unit-syntax.ts';

/** How long systemd lets the unit start and stop, in microseconds; undefined for no limit. */
export interface UnitTimes {
  readonly startUsec: bigint | undefined;
  readonly stopUsec: bigint | undefined;
}

export interface Operation {
  readonly name: 'start' | 'stop' | 'monitor';
  /** Seconds. */
  readonly timeout: number;
  /** Seconds; of a monitor only. */
  readonly interval?: number;
}

type Pairs = readonly (readonly [name: string, value: string])[];

export interface Resource {
  readonly id: string;
  /** Such as `ocf:heartbeat:Filesystem`. */
  readonly agent: string;
  readonly parameters: Pairs;
  readonly operations: readonly Operation[];
  readonly meta: Pairs;
}

/** What a container is in a cluster. */
export interface ClusterPlan {
  readonly group: string;
  /** In the order in which they start. */
  readonly resources: readonly Resource[];
  /** Groups of the containers without which this one does not run. */
  readonly needs: readonly string[];
  /** Why no commands can be written, each with its remedy. */
  readonly refusals: readonly string[];
  /** What whoever runs the commands has to know. */
  readonly notes: readonly string[];
}

/** A container of a host with all others. */
export interface ClusterFacts {
  readonly containers: readonly Container[];
  readonly host: Pick<HostFacts, 'fstab' | 'crypttab' | 'lockers' | 'settings'>;
}

/** The longest time that is written for what systemd gives no limit, seconds. */
const longest = 86_400;

function seconds(usec: bigint): number {
  return Math.min(Number((usec + 999_999n) / 1_000_000n), longest);
}

/**
 * Pacemaker has to wait for systemd's own verdict: a stop that takes longer than its time is the end of the
 * node. systemd gives a guest its time to shut down, and what it then kills the same time again. A start that
 * takes too long ends with such a stop.
 */
function unitOperations({ startUsec, stopUsec }: UnitTimes): readonly Operation[] {
  const stop = stopUsec === undefined ? longest : seconds(2n * stopUsec);
  const start = startUsec === undefined ? longest : Math.min(seconds(startUsec) + stop, longest);
  return [
    { name: 'start', timeout: start },
    { name: 'stop', timeout: stop },
    // systemd answers at once, but for the time of a daemon-reload; crmsh advises this much.
    { name: 'monitor', timeout: 100, interval: 20 },
  ];
}

function unitResource({ name, instance }: Container, times: UnitTimes): Resource {
  return {
    id: `${clusterGroup(name)}.container`,
    agent: `systemd:lxc@${instance}`,
    parameters: [],
    operations: unitOperations(times),
    // Else one that ends again and again would be started again for ever, on one node.
    meta: [['migration-threshold', '3']],
  };
}

/** Options that are systemd's or fstab's own, and none of a mount. */
function mountOptions({ options }: FstabEntry): string {
  return options
    .filter((option) => !/^(?:|defaults|noauto|auto|nofail|_netdev|comment=.*|x-.*)$/.test(option))
    .join(',');
}

function mountResource(group: string, entry: FstabEntry): Resource {
  const options = mountOptions(entry);
  return {
    id: `${group}.mount.${idPart(entry.target.slice(1))}`,
    agent: 'ocf:heartbeat:Filesystem',
    parameters: [
      ['device', devicePath(entry.source) ?? entry.source],
      ['directory', entry.target],
      ['fstype', entry.type],
      ...(options === '' ? [] : ([['options', options]] as const)),
    ],
    // As the agent's own description advises.
    operations: [
      { name: 'start', timeout: 60 },
      { name: 'stop', timeout: 60 },
      { name: 'monitor', timeout: 40, interval: 20 },
    ],
    meta: [],
  };
}

function volumeResource(group: string, { group: vg, volume }: LogicalVolume): Resource {
  return {
    id: `${group}.volume.${idPart(`${vg}/${volume}`)}`,
    agent: 'ocf:heartbeat:LVM-activate',
    parameters: [
      ['vgname', vg],
      ['lvname', volume],
      ['vg_access_mode', 'system_id'],
    ],
    operations: [
      { name: 'start', timeout: 90 },
      { name: 'stop', timeout: 90 },
      { name: 'monitor', timeout: 90, interval: 30 },
    ],
    meta: [],
  };
}

/** What stands in the way, and what is to be known, while resources are found. */
class Remarks {
  readonly refusals: string[] = [];
  readonly notes: string[] = [];

  refuse(what: string, remedy: string): void {
    this.refusals.push(`${printable(what)}; ${printable(remedy)}`);
  }

  note(text: string): void {
    this.notes.push(printable(text));
  }
}

/** Whether the container has the locker only because all containers have it. */
function isForAll({ locker, strict }: Attachment, c: Container, { host }: ClusterFacts): boolean {
  if (strict || c.settings.lockers?.value.some(({ name }) => name === locker) === true)
    return false;
  return host.settings.sharedLockers.some(({ name }) => name === locker);
}

/** The line of fstab that mounts a locker; undefined where another file does, or none. */
function lineOf(
  { locker }: Attachment,
  { fstab, lockers }: ClusterFacts['host'],
): FstabEntry | undefined {
  const at = lockers.get(locker);
  return at?.file === '/etc/fstab' ? fstab.find(({ line }) => line === at.line) : undefined;
}

/** Lockers of the container that each node mounts at boot from a disk, although the cluster should. */
export function bootMounted(c: Container, facts: ClusterFacts): readonly FstabEntry[] {
  return (c.wormhole?.attachments ?? []).flatMap((attachment) => {
    const entry = lineOf(attachment, facts.host);
    if (entry === undefined || entry.options.includes('noauto')) return [];
    return isBlockFileSystem(entry.type) && !isForAll(attachment, c, facts) ? [entry] : [];
  });
}

/** Lockers that the cluster does not mount: those that each node has, and those that it should mount. */
function remarkOnLockers(c: Container, facts: ClusterFacts, remarks: Remarks): void {
  const early = bootMounted(c, facts);
  for (const attachment of c.wormhole?.attachments ?? []) {
    const { locker, source } = attachment;
    const entry = lineOf(attachment, facts.host);
    if (entry?.options.includes('noauto') === true) continue;
    const name = `the locker "${locker}"`;
    if (isForAll(attachment, c, facts)) {
      remarks.note(`${name} is not in the group: each node has its own`);
    } else if (entry === undefined) {
      remarks.refuse(
        `${name} is not in /etc/fstab, so its device is not known`,
        `write a line for ${source} with the option noauto into /etc/fstab on each node`,
      );
    } else if (early.includes(entry)) {
      remarks.refuse(
        `/etc/fstab:${entry.line}: ${name} is mounted at boot, on each node`,
        'write the option noauto into the line on each node, and run: systemctl daemon-reload',
      );
    } else {
      remarks.note(`${name} is not in the group: each node mounts it at boot, from the network`);
    }
  }
}

/** What makes a mount none of the cluster's, or of this container's group. */
function remarkOnMount(
  c: Container,
  entry: FstabEntry,
  facts: ClusterFacts,
  remarks: Remarks,
): void {
  const { source, target, line, type, options } = entry;
  const place = `/etc/fstab:${line}: ${target}`;
  if (![source, target, type, ...options].every(fitsUnitFile)) {
    remarks.refuse(`${place} has control characters`, 'rename it');
  }
  if (options.includes('x-systemd.automount')) {
    remarks.refuse(
      `${place} is an automount, which any access would mount on any node`,
      'take x-systemd.automount out of the line on each node',
    );
  }
  const device = devicePath(source);
  if (device !== undefined && facts.host.crypttab?.has(device) === true) {
    remarks.refuse(
      `${place} is on the encrypted device ${device}, for which no resource is written`,
      'take the line out of /etc/crypttab, write the resources by hand, and open it by ocf:heartbeat:crypt',
    );
  }
  if (device?.startsWith('/dev/drbd') === true) {
    remarks.note(
      `${target} is on DRBD: the group has to run where the DRBD resource is promoted, and after that; see lockerd-cluster(7)`,
    );
  }
  for (const other of facts.containers) {
    if (other.name === c.name) continue;
    if (!clusterMounts(other, facts.host.fstab).some((mount) => mount.line === line)) continue;
    remarks.refuse(
      `${place} also belongs to container "${other.name}", and a resource can be in one group only`,
      'give each container its own, or write one group for both by hand',
    );
  }
}

function remarkOnVolume(
  c: Container,
  { group }: LogicalVolume,
  facts: ClusterFacts,
  remarks: Remarks,
): void {
  const others = facts.containers.filter(
    (other) =>
      other.name !== c.name &&
      devicesOf(other, facts).some((device) => logicalVolume(device)?.group === group),
  );
  for (const { name } of others) {
    remarks.note(
      `the volume group ${group} also has volumes of container "${name}": with system_id all of it is on one node; see lockerd-cluster(7)`,
    );
  }
}

/** Block devices that have data of the container. */
function devicesOf(c: Container, { host }: ClusterFacts): readonly string[] {
  const mounted = clusterMounts(c, host.fstab).flatMap(({ source }) => devicePath(source) ?? []);
  return [...new Set([...c.devices, ...mounted])];
}

function remarkOnData(c: Container, facts: ClusterFacts, remarks: Remarks): void {
  const isShared =
    c.devices.length > 0 ||
    clusterMounts(c, facts.host.fstab).some(
      ({ target }) => !(c.wormhole?.attachments ?? []).some((a) => a.source === target),
    );
  if (isShared) return;
  remarks.note(
    'the root file system is not in the group: each node has its own copy, which nobody keeps equal',
  );
}

function needsOf(c: Container, facts: ClusterFacts, remarks: Remarks): readonly string[] {
  return (c.settings.needs?.value ?? []).flatMap((name) => {
    const other = facts.containers.find((each) => each.name === name);
    if (other?.settings.managedBy !== undefined) return [clusterGroup(name)];
    remarks.note(`it needs container "${name}", which the cluster does not run`);
    return [];
  });
}

/** Plans the resources of a container that the cluster runs. @param times those of its unit */
export function planResources(c: Container, facts: ClusterFacts, times: UnitTimes): ClusterPlan {
  const group = clusterGroup(c.name);
  const remarks = new Remarks();
  if (c.settings.managedBy === undefined) {
    remarks.refuse(
      'this host would start it beside the cluster',
      `write "managed-by = pacemaker" into /etc/lockerd/containers/${c.name}.conf on each node, and run: systemctl daemon-reload`,
    );
    return { group, resources: [], needs: [], refusals: remarks.refusals, notes: remarks.notes };
  }
  const mounts = clusterMounts(c, facts.host.fstab);
  for (const entry of mounts) remarkOnMount(c, entry, facts, remarks);
  remarkOnLockers(c, facts, remarks);
  remarkOnData(c, facts, remarks);
  const volumes = devicesOf(c, facts).flatMap((device) => logicalVolume(device) ?? []);
  for (const volume of volumes) remarkOnVolume(c, volume, facts, remarks);
  if (times.startUsec === undefined || times.stopUsec === undefined) {
    remarks.note(
      'the unit has no limit of time, so the cluster waits a day before it does anything',
    );
  }
  return {
    group,
    resources: [
      ...volumes.map((volume) => volumeResource(group, volume)),
      ...mounts.map((entry) => mountResource(group, entry)),
      unitResource(c, times),
    ],
    needs: needsOf(c, facts, remarks),
    refusals: remarks.refusals,
    notes: remarks.notes,
  };
}
