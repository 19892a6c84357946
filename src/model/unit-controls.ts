/**
 * What limits of processor time, processors, disks and tasks are in a unit. The values are those that the
 * kernel takes in the files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst); the settings
 * are those of systemd.resource-control(5).
 */

/** A line of a unit's section; an empty value clears what drop-ins before it have set. */
export interface UnitSetting {
  readonly name: string;
  readonly value: string;
}

/**
 * Makes settings of the values that are written to one file, one after the other. Undefined where the
 * kernel would refuse one, or no setting says the same.
 */
type Reader = (values: readonly string[]) => readonly UnitSetting[] | undefined;

/** The settings that systemd has no counterpart for on cgroup v1. */
const onV2Alone: ReadonlySet<string> = new Set([
  'AllowedCPUs',
  'AllowedMemoryNodes',
  'IOReadIOPSMax',
  'IOWriteIOPSMax',
]);

export function worksOnV1({ name }: UnitSetting): boolean {
  return !onV2Alone.has(name);
}

/** Devices beyond this are nobody's limits. */
const devicesMax = 256;

const defaultPeriodUsec = 100_000;
/** The kernel's bounds of a period, and the shortest run that it grants in one, in microseconds. */
const periodUsec = { least: 1000, most: 1_000_000 };
const quotaLeastUsec = 1000;
/** systemd counts hundredths of a per cent in an int. */
const hundredthsMax = 2 ** 31 - 1;

/** The largest number of processors that systemd counts. */
const processorsMax = 8192;

/** What pids.max can be at most: PID_MAX_LIMIT of the kernel. */
const tasksMost = 4_194_304;

/**
 * What the unit has beside the guest's own tasks: LXC's monitor, and hooks at a start or stop. With
 * plain LXC the limit holds for the guest alone.
 */
export const tasksBesideGuest = 16;

function weightOf(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined;
  const weight = Number(text);
  return weight >= 1 && weight <= 10_000 ? weight : undefined;
}

function readCpuWeight(values: readonly string[]): readonly UnitSetting[] | undefined {
  const weight = weightOf(values.at(-1)?.trim() ?? '');
  return weight === undefined ? undefined : [{ name: 'CPUWeight', value: String(weight) }];
}

/** A share of one processor's time in per cent, which systemd takes with two decimals. */
function percentOf(quota: number, period: number): string | undefined {
  const hundredths = Math.max(Math.round((quota * 10_000) / period), 1);
  if (hundredths > hundredthsMax) return undefined;
  const decimals = hundredths % 100;
  const fraction = decimals === 0 ? '' : `.${String(decimals).padStart(2, '0')}`;
  return `${Math.floor(hundredths / 100)}${fraction}%`;
}

/** `max` or a quota in microseconds, and the period; without one the period stays as it was. */
function readCpuMax(values: readonly string[]): readonly UnitSetting[] | undefined {
  let quota = Infinity;
  let period = defaultPeriodUsec;
  for (const value of values) {
    const [, limit, length] = /^\s*(max|\d{1,15})(?:\s+(\d{1,7}))?\s*$/.exec(value) ?? [];
    if (limit === undefined) return undefined;
    quota = limit === 'max' ? Infinity : Number(limit);
    if (length !== undefined) period = Number(length);
    if (quota < quotaLeastUsec || period < periodUsec.least || period > periodUsec.most)
      return undefined;
  }
  if (quota === Infinity) return [{ name: 'CPUQuota', value: '' }];
  const percent = percentOf(quota, period);
  if (percent === undefined) return undefined;
  return [
    { name: 'CPUQuota', value: percent },
    {
      name: 'CPUQuotaPeriodSec',
      value: period === defaultPeriodUsec ? '' : `${period}us`,
    },
  ];
}

/** A list such as `0-3,8`, in systemd's form; undefined for strides and what else it does not know. */
export function processorList(text: string): string | undefined {
  const parts = text.split(/[\s,]+/).filter((part) => part !== '');
  if (parts.length === 0 || parts.length > processorsMax) return undefined;
  for (const part of parts) {
    const [, first, last = first] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part) ?? [];
    if (first === undefined || Number(last) < Number(first)) return undefined;
    if (Number(last) >= processorsMax) return undefined;
  }
  return parts.join(',');
}

/** systemd adds to a list that was there, so that is cleared first. */
function readList(name: string): Reader {
  return (values) => {
    const list = processorList(values.at(-1) ?? '');
    if (list === undefined) return undefined;
    return [
      { name, value: '' },
      { name, value: list },
    ];
  };
}

/** A path that udev makes for each block device. */
function devicePath(text: string): string | undefined {
  const [, major, minor] = /^(\d{1,8}):(\d{1,8})$/.exec(text) ?? [];
  if (major === undefined || minor === undefined) return undefined;
  return `/dev/block/${Number(major)}:${Number(minor)}`;
}

/** `WEIGHT`, `default WEIGHT`, `MAJOR:MINOR WEIGHT` or `MAJOR:MINOR default`. */
function readIoWeight(values: readonly string[]): readonly UnitSetting[] | undefined {
  let all: number | undefined;
  const devices = new Map<string, number>();
  for (const value of values) {
    const [first = '', second, ...rest] = value.trim().split(/\s+/);
    if (rest.length > 0) return undefined;
    if (second === undefined || first === 'default') {
      all = weightOf(second ?? first);
      if (all === undefined) return undefined;
      continue;
    }
    const path = devicePath(first);
    const weight = weightOf(second);
    if (path === undefined || (weight === undefined && second !== 'default')) return undefined;
    if (weight === undefined) devices.delete(path);
    else devices.set(path, weight);
  }
  if (devices.size > devicesMax) return undefined;
  return [
    ...(all === undefined ? [] : [{ name: 'IOWeight', value: String(all) }]),
    ...[...devices].map(([path, weight]) => ({
      name: 'IODeviceWeight',
      value: `${path} ${weight}`,
    })),
  ];
}

const ioSettings: ReadonlyMap<string, string> = new Map([
  ['rbps', 'IOReadBandwidthMax'],
  ['wbps', 'IOWriteBandwidthMax'],
  ['riops', 'IOReadIOPSMax'],
  ['wiops', 'IOWriteIOPSMax'],
]);

/** `MAJOR:MINOR` and any of `rbps=`, `wbps=`, `riops=` and `wiops=`, each a number or `max`. */
function readIoMax(values: readonly string[]): readonly UnitSetting[] | undefined {
  const limits = new Map<string, string>();
  for (const value of values) {
    const [device = '', ...parts] = value.trim().split(/\s+/);
    const path = devicePath(device);
    if (path === undefined || parts.length === 0) return undefined;
    for (const part of parts) {
      const [, key = '', limit = ''] = /^(\w+)=(max|0*[1-9]\d{0,18})$/.exec(part) ?? [];
      const name = ioSettings.get(key);
      if (name === undefined) return undefined;
      const text = limit === 'max' ? 'infinity' : BigInt(limit).toString();
      limits.set(`${name} ${path}`, text);
    }
  }
  if (limits.size > 4 * devicesMax) return undefined;
  return [...limits].map(([key, limit]) => {
    const [name = '', path = ''] = key.split(' ');
    return { name, value: `${path} ${limit}` };
  });
}

function readPidsMax(values: readonly string[]): readonly UnitSetting[] | undefined {
  const text = values.at(-1)?.trim() ?? '';
  if (text === 'max') return [{ name: 'TasksMax', value: 'infinity' }];
  const tasks = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  if (tasks < 1 || tasks > tasksMost) return undefined;
  return [{ name: 'TasksMax', value: String(tasks + tasksBesideGuest) }];
}

/** By the names of the files of cgroup v2. */
export const controlReaders = {
  'cpu.weight': readCpuWeight,
  'cpu.max': readCpuMax,
  'cpuset.cpus': readList('AllowedCPUs'),
  'cpuset.mems': readList('AllowedMemoryNodes'),
  'io.weight': readIoWeight,
  'io.max': readIoMax,
  'pids.max': readPidsMax,
} as const satisfies Readonly<Record<string, Reader>>;

export type ControlFile = keyof typeof controlReaders;
