/** Where older hosts have their containers, and what started them at boot. */
import type { HostReader } from '../host/read.ts';

/** A container whose configuration is to be looked at. */
export interface OldContainer {
  readonly name: string;
  /** Where its configuration is; a path without symbolic links. */
  readonly config: string;
  /** The directory that is to be linked below the lxcpath; undefined where it is there already. */
  readonly linkTo?: string;
  /** The configuration is a single file, of which a copy is made. */
  readonly isCopied: boolean;
}

/** Not the configuration of a container. */
const notContainers = new Set(['default.conf', 'lxc.conf', 'lxc-usernet']);

/** Directories of containers of init scripts and of OpenRC, beside the lxcpath. */
const oldDirectories = ['/etc/lxc', '/lxc'];
/** Directories of configurations that are single files: LXC 0.6, Ganeti. */
const flatDirectories = ['/etc/lxc', '/run/ganeti/lxc', '/var/run/ganeti/lxc'];

export function findOldContainers(host: HostReader, lxcpath: string): OldContainer[] {
  const found = new Map<string, OldContainer>();
  for (const { name, configFile } of host.containers(lxcpath)) {
    found.set(name, { name, config: host.realPath(configFile, true), isCopied: false });
  }
  for (const directory of oldDirectories) {
    for (const name of host.list(directory)) {
      const written = `${directory}/${name}/config`;
      if (found.has(name) || name.startsWith('.') || !host.isThere(written)) continue;
      const config = host.realPath(written, true);
      const slash = config.lastIndexOf('/');
      // LXC looks for a file of this name in the directory.
      if (config.slice(slash + 1) !== 'config') continue;
      found.set(name, { name, config, linkTo: config.slice(0, slash), isCopied: false });
    }
  }
  for (const directory of flatDirectories) {
    for (const file of host.list(directory)) {
      const name = file.replace(/\.conf$/, '');
      if (name === file || name === '' || notContainers.has(file) || found.has(name)) continue;
      const text = host.readText(`${directory}/${file}`).text ?? '';
      if (!/^[ \t]*lxc\.rootfs(?:\.path)?[ \t]*=/m.test(text)) continue;
      found.set(name, {
        name,
        config: host.realPath(`${directory}/${file}`, true),
        isCopied: true,
      });
    }
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A symbolic link of the host. */
export interface OldLink {
  readonly path: string;
  readonly target: string;
}

/** What starts a container at boot on an older host. */
export interface OldStart {
  /** Why it starts; undefined where nothing starts it. */
  readonly reason: string | undefined;
  /** The number in the name of a runlevel link. */
  readonly order: number | undefined;
  /** Links that have no use any more. */
  readonly links: readonly OldLink[];
  /** An init script that somebody wrote. */
  readonly ownScript: boolean;
}

const sysvLevels = ['0', '1', '2', '3', '4', '5', '6', 'S'];

/** Reads what starts containers; asked by name. */
export function oldStarts(host: HostReader): (name: string) => OldStart {
  const runlevels = [
    ...sysvLevels.map((level) => ({ directory: `/etc/rc${level}.d`, starts: /[2-5]/.test(level) })),
    ...host.list('/etc/runlevels').map((level) => ({
      directory: `/etc/runlevels/${level}`,
      starts: level === 'default' || level === 'boot',
    })),
  ].map((each) => ({ ...each, names: host.list(each.directory) }));
  const auto = new Set(host.list('/etc/lxc/auto').map((file) => file.replace(/\.conf$/, '')));
  const listed = listedContainers(host.readText('/etc/default/lxc').text ?? '');
  return (name) => {
    const script = `/etc/init.d/lxc.${name}`;
    const target = host.linkTarget(script);
    const links: OldLink[] = [];
    let reason: string | undefined;
    let order: number | undefined;
    for (const { directory, starts, names } of runlevels) {
      for (const file of names) {
        const [, kind, number] = /^(?:([SK])(\d\d))?lxc\./.exec(file) ?? [];
        if (file.replace(/^[SK]\d\d/, '') !== `lxc.${name}`) continue;
        const path = `${directory}/${file}`;
        const linkTarget = host.linkTarget(path);
        if (linkTarget !== undefined) links.push({ path, target: linkTarget });
        if (kind === 'K' || !starts) continue;
        reason = `${path} starts it at boot`;
        if (number !== undefined) order = Number(number);
      }
    }
    if (auto.has(name)) reason = `/etc/lxc/auto starts it at boot`;
    if (listed.has(name)) reason = 'CONTAINERS in /etc/default/lxc starts it at boot';
    const isScript = target === undefined && host.isThere(script);
    const own = target === undefined ? [] : [{ path: script, target }];
    return { reason, order, links: isScript ? [] : [...own, ...links], ownScript: isScript };
  };
}

/** CONTAINERS of /etc/default/lxc as LXC 0.7 had it, which counted with RUN=yes. */
function listedContainers(text: string): ReadonlySet<string> {
  const valueOf = (key: string): string =>
    new RegExp(`^[ \\t]*${key}=["']?([^"'#\\n]*)`, 'm').exec(text)?.[1] ?? '';
  const runs = /^(?:yes|true|1)\s*$/.test(valueOf('RUN'));
  return new Set(runs ? valueOf('CONTAINERS').split(/\s+/).filter(Boolean) : []);
}
