/** What the installed systemd can do, found without running it. */
import type { HostReader } from './read.ts';

/** The first one with LogFilterPatterns=; an older one would complain of each unit that has it. */
const withLogFilters = 253;

/** Whether systemd keeps lines of a unit out of the journal that match a pattern. */
export function filtersLog(host: HostReader): boolean {
  const releases = host
    .libraryDirectories()
    .flatMap((directory) => host.list(`${directory}/systemd`))
    .flatMap((name) => /^libsystemd-shared-(\d{3,4})\b/.exec(name)?.[1] ?? [])
    .map(Number);
  // In the middle of an upgrade there are two.
  return releases.length > 0 && Math.min(...releases) >= withLogFilters;
}
