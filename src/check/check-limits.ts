/** Limits and ids that the host does not have. */
import { formatLimit } from '../model/memory-limit.ts';
import type { Problem } from '../model/problem.ts';
import { printable } from '../model/unit-syntax.ts';
import type { CheckedContainer, Subject } from './subject.ts';

export function checkLimits(subject: Subject, container: CheckedContainer): void {
  checkMemory(subject, container);
  checkCpus(subject, container);
  for (const kind of ['u', 'g'] as const) checkIds(subject, container, kind);
}

function checkMemory({ host, findings }: Subject, { name, unit, facts }: CheckedContainer): void {
  const [, kibibytes] =
    /^MemTotal:\s+(\d+) kB$/m.exec(host.readText('/proc/meminfo').text ?? '') ?? [];
  if (kibibytes === undefined) return;
  const total = BigInt(kibibytes) * 1024n;
  const limit = unit.memory.limits.find((each) => each.name === 'MemoryMax')?.size;
  if (typeof limit !== 'bigint' || limit <= total) return;
  const entry = facts.config.memory.find(({ key }) => /\.(?:max|limit_in_bytes)$/.test(key));
  findings.add(
    'memory-over-host',
    name,
    entry?.located ?? { file: unit.configFile, line: 0 },
    `the memory limit is ${formatLimit(limit)}, and the host has ${formatLimit(total)}`,
    `run: lockerctl balloon --persist NAME SIZE, or write a lower limit`,
  );
}

/** The largest number of a list such as `0-3,8`; undefined for what is no such list. */
function largestOf(list: string): number | undefined {
  if (!/^\d{1,5}(?:-\d{1,5})?(?:,\d{1,5}(?:-\d{1,5})?)*$/.test(list)) return undefined;
  return Math.max(...list.split(/[-,]/).map(Number));
}

function checkCpus({ host, findings }: Subject, { name, lines }: CheckedContainer): void {
  const line = lines.filter(({ key }) => /^lxc\.cgroup2?\.cpuset\.cpus$/.test(key)).at(-1);
  if (line === undefined) return;
  const last = largestOf((host.readText('/sys/devices/system/cpu/present').text ?? '').trim());
  const wanted = largestOf(line.value);
  if (last === undefined || wanted === undefined || wanted <= last) return;
  const what = `the host has no processor ${wanted}, the last one is ${last}`;
  findings.add('cpus-over-host', name, line, what, `write a list of processors from 0 to ${last}`);
}

const idFiles = {
  u: { file: '/etc/subuid', tool: '/usr/bin/newuidmap', option: '--add-subuids' },
  g: { file: '/etc/subgid', tool: '/usr/bin/newgidmap', option: '--add-subgids' },
} as const;

interface Range {
  readonly first: bigint;
  readonly count: bigint;
}

/** Ranges that belong to root, by the first id. */
function rangesOfRoot(text: string): Range[] {
  const ranges: Range[] = [];
  for (const line of text.split('\n')) {
    const [, first, count] = /^(?:root|0):(\d{1,10}):(\d{1,10})\s*$/.exec(line) ?? [];
    if (first === undefined || count === undefined) continue;
    ranges.push({ first: BigInt(first), count: BigInt(count) });
  }
  return ranges.sort((a, b) => (a.first < b.first ? -1 : 1));
}

function isReserved(ranges: readonly Range[], { first, count }: Range): boolean {
  let next = first;
  for (const range of ranges) {
    const end = range.first + range.count;
    if (range.first <= next && end > next) next = end;
  }
  return next >= first + count;
}

function checkIds(
  { host, findings }: Subject,
  { name, facts }: CheckedContainer,
  kind: keyof typeof idFiles,
): void {
  const { file, tool, option } = idFiles[kind];
  const maps = facts.config.idmaps.flatMap((line) => {
    const [, type = '', first, count] =
      /^[ \t]*([ugb])[ \t]+\d+[ \t]+(\d{1,10})[ \t]+(\d{1,10})[ \t]*$/.exec(line.value) ?? [];
    if (first === undefined || count === undefined || !['b', kind].includes(type)) return [];
    return [{ line, range: { first: BigInt(first), count: BigInt(count) } }];
  });
  if (maps.length === 0) return;
  const ranges = rangesOfRoot(host.readText(file).text ?? '');
  for (const { line, range } of maps) {
    // newuidmap(1) lets everybody have his own id.
    if ((range.first === 0n && range.count === 1n) || isReserved(ranges, range)) continue;
    const last = range.first + range.count - 1n;
    findings.add(
      host.isThere(tool) ? 'subid-refused' : 'subid-unreserved',
      name,
      line satisfies Pick<Problem, 'file' | 'line'>,
      `${file} does not reserve the ids of "${printable(line.value.slice(0, 80))}" for root`,
      `run: usermod ${option} ${range.first}-${last} root`,
    );
  }
}
