/** What unit files of the host say after a drop-in that "systemctl set-property" would write. */
import type { HostReader } from './read.ts';
import { dropInsOf, unitAssignments } from './unit-text.ts';

/** A line that has the last word. */
export interface LaterLine {
  readonly setting: string;
  readonly value: string;
  readonly file: string;
  readonly line: number;
}

/**
 * The lines of drop-ins of a container's unit that come after `50-SETTING.conf` and set the same.
 * @param settings their names in unit files
 */
export function laterLines(
  host: HostReader,
  unit: string,
  settings: readonly string[],
): readonly LaterLine[] {
  return dropInsOf(host, [`${unit}.d`, 'lxc@.service.d', 'service.d']).flatMap(({ name, path }) =>
    unitAssignments(host.text(path) ?? '').flatMap(({ key, value, line }) =>
      settings.includes(key) && name > `50-${key}.conf`
        ? [{ setting: key, value, file: path, line }]
        : [],
    ),
  );
}
