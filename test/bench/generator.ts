// npm run bench [-- --short|--record]: what one run of the generator costs beside
// Podman's Quadlet and systemd's fstab generator on the same machine, as ratios. Absolute times
// differ between machines; ratios much less. Writes dist/bench-generator.json; with --record, the
// table and the plot beside this file. With --short, n = 1 and 100, and a ratio that is three times
// worse than the recorded one is a failure.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { ensurePrograms } from '../machines/programs.mjs';
import { plotSvg } from './plot.ts';

const recorded = join(import.meta.dirname, 'generator.json');
const worseMax = 3;

interface Program {
  readonly name: string;
  readonly path: string;
  readonly environment: (root: string) => Record<string, string>;
  readonly args?: readonly string[];
  /** What it writes for the first container; one that fails is fast. */
  readonly makes: string;
  /** Sees the files of the root in their places on this host, whose own it reads beside them. */
  readonly isInPlace?: true;
}

const ours = {
  environment: (root: string): Record<string, string> => ({ LOCKERD_ROOT: root }),
  makes: 'lxc@c0.service.d/60-container.conf',
};
const quadlet = ['/usr/libexec/podman/quadlet', '/usr/lib/podman/quadlet'];

/** Those that are there; Quadlet is not on every machine, and LOCKERD_QUADLET can name it. */
function findPrograms(): Program[] {
  const all: Program[] = [
    { ...ours, name: 'compiled', path: resolve('dist/compiled/lockerd-generator') },
    {
      ...ours,
      name: 'in place',
      path: resolve('dist/compiled/lockerd-generator'),
      environment: () => ({}),
      isInPlace: true,
    },
    { ...ours, name: 'node', path: resolve('dist/lockerd-generator') },
    {
      name: 'quadlet',
      path: process.env['LOCKERD_QUADLET'] ?? quadlet.find((path) => existsSync(path)) ?? '',
      args: ['--no-kmsg-log'],
      makes: 'c0.service',
      environment: (root) => ({ QUADLET_UNIT_DIRS: join(root, 'quadlet') }),
    },
    {
      name: 'fstab',
      path: '/usr/lib/systemd/system-generators/systemd-fstab-generator',
      makes: 'srv-data0.mount',
      environment: (root) => ({
        SYSTEMD_FSTAB: join(root, 'etc/fstab'),
        SYSTEMD_PROC_CMDLINE: 'quiet',
      }),
    },
  ];
  return all.filter(({ name, path }) => {
    if (existsSync(path)) return true;
    console.log(`without ${name}: it is not there`);
    return false;
  });
}

/** Containers with a logical volume, a bridge, a bind mount, autostart and one locker each. */
function makeRoot(root: string, count: number): void {
  const write = (path: string, text: string): void => {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  const fstab: string[] = [];
  for (let n = 0; n < count; n++) {
    write(
      `var/lib/lxc/c${n}/config`,
      `# Template used to create this container: /usr/share/lxc/templates/lxc-debian
lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = lvm:/dev/vg0/c${n}
lxc.uts.name = c${n}
lxc.net.0.type = veth
lxc.net.0.link = br0
lxc.net.0.flags = up
lxc.start.auto = 1
lxc.mount.entry = /srv/data${n} srv none bind,create=dir 0 0
`,
    );
    write(
      `quadlet/c${n}.container`,
      `[Unit]
Requires=dev-vg0-c${n}.device
After=dev-vg0-c${n}.device
RequiresMountsFor=/srv/data${n} /lockers/c${n}
[Container]
Image=localhost/c${n}
ContainerName=c${n}
Network=br0
Volume=/srv/data${n}:/srv
Volume=/lockers/c${n}:/lockers/c${n}
[Install]
WantedBy=multi-user.target
`,
    );
    fstab.push(`/dev/vg0/data${n} /srv/data${n} ext4 defaults 0 2`);
    fstab.push(`/dev/vg0/l${n} /lockers/c${n} ext4 nosuid,nodev 0 2`);
  }
  write('etc/fstab', `${fstab.join('\n')}\n`);
  const common = '/usr/share/lxc/config/common.conf';
  write(
    common,
    existsSync(common)
      ? readFileSync(common, 'utf8')
      : 'lxc.pty.max = 1024\nlxc.include = /usr/share/lxc/config/common.conf.d/\n',
  );
  write(
    `${common}.d/00-lxcfs.conf`,
    'lxc.mount.entry = /var/lib/lxcfs/proc/cpuinfo proc/cpuinfo none bind,create=file,optional 0 0\n',
  );
}

/**
 * Only the disk with the root directory: for another one, of a host of some test, the generator
 * would start a second process, and other runs would not.
 */
const alone = [
  '--mount',
  '--propagation',
  'private',
  'sh',
  '-c',
  `awk '{ print $5 }' /proc/self/mountinfo | tac | grep -vE '^/(proc|sys|dev|dev/shm)?$' |
   while read -r at; do umount -l "$(printf '%b' "$at")" 2>/dev/null; done; exec "$@"`,
  'alone',
];

/** As systemd runs it, without LOCKERD_ROOT: a host has hundreds of unit files, and a root none. */
const inPlace = [
  'sh',
  '-ec',
  `root=$1; shift
   mount --bind /dev/null /dev/kmsg
   mount --bind "$root/etc/fstab" /etc/fstab
   mount -t tmpfs bench /var/lib
   mount -t tmpfs bench /usr/share
   for at in /var/lib/lxc /usr/share/lxc; do mkdir "$at"; mount --bind "$root$at" "$at"; done
   exec "$@"`,
  'in-place',
];

function runAlone(
  { environment, isInPlace }: Program,
  root: string,
  command: readonly string[],
): string {
  const prepared = isInPlace === true ? [...inPlace, root, ...command] : command;
  const { stdout, stderr, error } = spawnSync('unshare', [...alone, ...prepared], {
    encoding: 'utf8',
    maxBuffer: 1 << 24,
    env: { ...process.env, ...environment(root) },
  });
  if (error !== undefined) throw error;
  return stdout + stderr;
}

interface Cost {
  readonly cpuMs: number;
  readonly memoryMiB: number;
}

/** User and system time in a line of the shell's `times`. */
function milliseconds(line = ''): number {
  const times = /^(\d+)m([\d.]+)s (\d+)m([\d.]+)s\s*$/.exec(line);
  if (times === null) throw new Error(`cannot read the times: ${line}`);
  const [userMin = 0, user = 0, systemMin = 0, system = 0] = times.slice(1).map(Number);
  return ((userMin + systemMin) * 60 + user + system) * 1000;
}

/** The least of some rounds: whatever else the machine does only adds. */
function costOf(program: Program, root: string, count: number): Cost {
  const { path, args = [] } = program;
  // The shell's clock has milliseconds.
  const [rounds, repeats] =
    count === 1 ? [5, 20] : count <= 100 ? [4, 4] : [count > 1000 ? 1 : 3, 1];
  const out = join(root, 'out');
  const script = `times; for n in $(seq ${repeats}); do "$@" ${out}/$n ${out}/$n ${out}/$n >/dev/null 2>&1; done; times`;
  let cpuMs = Infinity;
  for (let round = 0; round < rounds; round++) {
    rmSync(out, { recursive: true, force: true });
    for (let n = 1; n <= repeats; n++) mkdirSync(join(out, String(n)), { recursive: true });
    const text = runAlone(program, root, ['bash', '-c', script, 'bash', path, ...args]);
    // The second line of each has the children, the first time those that came before.
    const lines = text.trim().split('\n');
    const [before, after] = [milliseconds(lines[1]), milliseconds(lines.at(-1))];
    cpuMs = Math.min(cpuMs, (after - before) / repeats);
  }
  if (!existsSync(join(out, '1', program.makes))) throw new Error(`${program.name} has failed`);
  const memory = join(root, 'memory');
  const once = [path, ...args, `${out}/1`, `${out}/1`, `${out}/1`];
  const quiet = ['sh', '-c', 'exec "$@" >/dev/null 2>&1', 'sh'];
  runAlone(program, root, [...quiet, '/usr/bin/time', '-f', '%M', '-o', memory, ...once]);
  const kilobytes = Number(readFileSync(memory, 'utf8').trim().split('\n').at(-1));
  rmSync(out, { recursive: true });
  return { cpuMs, memoryMiB: kilobytes / 1024 };
}

/** Milliseconds of a run of which nothing is in memory; the least of some. */
function coldStart({ path, args = [], environment }: Program, root: string): number {
  let best = Infinity;
  for (let round = 0; round < 3; round++) {
    const out = join(root, `cold${round}`);
    mkdirSync(out, { recursive: true });
    execFileSync('sh', ['-c', 'sync; echo 3 >/proc/sys/vm/drop_caches']);
    const start = performance.now();
    spawnSync(path, [...args, out, out, out], { env: { ...process.env, ...environment(root) } });
    best = Math.min(best, performance.now() - start);
    rmSync(out, { recursive: true });
  }
  return best;
}

export interface Result {
  readonly name: string;
  /** By number of containers. */
  readonly costs: Readonly<Partial<Record<number, Cost>>>;
  readonly coldMs?: number;
  /** Of the time against the number of containers. */
  readonly exponent?: number;
}

const rightAligned = (text: string): string => text.padStart(12);

function printTable(results: readonly Result[], counts: readonly number[]): void {
  const has = (wanted: string): Result | undefined => results.find(({ name }) => name === wanted);
  const reference = has('quadlet') ?? has('fstab');
  console.log(['n', ...results.map(({ name }) => name)].map(rightAligned).join(''));
  for (const count of counts) {
    const cpu = results.map(({ costs }) => `${(costs[count]?.cpuMs ?? 0).toFixed(1)} ms`);
    const ratio = results.map(({ costs }) => {
      const base = reference?.costs[count]?.cpuMs ?? 1;
      return `${((costs[count]?.cpuMs ?? 0) / base).toFixed(2)} x`;
    });
    const memory = results.map(({ costs }) => `${(costs[count]?.memoryMiB ?? 0).toFixed(1)} MiB`);
    for (const [first, cells] of [
      [String(count), cpu],
      ['', ratio],
      ['', memory],
    ] as const) {
      console.log([first, ...cells].map(rightAligned).join(''));
    }
  }
  const optional = (title: string, value: (result: Result) => string): void => {
    console.log([title, ...results.map(value)].map(rightAligned).join(''));
  };
  optional('cold', ({ coldMs }) => (coldMs === undefined ? '-' : `${coldMs.toFixed(0)} ms`));
  optional('exponent', ({ exponent }) => (exponent === undefined ? '-' : exponent.toFixed(2)));
}

/** Each program's time as a multiple of the fstab generator's, which every machine has. */
function ratios(results: readonly Result[], count: number): ReadonlyMap<string, number> {
  const base = results.find(({ name }) => name === 'fstab')?.costs[count]?.cpuMs;
  return new Map(
    results.flatMap(({ name, costs }) => {
      const cost = costs[count]?.cpuMs;
      return base === undefined || cost === undefined ? [] : [[name, cost / base]];
    }),
  );
}

/** What has become three times slower than it was; the machine of the record was another one. */
function regressions(results: readonly Result[], counts: readonly number[]): string[] {
  const before = JSON.parse(readFileSync(recorded, 'utf8')) as readonly Result[];
  return counts.flatMap((count) => {
    const was = ratios(before, count);
    return [...ratios(results, count)]
      .filter(([name, ratio]) => ratio > worseMax * (was.get(name) ?? Infinity))
      .map(([name, ratio]) => {
        const then = (was.get(name) ?? 0).toFixed(2);
        return `${name} at n = ${count}: ${ratio.toFixed(2)} x the fstab generator, it was ${then} x`;
      });
  });
}

/** @returns whether nothing has become much slower */
export function benchGenerator(args: readonly string[]): boolean {
  ensurePrograms(['/usr/bin/time']);
  const isShort = args.includes('--short');
  const counts = isShort ? [1, 100] : [1, 10, 100, 1000, 5000];
  // In memory, as /run is.
  const work = mkdtempSync('/dev/shm/lockerd-bench-');
  try {
    for (const count of counts) makeRoot(join(work, String(count)), count);
    const results = findPrograms().map((program): Result => {
      const costs = Object.fromEntries(
        counts.map((count) => [count, costOf(program, join(work, String(count)), count)]),
      );
      if (isShort) return { name: program.name, costs };
      const [few, many] = [costs[10]?.cpuMs ?? 1, costs[1000]?.cpuMs ?? 1];
      const exponent = Math.log10(many / few) / 2;
      if (program.isInPlace === true) return { name: program.name, costs, exponent };
      const coldMs = coldStart(program, join(work, '1'));
      return { name: program.name, costs, coldMs, exponent };
    });
    printTable(results, counts);
    const text = `${JSON.stringify(results, undefined, 2)}\n`;
    writeFileSync('dist/bench-generator.json', text);
    if (args.includes('--record')) {
      writeFileSync(recorded, text);
      const inRoot = results.filter(({ name }) => name !== 'in place');
      writeFileSync(join(import.meta.dirname, 'generator.svg'), plotSvg(inRoot, counts));
    }
    const worse = isShort ? regressions(results, counts) : [];
    for (const line of worse) console.error(`FAILED: ${line}`);
    return worse.length === 0;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
