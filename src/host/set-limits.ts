/**
 * Memory limits that unit files of the host set, as systemd will read them: those of administrators, of
 * packages and of "systemctl set-property", for one container or for all of them.
 */
import type { MemorySize } from '../model/memory-size.ts';
import { parseUnitSize } from '../model/memory-size.ts';
import type { HostReader } from './read.ts';
import { unitDirectories } from './read.ts';
import { dropInsOf, unitAssignments } from './unit-text.ts';

export interface SetLimit {
  /** By systemd's name. */
  readonly limit: string;
  readonly size: MemorySize;
  /** Name of the drop-in, by which systemd orders them; empty for the unit file itself. */
  readonly dropIn: string;
  readonly file: string;
  readonly line: number;
}

/** MemoryLimit= is the old name, which systemd 252 still knows. */
const limitNames: ReadonlyMap<string, string> = new Map([
  ['MemoryMax', 'MemoryMax'],
  ['MemoryLimit', 'MemoryMax'],
  ['MemoryHigh', 'MemoryHigh'],
  ['MemorySwapMax', 'MemorySwapMax'],
]);

const template = 'lxc@.service';
const forAll = [`${template}.d`, 'service.d'];

export class SetLimits {
  private readonly host: HostReader;
  /** What is there for single units, read once for all containers. */
  private own: ReadonlySet<string> | undefined;
  private shared: readonly SetLimit[] | undefined;
  private memory: bigint | undefined;

  constructor(host: HostReader) {
    this.host = host;
  }

  /** What unit files set for a unit, in the order in which systemd reads them. */
  of(unit: string): readonly SetLimit[] {
    this.own ??= new Set([
      ...[
        '/etc/systemd/system.control',
        '/run/systemd/system.control',
        '/run/systemd/transient',
      ].flatMap((directory) => this.host.list(directory)),
      ...this.host.unitFileNames(),
    ]);
    if (!this.own.has(unit) && !this.own.has(`${unit}.d`)) {
      return (this.shared ??= this.read(template, forAll));
    }
    return this.read(this.own.has(unit) ? unit : template, [`${unit}.d`, ...forAll]);
  }

  private read(unitFile: string, directories: readonly string[]): SetLimit[] {
    const file = unitDirectories
      .map((directory) => `${directory}/${unitFile}`)
      .find((path) => this.host.isThere(path));
    return [
      ...(file === undefined ? [] : this.assigned('', file)),
      // Those of lockerd's generator are made anew.
      ...dropInsOf(this.host, directories)
        .filter(({ path }) => !path.startsWith('/run/systemd/generator/'))
        .flatMap(({ name, path }) => this.assigned(name, path)),
    ];
  }

  private assigned(dropIn: string, file: string): SetLimit[] {
    return unitAssignments(this.host.text(file) ?? '').flatMap(({ key, value, line }) => {
      const limit = limitNames.get(key);
      if (limit === undefined) return [];
      const size = parseUnitSize(value, () => this.hostMemory());
      // systemd passes over what it does not understand.
      return size === undefined ? [] : [{ limit, size, dropIn, file, line }];
    });
  }

  /** Bytes of the host, of which limits may be percentages. */
  private hostMemory(): bigint {
    const [, kilobytes = '0'] =
      /^MemTotal:\s*(\d+) kB$/m.exec(this.host.text('/proc/meminfo') ?? '') ?? [];
    return (this.memory ??= BigInt(kilobytes) * 1024n);
  }
}
