/** What else on the host starts containers: programs, init scripts, libvirt, Incus. Clusters have a file of their own. */
import { parseRootfs } from '../model/rootfs.ts';
import { movesDirectory } from '../model/path.ts';
import { shellWord } from '../model/shell-quote.ts';
import { printable } from '../model/unit-syntax.ts';
import type { CheckedContainer, Subject } from './subject.ts';

export function checkStarters(subject: Subject): void {
  checkCommands(subject);
  checkInitScripts(subject);
  checkLibvirt(subject);
  checkIncus(subject);
  checkMoves(subject);
}

/** More files than any host has there that is not under attack. */
const maxFiles = 1000;

/** LXC's own, whose starts are its drop-in's business. */
const lxcUnits = ['lxc.service', 'lxc@.service', 'lxc-net.service'];

/** Files whose commands root runs by itself. */
function commandFiles({ host }: Subject): string[] {
  const below = (directory: string, fits: (name: string) => boolean): string[] =>
    host
      .list(directory)
      .filter(fits)
      .map((name) => `${directory}/${name}`);
  return [
    '/etc/rc.local',
    '/etc/rc.d/rc.local',
    '/etc/crontab',
    '/var/spool/cron/crontabs/root',
    '/var/spool/cron/root',
    ...below('/etc/cron.d', (name) => !name.startsWith('.')),
    ...below('/etc/local.d', (name) => name.endsWith('.start')),
    ...below(
      '/etc/systemd/system',
      (name) => name.endsWith('.service') && !lxcUnits.includes(name),
    ),
    // Those of containers have a check of their own; "lxc" and "lxc-net" are LXC's.
    ...below('/etc/init.d', (name) => !name.startsWith('lxc')),
  ].slice(0, maxFiles);
}

function checkCommands(subject: Subject): void {
  const { host, findings, containers } = subject;
  const names = new Set(containers.map(({ name }) => name));
  for (const file of commandFiles(subject)) {
    const lines = (host.readText(file).text ?? '').split('\n');
    for (const [index, line] of lines.entries()) {
      if (!/\blxc-(?:start|autostart)\b/.test(line) || /^\s*(?:[#;]|Description)/.test(line))
        continue;
      const [, named = ''] = /\s(?:-n\s*|--name[= ]\s*)["']?([^\s"']+)/.exec(line) ?? [];
      const container = names.has(named) ? named : undefined;
      const remedy =
        container === undefined
          ? 'remove the command; lxc-autostart.target starts what starts at boot'
          : `write in its place: systemctl start ${shellWord(`lxc@${container}`)}`;
      const what = `a command starts containers outside their units: ${printable(line.trim().slice(0, 80))}`;
      findings.add('second-starter', container, { file, line: index + 1 }, what, remedy);
    }
  }
}

function checkInitScripts({ facts, findings, containers }: Subject): void {
  const scripts = new Set(facts.initScripts);
  for (const { name, facts: own } of containers) {
    if (!scripts.has(name)) continue;
    const file = `/etc/init.d/lxc.${name}`;
    const what = own.hasRunlevelLink
      ? 'an init script with a link in a runlevel starts the unit of the container at boot'
      : 'there is an init script for the container';
    const remedy = `run: systemctl enable ${shellWord(`lxc@${name}`)}, and remove the script and its links`;
    findings.add('init-script', name, { file, line: 0 }, what, remedy);
  }
}

function rootfsPathsOf({ facts }: CheckedContainer): readonly string[] {
  const { rootfsPath } = facts.config;
  const parsed = rootfsPath === undefined ? undefined : parseRootfs(rootfsPath.value);
  return parsed === undefined || 'reason' in parsed
    ? []
    : [...parsed.rootfs.paths, ...parsed.rootfs.devices];
}

function checkLibvirt({ host, findings, containers }: Subject): void {
  const directory = '/etc/libvirt/lxc';
  const files = host.list(directory).filter((name) => name.endsWith('.xml'));
  const ofContainers = containers.map((each) => ({ name: each.name, paths: rootfsPathsOf(each) }));
  for (const file of files.slice(0, maxFiles)) {
    const path = `${directory}/${file}`;
    const text = host.readText(path).text ?? '';
    const found = text.matchAll(/<source\s+(?:dir|file|dev)=['"]([^'"]+)['"]/g);
    const sources = new Set([...found].map(([, source]) => source));
    for (const { name, paths } of ofContainers) {
      const isNamed = file === `${name}.xml`;
      const isSame = paths.some((own) => sources.has(own));
      if (!isNamed && !isSame) continue;
      const domain = shellWord(file.slice(0, -'.xml'.length));
      const what = isSame
        ? 'a container of libvirt has the same root file system'
        : 'a container of libvirt has the same name';
      const remedy = `run: virsh -c lxc:/// undefine ${domain}, or move the configuration away`;
      findings.add('also-libvirt', name, { file: path, line: 0 }, what, remedy);
    }
  }
}

/** Where Incus and its ancestor have a link for each of their containers. */
const incusDirectories = [
  ['/var/lib/incus/containers', 'incus'],
  ['/var/lib/lxd/containers', 'lxc'],
  ['/var/snap/lxd/common/lxd/containers', 'lxc'],
] as const;

function checkIncus({ host, findings, containers }: Subject): void {
  for (const [directory, client] of incusDirectories) {
    const others = new Set(host.list(directory));
    for (const container of containers) {
      const path = `${directory}/${container.name}`;
      const isSame = rootfsPathsOf(container).some((own) => own.startsWith(`${directory}/`));
      if (!others.has(container.name) && !isSame) continue;
      const what = isSame
        ? `the root file system belongs to a container of ${client}`
        : `${client} has a container of the same name`;
      const remedy = `run: ${client} config set ${shellWord(container.name)} boot.autostart=false, or rename one of them`;
      findings.add('also-incus', container.name, { file: path, line: 0 }, what, remedy);
    }
  }
}

function checkMoves({ host, findings, containers }: Subject): void {
  for (const { name, unit } of containers) {
    const file = `${movesDirectory}/${unit.instance}.away`;
    const { text } = host.readText(file);
    if (text === undefined) continue;
    const what = `the unit is held: ${printable(text.trim().slice(0, 300))}`;
    const remedy = `to start it here again: lockerctl move --abort ${shellWord(name)}`;
    findings.add('moved-away', name, { file, line: 0 }, what, remedy);
  }
}
