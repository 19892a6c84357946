/**
 * What a unit's control group says of processors, disks and tasks: use and limits, of either version.
 * The directory is the unit's own, which no guest can fill; what its files say is bounded by the host.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { LimitName, LimitTexts } from '../model/guest-limits.ts';
import { deviceText, listedNumbers, listText, noLimit } from '../model/guest-limits.ts';
import { processorList } from '../model/unit-controls.ts';
import { tryReadFile } from './control-files.ts';
import { parseFlatKeyed } from './figures.ts';
import { cgroupRoot, hierarchies } from './hierarchy.ts';
import { payloadBelow } from './lxc-groups.ts';

/** Since the container's start. */
export interface ControlUse {
  /** Of all processors together, in microseconds; undefined where the kernel does not count it. */
  readonly cpuUsec: bigint | undefined;
  /** The same. */
  readonly tasks: bigint | undefined;
  /** Of all devices together; undefined where the kernel does not count it. */
  readonly io: IoUse | undefined;
}

export interface IoUse {
  readonly readBytes: bigint;
  readonly writtenBytes: bigint;
  readonly reads: bigint;
  readonly writes: bigint;
}

/** A file of a control group, and its text. */
export interface ControlText {
  readonly path: string;
  readonly text: string;
}

/** How limits of devices are called in io.max, and which file of cgroup v1 has them. */
export const deviceLimitFiles = {
  'io-read-bytes': { word: 'rbps', v1: 'read_bps' },
  'io-write-bytes': { word: 'wbps', v1: 'write_bps' },
  'io-read-operations': { word: 'riops', v1: 'read_iops' },
  'io-write-operations': { word: 'wiops', v1: 'write_iops' },
} as const satisfies Partial<Record<LimitName, { word: string; v1: string }>>;
export type DeviceLimit = keyof typeof deviceLimitFiles;
const deviceLimitNames = Object.keys(deviceLimitFiles) as DeviceLimit[];

export function isDeviceLimit(name: LimitName): name is DeviceLimit {
  return Object.hasOwn(deviceLimitFiles, name);
}

/** What limits them, by the version of control groups. */
const controllers: Readonly<Record<LimitName, Readonly<Record<1 | 2, string>>>> = {
  'cpu-quota': { 1: 'cpu', 2: 'cpu' },
  'cpu-weight': { 1: 'cpu', 2: 'cpu' },
  cpus: { 1: 'cpuset', 2: 'cpuset' },
  'memory-nodes': { 1: 'cpuset', 2: 'cpuset' },
  'io-weight': { 1: 'blkio', 2: 'io' },
  'io-read-bytes': { 1: 'blkio', 2: 'io' },
  'io-write-bytes': { 1: 'blkio', 2: 'io' },
  'io-read-operations': { 1: 'blkio', 2: 'io' },
  'io-write-operations': { 1: 'blkio', 2: 'io' },
  tasks: { 1: 'pids', 2: 'pids' },
};

/** Of one processor's time, in microseconds a second. */
function quotaText(quota: string, period: string): string {
  if (!/^\d{1,15}$/.test(quota) || !/^[1-9]\d{0,9}$/.test(period)) return noLimit;
  return String(Math.round((Number(quota) * 1_000_000) / Number(period)));
}

function usageIn(stat = ''): bigint | undefined {
  return parseFlatKeyed(stat).get('usage_usec');
}

function listOrAll(text: string): string {
  const plain = processorList(text);
  return plain === undefined ? noLimit : listText(listedNumbers(plain));
}

/** Lines `MAJOR:MINOR key=N key=N`, as in io.stat and io.max; `max` is left out. */
function nestedKeyed(text: string): [device: string, values: Map<string, bigint>][] {
  return text.split('\n').flatMap((line) => {
    const [device = '', ...pairs] = line.split(' ');
    if (!/^\d+:\d+$/.test(device)) return [];
    const values = new Map<string, bigint>();
    for (const pair of pairs) {
      const [, key, number] = /^(\w+)=(\d+)$/.exec(pair) ?? [];
      if (key !== undefined && number !== undefined) values.set(key, BigInt(number));
    }
    return [[device, values] as [string, Map<string, bigint>]];
  });
}

/** Lines `MAJOR:MINOR N`, as in the throttles of cgroup v1. */
function perDevice(text: string): Map<string, string> {
  return new Map(
    text.split('\n').flatMap((line) => {
      const [, device, number] = /^(\d+:\d+) (\d+)$/.exec(line) ?? [];
      return device === undefined || number === undefined ? [] : [[device, number] as const];
    }),
  );
}

/** The control group of a unit, in whatever hierarchies. */
export abstract class Controls {
  abstract readonly version: 1 | 2;
  protected abstract path(file: string): string;
  /** Throws nothing: a group that has just gone has used nothing. */
  abstract use(): ControlUse;
  /** The limits that the kernel has; those that it does not know are left out. */
  abstract limits(): LimitTexts;
  /** The files of one limit that has one value, to write the same again later. */
  abstract texts(name: LimitName): readonly ControlText[];
  /** What to write where, to give a device a limit; `max` for none. */
  abstract deviceLine(name: DeviceLimit, device: string, limit: string): ControlText;

  protected read(file: string): string | undefined {
    return tryReadFile(this.path(file))?.trim();
  }

  protected number(file: string): bigint | undefined {
    const text = this.read(file) ?? '';
    return /^\d{1,20}$/.test(text) ? BigInt(text) : undefined;
  }

  /** Whether the guest is below the group, where such a limit holds for it. */
  hasGuest(name: LimitName): boolean {
    return payloadBelow(dirname(this.path(`${controllers[name][this.version]}.`))) !== undefined;
  }

  protected textsOf(files: readonly string[]): readonly ControlText[] {
    return files.flatMap((file) => {
      const text = this.read(file);
      return text === undefined ? [] : [{ path: this.path(file), text }];
    });
  }
}

class ControlsV2 extends Controls {
  readonly version = 2;
  readonly #directory: string;

  constructor(directory: string) {
    super();
    this.#directory = directory;
  }

  protected path(file: string): string {
    return join(this.#directory, file);
  }

  use(): ControlUse {
    const stat = this.read('io.stat');
    const sum = { rbytes: 0n, wbytes: 0n, rios: 0n, wios: 0n };
    for (const [, values] of nestedKeyed(stat ?? ''))
      for (const key of ['rbytes', 'wbytes', 'rios', 'wios'] as const)
        sum[key] += values.get(key) ?? 0n;
    return {
      cpuUsec: usageIn(this.read('cpu.stat')),
      tasks: this.number('pids.current'),
      io:
        stat === undefined
          ? undefined
          : { readBytes: sum.rbytes, writtenBytes: sum.wbytes, reads: sum.rios, writes: sum.wios },
    };
  }

  limits(): LimitTexts {
    const [quota = '', period = ''] = (this.read('cpu.max') ?? '').split(' ');
    const weight = this.read('cpu.weight');
    const cpus = this.read('cpuset.cpus');
    const nodes = this.read('cpuset.mems');
    const tasks = this.read('pids.max');
    const io = this.read('io.max');
    const [, ioWeight] = /^default (\d+)$/m.exec(this.read('io.weight') ?? '') ?? [];
    return {
      ...(quota === '' ? {} : { 'cpu-quota': quotaText(quota, period) }),
      ...(weight === undefined ? {} : { 'cpu-weight': weight }),
      ...(cpus === undefined ? {} : { cpus: listOrAll(cpus) }),
      ...(nodes === undefined ? {} : { 'memory-nodes': listOrAll(nodes) }),
      ...(ioWeight === undefined ? {} : { 'io-weight': ioWeight }),
      ...(io === undefined ? {} : ioLimits(io)),
      ...(tasks === undefined ? {} : { tasks }),
    };
  }

  texts(name: LimitName): readonly ControlText[] {
    const files: Partial<Record<LimitName, string>> = {
      'cpu-quota': 'cpu.max',
      'cpu-weight': 'cpu.weight',
      cpus: 'cpuset.cpus',
      'memory-nodes': 'cpuset.mems',
      'io-weight': 'io.weight',
      tasks: 'pids.max',
    };
    const file = files[name];
    return file === undefined ? [] : this.textsOf([file]);
  }

  deviceLine(name: DeviceLimit, device: string, limit: string): ControlText {
    return {
      path: this.path('io.max'),
      text: `${device} ${deviceLimitFiles[name].word}=${limit}`,
    };
  }
}

function ioLimits(text: string): LimitTexts {
  const lines = nestedKeyed(text);
  return Object.fromEntries(
    deviceLimitNames.map((name) => {
      const { word } = deviceLimitFiles[name];
      const limits = lines.flatMap(([device, values]) => {
        const limit = values.get(word);
        return limit === undefined ? [] : [[device, limit.toString()] as const];
      });
      return [name, deviceText(new Map(limits))];
    }),
  );
}

class ControlsV1 extends Controls {
  readonly version = 1;
  readonly #root: string;
  readonly #group: string;

  constructor(root: string, group: string) {
    super();
    this.#root = root;
    this.#group = group;
  }

  protected path(file: string): string {
    const [controller = ''] = file.split('.');
    return join(this.#root, controller, this.#group, file);
  }

  use(): ControlUse {
    const counts = (file: string): { read: bigint; write: bigint } | undefined => {
      const text = this.read(`blkio.throttle.${file}_recursive`);
      if (text === undefined) return undefined;
      const sum = { read: 0n, write: 0n };
      for (const [, what, number = '0'] of text.matchAll(/^\d+:\d+ (Read|Write) (\d+)$/gm))
        sum[what === 'Read' ? 'read' : 'write'] += BigInt(number);
      return sum;
    };
    const bytes = counts('io_service_bytes');
    const operations = counts('io_serviced');
    return {
      cpuUsec: this.#cpuUsec(),
      tasks: this.number('pids.current'),
      io:
        bytes === undefined || operations === undefined
          ? undefined
          : {
              readBytes: bytes.read,
              writtenBytes: bytes.write,
              reads: operations.read,
              writes: operations.write,
            },
    };
  }

  /** The hierarchy of version 2, which systemd mounts beside, counts it for every group. */
  #cpuUsec(): bigint | undefined {
    const { unified } = hierarchies(this.#root);
    const beside = usageIn(tryReadFile(join(unified, this.#group, 'cpu.stat')));
    const nsec = this.number('cpuacct.usage');
    return beside ?? (nsec === undefined ? undefined : nsec / 1000n);
  }

  limits(): LimitTexts {
    const quota = this.read('cpu.cfs_quota_us');
    const shares = this.read('cpu.shares');
    const tasks = this.read('pids.max');
    // systemd's own proportion, by what is the default of each version.
    const weight = Math.max(1, Math.round((Number(shares) * 100) / 1024));
    const limits: [DeviceLimit, string][] = deviceLimitNames.flatMap((name) => {
      const text = this.read(`blkio.throttle.${deviceLimitFiles[name].v1}_device`);
      return text === undefined ? [] : [[name, deviceText(perDevice(text))]];
    });
    return {
      ...(quota === undefined
        ? {}
        : { 'cpu-quota': quotaText(quota, this.read('cpu.cfs_period_us') ?? '') }),
      ...(shares === undefined ? {} : { 'cpu-weight': String(weight) }),
      ...Object.fromEntries(limits),
      ...(tasks === undefined ? {} : { tasks }),
    };
  }

  texts(name: LimitName): readonly ControlText[] {
    const files: Partial<Record<LimitName, readonly string[]>> = {
      'cpu-quota': ['cpu.cfs_period_us', 'cpu.cfs_quota_us'],
      'cpu-weight': ['cpu.shares'],
      'io-weight': ['blkio.weight', 'blkio.bfq.weight'],
      tasks: ['pids.max'],
    };
    return this.textsOf(files[name] ?? []);
  }

  deviceLine(name: DeviceLimit, device: string, limit: string): ControlText {
    return {
      path: this.path(`blkio.throttle.${deviceLimitFiles[name].v1}_device`),
      text: `${device} ${limit === noLimit ? '0' : limit}`,
    };
  }
}

/**
 * The control group of a unit; undefined where there is none. `controlGroup` is a path below the
 * hierarchy's root.
 */
export function findControls(
  controlGroup: string,
  root: string = cgroupRoot,
): Controls | undefined {
  if (!/^\/[^\0]+$/.test(controlGroup) || controlGroup.split('/').includes('..')) return undefined;
  const { version, systemd } = hierarchies(root);
  if (!existsSync(join(systemd, controlGroup))) return undefined;
  return version === 2
    ? new ControlsV2(join(root, controlGroup))
    : new ControlsV1(root, controlGroup);
}
