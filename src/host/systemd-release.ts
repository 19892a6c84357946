import type { HostReader } from './read.ts';

/** The installed systemd's major version, from its library's name; undefined where nobody can tell. */
export function systemdVersion(host: HostReader): number | undefined {
  const versions = ['/usr/lib', ...host.libraryDirectories()]
    .flatMap((directory) => host.list(`${directory}/systemd`))
    .map((name) => /^libsystemd-shared-([1-9]\d{2})\b/.exec(name)?.[1])
    .filter((version) => version !== undefined)
    .map(Number);
  return versions.length === 0 ? undefined : Math.min(...versions);
}
