/** Unit files of the host as far as others than systemd read them: assignments with their lines. */
import type { HostReader } from './read.ts';
import { unitDirectories } from './read.ts';

/** Where systemd looks for drop-ins, the first directory of one name winning. */
const dropInDirectories = [
  '/etc/systemd/system.control',
  '/run/systemd/system.control',
  '/run/systemd/transient',
  ...unitDirectories,
];

/** One `KEY=VALUE` of a unit file. */
interface UnitAssignment {
  readonly key: string;
  readonly value: string;
  readonly line: number;
}

/** The assignments of a unit file; of continued lines, the first counts. */
export function unitAssignments(text: string): UnitAssignment[] {
  return text.split('\n').flatMap((line, index) => {
    const equals = line.indexOf('=');
    const key = line.slice(0, Math.max(equals, 0)).trim();
    if (!/^[A-Za-z]+$/.test(key)) return [];
    return [{ key, value: line.slice(equals + 1).trim(), line: index + 1 }];
  });
}

/** A drop-in, and those of the same name that it takes the place of. */
interface DropIn {
  readonly name: string;
  readonly path: string;
  readonly hidden: readonly string[];
}

/** Drop-ins of some directories such as `lxc@.service.d`, in the order in which systemd reads them. */
export function dropInsOf(host: HostReader, directories: readonly string[]): DropIn[] {
  const found = new Map<string, { path: string; hidden: string[] }>();
  for (const top of dropInDirectories) {
    // The directory of an instance goes before that of its template.
    for (const directory of directories) {
      for (const name of host.list(`${top}/${directory}`)) {
        if (!name.endsWith('.conf')) continue;
        const path = `${top}/${directory}/${name}`;
        const first = found.get(name);
        if (first === undefined) found.set(name, { path, hidden: [] });
        else first.hidden.push(path);
      }
    }
  }
  return [...found]
    .map(([name, { path, hidden }]) => ({ name, path, hidden }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}
