/**
 * What `lxc.cgroup.KEY` of cgroup v1 is on v2, as the line to write. LXC 7 refuses a configuration
 * that has such a key, and on a host with cgroup v2 alone they never had an effect.
 */
import { parseMemorySize } from './memory-size.ts';

const old = 'lxc.cgroup.';
const now = 'lxc.cgroup2.';

/** Keys below `lxc.cgroup.` that have nothing to do with cgroup v1. */
const others = new Set(['lxc.cgroup.relative', 'lxc.cgroup.dir']);

export function isCgroup1Key(key: string): boolean {
  if (key === 'lxc.cgroup') return true;
  return key.startsWith(old) && !others.has(key) && !key.startsWith('lxc.cgroup.dir.');
}

/** The last value of another key in the same file. */
type Lookup = (key: string) => string | undefined;

/** The new key without its beginning, and the value that means the same; undefined for none. */
type Rule = (value: string, lookup: Lookup) => readonly [string, string] | undefined;

function same(key: string): Rule {
  return (value) => [key, value];
}

/** A limit in bytes, which v1 takes away with -1. */
function bytes(key: string): Rule {
  return (value) => [key, value.trim() === '-1' ? 'max' : value];
}

/** As systemd converts its own settings: in proportion to what each version has by default. */
function weight(
  key: string,
  default1: number,
  isTaken: (shares: number) => boolean = () => true,
): Rule {
  return (value) => {
    const [, device = '', shares] = /^(\d+:\d+[ \t]+|)(\d{1,9})$/.exec(value.trim()) ?? [];
    if (shares === undefined) return undefined;
    if (!isTaken(Number(shares))) return undefined;
    const share = Math.floor((Number(shares) * 100) / default1);
    return [key, `${device.trim()} ${Math.min(Math.max(share, 1), 10_000)}`.trim()];
  };
}

/** What BFQ takes; 0 takes the weight of a device away. */
function isBlockWeight(weight1: number): boolean {
  return weight1 >= 1 && weight1 <= 1000;
}

/** `MAJOR:MINOR N`, without a limit where N is 0. */
function throttle(what: string): Rule {
  return (value) => {
    const [, device, limit] = /^(\d+:\d+)[ \t]+(\d+)$/.exec(value.trim()) ?? [];
    if (device === undefined || limit === undefined) return undefined;
    return ['io.max', `${device} ${what}=${/^0+$/.test(limit) ? 'max' : limit}`];
  };
}

const defaultPeriod = '100000';

function cpuMax(quota: string | undefined, period: string | undefined): readonly [string, string] {
  const limit = quota === undefined || quota.startsWith('-') ? 'max' : quota;
  return ['cpu.max', `${limit} ${period ?? defaultPeriod}`];
}

/** v1 limits the sum of memory and swap, v2 swap alone. */
function swapMax(value: string, lookup: Lookup): readonly [string, string] | undefined {
  const both = parseMemorySize(value, '-1');
  if (both === 'unlimited') return ['memory.swap.max', 'max'];
  const memory = parseMemorySize(lookup(`${old}memory.limit_in_bytes`) ?? '', '-1');
  if (both === undefined || typeof memory !== 'bigint' || both < memory) return undefined;
  // Refused, as no container can run in less than a page.
  if (memory === 0n) return undefined;
  return ['memory.swap.max', (both - memory).toString()];
}

const rules: Readonly<Record<string, Rule>> = {
  'memory.limit_in_bytes': bytes('memory.max'),
  // Without a limit v1 protects nothing.
  'memory.soft_limit_in_bytes': (value) => {
    return ['memory.low', parseMemorySize(value, '-1') === 'unlimited' ? '0' : value];
  },
  'memory.memsw.limit_in_bytes': swapMax,
  'cpu.shares': weight('cpu.weight', 1024),
  'cpu.cfs_quota_us': (value, lookup) => cpuMax(value, lookup(`${old}cpu.cfs_period_us`)),
  'cpu.cfs_period_us': (value, lookup) => cpuMax(lookup(`${old}cpu.cfs_quota_us`), value),
  'cpuset.cpus': same('cpuset.cpus'),
  'cpuset.mems': same('cpuset.mems'),
  'devices.allow': same('devices.allow'),
  'devices.deny': same('devices.deny'),
  'pids.max': same('pids.max'),
  'rdma.max': same('rdma.max'),
  'misc.max': same('misc.max'),
  'blkio.weight': weight('io.weight', 500, isBlockWeight),
  'blkio.weight_device': weight('io.weight', 500, isBlockWeight),
  'blkio.bfq.weight': same('io.bfq.weight'),
  'blkio.throttle.read_bps_device': throttle('rbps'),
  'blkio.throttle.write_bps_device': throttle('wbps'),
  'blkio.throttle.read_iops_device': throttle('riops'),
  'blkio.throttle.write_iops_device': throttle('wiops'),
};

function ruleOf(name: string): Rule | undefined {
  if (Object.hasOwn(rules, name)) return rules[name];
  const [, size] = /^hugetlb\.(\w+)\.limit_in_bytes$/.exec(name) ?? [];
  return size === undefined ? undefined : bytes(`hugetlb.${size}.max`);
}

/** The file of cgroup v2 and what to write there to say the same; undefined where there is none. */
export function cgroup2Setting(
  key: string,
  value: string,
  lookup: Lookup,
): readonly [file: string, value: string] | undefined {
  return ruleOf(key.slice(old.length))?.(value, lookup);
}

/** The line of cgroup v2 that says the same; undefined where there is none. */
export function cgroup2Line(key: string, value: string, lookup: Lookup): string | undefined {
  // An empty value clears, whatever the key.
  const [name, converted] = cgroup2Setting(key, value === '' ? '1' : value, lookup) ?? [];
  if (name === undefined || converted === undefined) return undefined;
  return `${now}${name} =${value === '' ? '' : ` ${converted}`}`;
}
