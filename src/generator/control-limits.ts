/** The limits of processor time, processors, disks and tasks, taken over from LXC by a container's unit. */
import { cgroup2Setting } from '../model/cgroup1-keys.ts';
import type { KeyedLine } from '../model/lxc-config.ts';
import type { Located, Problem } from '../model/problem.ts';
import type { ControlFile, UnitSetting } from '../model/unit-controls.ts';
import { controlReaders, worksOnV1 } from '../model/unit-controls.ts';
import { printable } from '../model/unit-syntax.ts';

export interface ControlLimits {
  readonly settings: readonly UnitSetting[];
  /** The keys that LXC must not apply as well: a second limit would hide the unit's. */
  readonly taken: readonly string[];
  readonly warnings: readonly Problem[];
}

const unified = 'lxc.cgroup2.';
const legacy = 'lxc.cgroup.';

/** One limit, by the file of cgroup v2 that has it. */
interface Source {
  readonly file: ControlFile;
  /** What cgroup v1 has in its place. */
  readonly legacy: readonly string[];
  readonly remedy: string;
}

const weight = 'write a number from 1 to 10000';
const list = 'write numbers such as 0-3,8';

const sources: readonly Source[] = [
  { file: 'cpu.weight', legacy: ['cpu.shares'], remedy: weight },
  {
    file: 'cpu.max',
    legacy: ['cpu.cfs_quota_us', 'cpu.cfs_period_us'],
    remedy: 'write a quota and a period in microseconds, such as 50000 and 100000',
  },
  { file: 'cpuset.cpus', legacy: ['cpuset.cpus'], remedy: list },
  { file: 'cpuset.mems', legacy: ['cpuset.mems'], remedy: list },
  {
    file: 'io.weight',
    legacy: ['blkio.weight', 'blkio.weight_device'],
    remedy: `${weight}, after MAJOR:MINOR for one device; on cgroup v1 up to 1000`,
  },
  {
    file: 'io.max',
    legacy: ['read_bps', 'write_bps', 'read_iops', 'write_iops'].map(
      (what) => `blkio.throttle.${what}_device`,
    ),
    remedy: 'write MAJOR:MINOR of a whole device and a number, in io.max such as rbps=1048576',
  },
  { file: 'pids.max', legacy: ['pids.max'], remedy: 'write a number from 1 to 4194304, or max' },
];

const nothing: ControlLimits = { settings: [], taken: [], warnings: [] };

/**
 * Decides which limits a unit has beside those of memory; pure.
 * @param lines those of the configuration, in its order
 * @param hasCgroup1 whether the host has cgroup v1, on which systemd knows less; asked where it matters
 */
export function decideControls(
  lines: readonly KeyedLine[],
  hasCgroup1: () => boolean,
): ControlLimits {
  if (lines.length === 0) return nothing;
  const decision = new Decision(lines, hasCgroup1);
  for (const source of sources) decision.take(source);
  return decision;
}

/** What some lines say in a unit. */
interface Read {
  readonly settings: readonly UnitSetting[];
  readonly keys: readonly string[];
  /** The last of the lines. */
  readonly located: Located<string>;
}

const textOf = (settings: readonly UnitSetting[]): string =>
  settings
    .map(({ name, value }) => `${name}=${value}`)
    .sort()
    .join('\n');

class Decision implements ControlLimits {
  readonly settings: UnitSetting[] = [];
  readonly taken: string[] = [];
  readonly warnings: Problem[] = [];
  readonly #byKey = new Map<string, Located<string>[]>();
  readonly #hasCgroup1: () => boolean;

  constructor(lines: readonly KeyedLine[], hasCgroup1: () => boolean) {
    this.#hasCgroup1 = hasCgroup1;
    for (const { key, located } of lines) {
      const known = this.#byKey.get(key);
      if (known === undefined) this.#byKey.set(key, [located]);
      else known.push(located);
    }
  }

  take(source: Source): void {
    if (source.file.startsWith('cpuset.') && this.#hasPartition()) return;
    const now = this.#readUnified(source);
    const old = this.#readLegacy(source);
    for (const setting of (now ?? old)?.settings ?? []) this.settings.push(setting);
    if (now === undefined || old === undefined || textOf(now.settings) === textOf(old.settings))
      return;
    const [key = ''] = old.keys;
    const reason = `${key} has no effect, because ${now.keys.join()} says something else`;
    this.#warn(old.located, reason, 'remove one of the two');
  }

  /** A group that is a partition of its own must have the processors itself. */
  #hasPartition(): boolean {
    const plain = ['cpuset.cpus', 'cpuset.mems'].flatMap((key) => [unified + key, legacy + key]);
    return [...this.#byKey.keys()].some(
      (key) => /^lxc\.cgroup2?\.cpuset\./.test(key) && !plain.includes(key),
    );
  }

  #readUnified({ file, remedy }: Source): Read | undefined {
    const key = unified + file;
    const lines = this.#byKey.get(key);
    const located = lines?.at(-1);
    if (lines === undefined || located === undefined) return undefined;
    const settings = controlReaders[file](lines.map(({ value }) => value));
    if (settings === undefined) {
      this.#leave(key, located, remedy);
      return undefined;
    }
    const lost = settings.find((setting) => !worksOnV1(setting));
    if (lost !== undefined && this.#hasCgroup1()) {
      const reason = `${key} is left to LXC, because units have no ${lost.name}= on cgroup v1`;
      this.#warn(located, reason, `write the key of cgroup v1, ${legacy}KEY`);
      return undefined;
    }
    this.taken.push(key);
    return { settings, keys: [key], located };
  }

  #readLegacy({ file, legacy: names, remedy }: Source): Read | undefined {
    const settings: UnitSetting[] = [];
    const keys = names.map((name) => legacy + name).filter((key) => this.#byKey.has(key));
    const read: Read[] = [];
    // Quota and period are one limit, and both keys say all of it.
    const isOne = file === 'cpu.max';
    for (const key of keys) {
      const lines = this.#byKey.get(key) ?? [];
      const found = this.#convert(file, key, isOne ? lines.slice(-1) : lines);
      const located = lines.at(-1);
      if (located === undefined) continue;
      if (found === undefined) {
        this.#leave(key, located, remedy);
        if (isOne) return undefined;
        continue;
      }
      read.push({ settings: found, keys: [key], located });
    }
    const [first] = read;
    if (first === undefined) return undefined;
    for (const { settings: some } of isOne ? [first] : read)
      for (const setting of some) settings.push(setting);
    // What systemd has no counterpart for on cgroup v1 is LXC's there, and nobody's key on v2.
    for (const one of read) if (one.settings.every(worksOnV1)) this.taken.push(...one.keys);
    return { settings, keys, located: first.located };
  }

  #convert(
    file: ControlFile,
    key: string,
    lines: readonly Located<string>[],
  ): readonly UnitSetting[] | undefined {
    const values: string[] = [];
    const lookup = (other: string): string | undefined => this.#byKey.get(other)?.at(-1)?.value;
    for (const { value } of lines) {
      const [name, converted] = cgroup2Setting(key, value, lookup) ?? [];
      if (name !== file || converted === undefined) return undefined;
      values.push(converted);
    }
    return controlReaders[file](values);
  }

  #leave(key: string, located: Located<string>, remedy: string): void {
    const shown = printable(located.value.slice(0, 80));
    this.#warn(located, `${key} is left to LXC: no unit can have "${shown}"`, remedy);
  }

  #warn({ file, line }: Located<string>, reason: string, remedy: string): void {
    this.warnings.push({ file, line, reason, remedy });
  }
}
