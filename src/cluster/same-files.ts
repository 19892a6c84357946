/** The files that all nodes of a cluster must have alike for a container: settings, limits, configurations. */
import { clusterMounts } from '../generator/cluster-mounts.ts';
import type { Container } from '../generator/container.ts';
import type { ConfigLine } from '../host/config-lines.ts';
import type { HostReader } from '../host/read.ts';
import type { FstabEntry } from '../model/fstab.ts';
import { cleanAbsolutePath, isAtOrBelow } from '../model/path.ts';
import { containerUnit } from '../model/unit-name.ts';
import { fitsUnitFile } from '../model/unit-syntax.ts';

/** Where root's settings of units are: by hand and by "systemctl edit", and by "systemctl set-property". */
const unitDirectories = ['/etc/systemd/system', '/etc/systemd/system.control'];

/** Keys whose value, or its first word, is a file that is read or run at the start. */
const fileKey = /^lxc\.(?:hook\.[\w-]+|mount\.fstab|seccomp\.profile|rootfs\.mount)$/;

function filesIn(host: HostReader, directory: string): string[] {
  return host
    .list(directory)
    .filter((name) => name.endsWith('.conf'))
    .map((name) => `${directory}/${name}`);
}

function filesOfUnits(host: HostReader, unit: string): string[] {
  return unitDirectories.flatMap((directory) =>
    ['lxc@.service', unit].flatMap((name) => [
      `${directory}/${name}`,
      ...filesIn(host, `${directory}/${name}.d`),
    ]),
  );
}

function filesOfConfiguration({ configFile }: Container, lines: readonly ConfigLine[]): string[] {
  const named = lines
    .filter(({ key }) => fileKey.test(key))
    .flatMap(({ value }) => cleanAbsolutePath(value.split(/[ \t]/)[0] ?? '') ?? []);
  return [configFile, ...lines.map(({ file }) => file), ...named];
}

/**
 * Files of a container that are there, sorted. What packages bring is not among them, nor what comes with the
 * file systems that the cluster mounts, nor the guest's own files.
 * @param lines of its configuration and of what that includes
 */
export function sameFiles(
  container: Container,
  lines: readonly ConfigLine[],
  host: HostReader,
  fstab: readonly FstabEntry[],
): readonly string[] {
  const mounts = clusterMounts(container, fstab).map(({ target }) => target);
  const isOwn = (path: string): boolean =>
    !path.startsWith('/usr/') && !mounts.some((mount) => isAtOrBelow(path, mount));
  const found = [
    ...filesOfConfiguration(container, lines),
    '/etc/lockerd/lockerd.conf',
    ...filesIn(host, '/etc/lockerd/lockerd.conf.d'),
    `/etc/lockerd/containers/${container.name}.conf`,
    ...filesOfUnits(host, containerUnit(container.name)),
  ];
  return [...new Set(found)]
    .filter((path) => fitsUnitFile(path) && isOwn(path) && host.isThere(path))
    .sort();
}
