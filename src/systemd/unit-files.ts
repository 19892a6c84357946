import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { TimeSlices } from '../bus/event-loop.ts';
import { unitDirectories } from '../host/read.ts';

/** Where systemd reads units and drop-ins. */
const defaultDirectories = [
  '/etc/systemd/system.control',
  '/run/systemd/system.control',
  '/run/systemd/transient',
  ...unitDirectories,
];

/** What systemd reads of a unit. */
export interface UnitFilesState {
  /** Another text after a change. */
  readonly version: string;
  /** Some file has the setting that was asked for. */
  readonly hasSetting: boolean;
}

/**
 * The files that systemd reads of units, told by what they say and not by what systemd says: a question about
 * a unit takes longer than a look at all its files, and loads a unit that is not loaded.
 */
export class UnitFiles {
  readonly #directories: readonly string[];
  readonly #setting: RegExp;

  /** @param setting in which files `hasSetting` is true */
  constructor(setting: RegExp, directories: readonly string[] = defaultDirectories) {
    this.#directories = directories;
    this.#setting = setting;
  }

  /** Undefined for a unit of which not all files can be read. */
  async read(units: readonly string[]): Promise<Map<string, UnitFilesState | undefined>> {
    const slices = new TimeSlices();
    const found = new Map<string, UnitFilesState | undefined>();
    try {
      const present = this.#directories.map((directory) => new Set(namesIn(directory)));
      /** Of each template, what all its units have. */
      const shared = new Map<string, UnitFilesState>();
      for (const unit of units) {
        const template = unit.replace(/@[^@]*(\.[a-z]+)$/, '@$1');
        const ofAll = shared.get(template) ?? this.#ofTemplate(present, template);
        shared.set(template, ofAll);
        const own = this.#state(this.#paths(present, [unit, `${unit}.d`]));
        found.set(unit, {
          version: `${ofAll.version} ${own.version}`,
          hasSetting: ofAll.hasSetting || own.hasSetting,
        });
        await slices.pause();
      }
    } catch {
      // What cannot be read, or goes meanwhile, is unknown.
      for (const unit of units) if (!found.has(unit)) found.set(unit, undefined);
    }
    return found;
  }

  #ofTemplate(present: readonly Set<string>[], template: string): UnitFilesState {
    const type = template.slice(template.lastIndexOf('.') + 1);
    // Drop-ins for all names that begin alike; see systemd.unit(5).
    const prefixes = present.flatMap((names) =>
      [...names].filter((name) => name.endsWith(`-.${type}.d`)),
    );
    return this.#state(
      this.#paths(present, [template, `${template}.d`, `${type}.d`, ...new Set(prefixes)]),
    );
  }

  /** Those of the names that are there. */
  #paths(present: readonly Set<string>[], names: readonly string[]): string[] {
    return this.#directories.flatMap((directory, index) =>
      names.filter((name) => present[index]?.has(name)).map((name) => `${directory}/${name}`),
    );
  }

  #state(paths: readonly string[]): UnitFilesState {
    const hash = createHash('sha1');
    let hasSetting = false;
    for (const path of paths) {
      const files = path.endsWith('.d') ? namesIn(path).map((name) => `${path}/${name}`) : [path];
      for (const file of files) {
        // A masked unit is a link to /dev/null.
        const text = statSync(file).isFile() ? readFileSync(file, 'utf8') : '';
        hash.update(`${file}\0${text}\0`);
        hasSetting ||= this.#setting.test(text);
      }
    }
    return { version: hash.digest('base64'), hasSetting };
  }
}

/** Sorted; empty for a directory that is not there. */
function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
