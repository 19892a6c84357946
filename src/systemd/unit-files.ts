import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { TimeSlices } from '../bus/event-loop.ts';
import { unitDirectories } from '../host/read.ts';

/** Where systemd reads units and drop-ins. */
const directories = [
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

  /**
   * @param setting in which files `hasSetting` is true
   * @param root below which systemd's directories are
   */
  constructor(setting: RegExp, root = '') {
    this.#directories = directories.map((directory) => `${root}${directory}`);
    this.#setting = setting;
  }

  /** Undefined for a unit of which not all files can be read. */
  async read(units: readonly string[]): Promise<Map<string, UnitFilesState | undefined>> {
    const slices = new TimeSlices();
    const found = new Map<string, UnitFilesState | undefined>();
    /** Of each template, what all its units have. */
    const shared = new Map<string, UnitFilesState | undefined>();
    const present = this.#directories.map((directory) => orUndefined(() => namesIn(directory)));
    for (const unit of units) {
      const template = templateOf(unit);
      if (!shared.has(template)) {
        shared.set(template, this.#state(present, this.#namesOfTemplate(present, template)));
      }
      const ofAll = shared.get(template);
      const own = this.#state(present, [unit, `${unit}.d`]);
      found.set(
        unit,
        ofAll &&
          own && {
            version: `${ofAll.version} ${own.version}`,
            hasSetting: ofAll.hasSetting || own.hasSetting,
          },
      );
      await slices.pause();
    }
    return found;
  }

  #namesOfTemplate(present: Present, template: string): string[] {
    const type = template.slice(template.lastIndexOf('.') + 1);
    // Drop-ins for all names that begin alike; see systemd.unit(5).
    const prefixes = present.flatMap((names) =>
      [...(names ?? [])].filter((name) => name.endsWith(`-.${type}.d`)),
    );
    return [template, `${template}.d`, `${type}.d`, ...new Set(prefixes)];
  }

  /** What the files of these names say; undefined where one of them cannot be read. */
  #state(present: Present, names: readonly string[]): UnitFilesState | undefined {
    return orUndefined(() => {
      const hash = createHash('sha1');
      let hasSetting = false;
      for (const [index, there] of present.entries()) {
        if (there === undefined) return undefined;
        for (const name of names.filter((one) => there.has(one))) {
          for (const file of filesOf(`${this.#directories[index] ?? ''}/${name}`)) {
            // A masked unit is a link to /dev/null.
            const text = statSync(file).isFile() ? readFileSync(file, 'utf8') : '';
            hash.update(`${file}\0${text}\0`);
            hasSetting ||= this.#setting.test(text);
          }
        }
      }
      return { version: hash.digest('base64'), hasSetting };
    });
  }
}

/** What is in each of the directories; undefined where that cannot be read. */
type Present = readonly (ReadonlySet<string> | undefined)[];

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** The unit's own name where it is no instance. */
function templateOf(unit: string): string {
  const end = unit.lastIndexOf('.');
  const at = unit.indexOf('@');
  return at < 0 || at > end ? unit : unit.slice(0, at + 1) + unit.slice(end);
}

/** A unit file, or the drop-ins in a directory, sorted. */
function filesOf(path: string): string[] {
  if (!path.endsWith('.d')) return [path];
  return [...namesIn(path)].sort().map((name) => `${path}/${name}`);
}

/** Empty for a directory that is not there. */
function namesIn(directory: string): Set<string> {
  try {
    return new Set(readdirSync(directory));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Set();
    throw error;
  }
}
