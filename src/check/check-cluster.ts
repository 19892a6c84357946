/** Containers that a Pacemaker cluster runs: what else starts them or mounts their data, and what all nodes need. */
import { clusterMounts } from '../generator/cluster-mounts.ts';
import { bootMounted } from '../cluster/resources.ts';
import { sameFiles } from '../cluster/same-files.ts';
import { shellWord } from '../model/shell-quote.ts';
import { printable } from '../model/unit-syntax.ts';
import type { CheckedContainer, Subject } from './subject.ts';

/** Where Pacemaker has the resources of the cluster. */
const clusterFile = '/var/lib/pacemaker/cib/cib.xml';

const entities: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
};

/** Units that a cluster starts and stops, without the ending. */
function clusterUnits(text: string): Set<string> {
  const tags = text.match(/<primitive\s[^>]{0,4096}>/g) ?? [];
  const ofSystemd = tags.filter((tag) => /\sclass="systemd"/.test(tag));
  const types = ofSystemd.flatMap((tag) => /\stype="([^"]*)"/.exec(tag)?.[1] ?? []);
  return new Set(
    types.map((type) =>
      type
        .replaceAll(/&(\w+);/g, (all, name: string) => entities[name] ?? all)
        .replace(/\.service$/, ''),
    ),
  );
}

export function checkCluster(subject: Subject): void {
  const { host, findings, containers } = subject;
  const { text } = host.readText(clusterFile);
  const units = clusterUnits(text ?? '');
  for (const container of containers) {
    const { name, unit } = container;
    const isInCluster = units.has(`lxc@${unit.instance}`);
    const at = { file: clusterFile, line: 0 };
    if (unit.settings.managedBy === undefined) {
      if (!isInCluster) continue;
      const what = unit.boot.starts
        ? 'the boot starts the container, and so does a cluster'
        : 'a cluster starts the container, and its settings do not say so';
      const remedy = `write "managed-by = pacemaker" into ${settingsFile(name)}, and run: systemctl daemon-reload`;
      findings.add('also-pacemaker', name, at, what, remedy);
      continue;
    }
    if (text !== undefined && !isInCluster) {
      const what = 'the cluster has no resource for the container';
      const remedy = `run: lockerctl cluster-resource ${shellWord(name)} | sh -e`;
      findings.add('cluster-absent', name, at, what, remedy);
    }
    checkStarts(subject, container);
    checkMounts(subject, container);
    checkFiles(subject, container);
  }
}

const settingsFile = (name: string): string => `/etc/lockerd/containers/${printable(name)}.conf`;

function checkStarts({ findings }: Subject, { name, unit, facts }: CheckedContainer): void {
  const { wantedBy } = facts.unitLinks;
  if (wantedBy.length > 0) {
    const what = `the unit is enabled in ${printable(wantedBy.join(', '))}`;
    const remedy = `run: systemctl disable ${shellWord(`lxc@${unit.instance}`)}`;
    findings.add('cluster-enabled', name, { file: settingsFile(name), line: 0 }, what, remedy);
  }
  if (facts.hasRunlevelLink) {
    const file = `/etc/init.d/lxc.${printable(name)}`;
    const what = 'the init script of the container has a link in a runlevel';
    findings.add('cluster-enabled', name, { file, line: 0 }, what, 'remove the links');
  }
}

function checkMounts(
  { findings, facts, containers }: Subject,
  { name, unit }: CheckedContainer,
): void {
  const units = containers.map((each) => each.unit);
  for (const { line, target } of bootMounted(unit, { containers: units, host: facts.host })) {
    const what = `${printable(target)}, a locker of the container, is mounted at boot`;
    const remedy = 'write the option noauto into the line on each node';
    findings.add('cluster-mount', name, { file: '/etc/fstab', line }, what, remedy);
  }
  for (const { line, target, options } of clusterMounts(unit, facts.host.fstab)) {
    if (!options.includes('x-systemd.automount')) continue;
    const what = `${printable(target)} is an automount, which is for whoever looks at the path`;
    const remedy = 'take x-systemd.automount out of the line on each node';
    findings.add('cluster-mount', name, { file: '/etc/fstab', line }, what, remedy);
  }
}

function checkFiles(
  { findings, host, facts }: Subject,
  { name, unit, lines }: CheckedContainer,
): void {
  const files = sameFiles(unit, lines, host, facts.host.fstab);
  const what = `all nodes must have alike: ${printable(files.join(' '))}`;
  const remedy = `copy what lists: lockerctl cluster-resource --files ${shellWord(name)}`;
  findings.add('cluster-files', name, { file: settingsFile(name), line: 0 }, what, remedy);
}
