// npm run bench -- starts [--counts 20,50] [--rounds N] [--json FILE]: many busybox containers on a test host
// in one transaction, as units of lockerd (without and with its service), as LXC's own lxc@.service and by
// lxc-start in a loop, as lxc-autostart does it. Prints the time until all are ready, or run, the
// processor time of the host and how many processes there were, for start and stop, with ratios.
//
// npm run bench -- reloads [--counts 10,100,1000] [--json FILE]: a daemon-reload on a test host with as many
// containers, each with a locker of its own: without the generator, with the units that it makes but
// without its run, and with it.
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { bootHost, type Host } from '../host/host.ts';
import { offline } from '../machines/support.ts';

interface Cost {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly processes: number;
  /** Processor time of PID 1, of the service with its helper and of the bus. */
  readonly systemdMs: number;
  readonly lockerdMs: number;
  readonly busMs: number;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Work that a start or stop leaves behind counts too, for that long. */
const settleMs = 1500;

function read(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** The host's group in a hierarchy of cgroup v1, as its first process has it. */
function groupOf(host: Host, controller: string): string {
  const line = read(`/proc/${host.leader}/cgroup`)
    .split('\n')
    .find((text) => text.split(':')[1] === controller);
  const path = (line ?? '')
    .split(':')
    .slice(2)
    .join(':')
    .replace(/\/init\.scope$/, '');
  return `/sys/fs/cgroup/${controller.replace('name=', '')}${path}`;
}

function cpuMs(host: Host): number {
  return Number(read(`${groupOf(host, 'cpuacct')}/cpuacct.usage`)) / 1e6;
}

/** Processor time of the host's running processes with one of these names. */
function cpuMsOf(host: Host, ...names: string[]): number {
  const namespace = fs.readlinkSync(`/proc/${host.leader}/ns/pid`);
  let nanoseconds = 0;
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (!names.includes(read(`/proc/${pid}/comm`).trim())) continue;
    try {
      if (fs.readlinkSync(`/proc/${pid}/ns/pid`) !== namespace) continue;
      for (const task of fs.readdirSync(`/proc/${pid}/task`)) {
        nanoseconds += Number(read(`/proc/${pid}/task/${task}/schedstat`).split(' ')[0]);
      }
    } catch {
      // It has just ended.
    }
  }
  return nanoseconds / 1e6;
}

async function lastPid(host: Host): Promise<number> {
  return Number((await host.readFile('/proc/loadavg')).trim().split(' ')[4]);
}

async function costOf(
  host: Host,
  action: () => Promise<unknown>,
  untilDone: () => Promise<void> = () => Promise.resolve(),
): Promise<Cost> {
  await sleep(500);
  // The service is Node's main thread, which keeps that name.
  const names = [['systemd'], ['node', 'lockerd-helper'], ['dbus-daemon']];
  const usage = (): number[] => [cpuMs(host), ...names.map((some) => cpuMsOf(host, ...some))];
  const pid = await lastPid(host);
  const before = usage();
  const start = performance.now();
  await action();
  await untilDone();
  const wallMs = performance.now() - start;
  await sleep(settleMs);
  const [cpu = 0, systemd = 0, lockerd = 0, bus = 0] = usage().map(
    (ms, n) => ms - (before[n] ?? 0),
  );
  const processes = (await lastPid(host)) - pid;
  return { wallMs, cpuMs: cpu, processes, systemdMs: systemd, lockerdMs: lockerd, busMs: bus };
}

/** PF_FORKNOEXEC: a guest's init is a copy of lxc-start before it is executed. */
const notExecuted = 0x40;

/** Whether a guest's init runs, wherever LXC has put it. */
function runs(name: string, directories: readonly string[]): boolean {
  return directories.some((directory) =>
    read(`${directory}/lxc.payload.${name}/cgroup.procs`)
      .split('\n')
      .filter(Boolean)
      .some((pid) => {
        const stat = read(`/proc/${pid}/stat`);
        const flags = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[6]);
        return stat !== '' && (flags & notExecuted) === 0;
      }),
  );
}

async function untilAllRun(host: Host, names: readonly string[]): Promise<void> {
  const root = groupOf(host, 'name=systemd');
  const places = ['', '/system.slice/lxc.service'].map((place) => `${root}${place}`);
  let left = [...names];
  const end = Date.now() + 120_000;
  while (left.length > 0) {
    left = left.filter((name) => !runs(name, places));
    if (Date.now() > end) throw new Error(`these guests do not run: ${left.join(' ')}`);
    await sleep(4);
  }
}

interface Way {
  readonly name: string;
  readonly start: (names: readonly string[]) => Promise<unknown>;
  readonly stop: (names: readonly string[]) => Promise<unknown>;
  /** Its command returns before the guests run. */
  readonly isEarly: boolean;
  readonly prepare: () => Promise<unknown>;
}

function waysOf(host: Host): Way[] {
  const units = (verb: string, prefix: string) => (names: readonly string[]) =>
    host.run('systemctl', [verb, ...names.map((name) => `${prefix}@${name}`)], {
      timeoutMs: 600_000,
    });
  const each = (program: string, end: string) => (names: readonly string[]) =>
    host.shell(`${names.map((name) => `${program} -n ${name}${end}`).join('\n')}\nwait`, {
      timeoutMs: 600_000,
    });
  const service = (verb: string) => () => host.run('systemctl', [verb, 'lockerd']);
  const ofUnits = (prefix: string, isEarly: boolean) => ({
    start: units('start', prefix),
    stop: units('stop', prefix),
    isEarly,
  });
  return [
    { name: 'lxc@.service of LXC', ...ofUnits('stock', true), prepare: service('stop') },
    { name: 'lockerd', ...ofUnits('lxc', false), prepare: service('stop') },
    { name: 'lockerd, service runs', ...ofUnits('lxc', false), prepare: service('start') },
    {
      name: 'lxc-start in a loop',
      start: each('lxc-start', ''),
      stop: each('lxc-stop', ' &'),
      isEarly: true,
      prepare: service('stop'),
    },
  ];
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;
}

function medianCost(costs: readonly Cost[]): Cost {
  const of = (key: keyof Cost): number => median(costs.map((cost) => cost[key]));
  return {
    wallMs: of('wallMs'),
    cpuMs: of('cpuMs'),
    processes: of('processes'),
    systemdMs: of('systemdMs'),
    lockerdMs: of('lockerdMs'),
    busMs: of('busMs'),
  };
}

interface Row {
  readonly what: string;
  readonly containers: number;
  readonly way: string;
  readonly cost: Cost;
  /** To the first way. */
  readonly wallRatio: number;
  readonly cpuRatio: number;
}

function rowsOf(what: string, containers: number, costs: ReadonlyMap<string, Cost>): Row[] {
  const [first] = costs.values();
  return [...costs].map(([way, cost]) => ({
    what,
    containers,
    way,
    cost,
    wallRatio: cost.wallMs / (first?.wallMs ?? NaN),
    cpuRatio: cost.cpuMs / (first?.cpuMs ?? NaN),
  }));
}

function print(rows: readonly Row[], json: string | undefined): void {
  console.log(
    'what    containers  way                         wall ms  ratio    cpu ms  ratio  processes' +
      '   systemd  lockerd      bus',
  );
  for (const { what, containers, way, cost, wallRatio, cpuRatio } of rows) {
    console.log(
      [
        what.padEnd(7),
        String(containers).padStart(10),
        ` ${way.padEnd(26)}`,
        cost.wallMs.toFixed(0).padStart(8),
        wallRatio.toFixed(2).padStart(6),
        cost.cpuMs.toFixed(0).padStart(9),
        cpuRatio.toFixed(2).padStart(6),
        cost.processes.toFixed(0).padStart(10),
        ...[cost.systemdMs, cost.lockerdMs, cost.busMs].map((ms) => ms.toFixed(0).padStart(9)),
      ].join(' '),
    );
  }
  if (json !== undefined) fs.writeFileSync(json, `${JSON.stringify(rows, undefined, 2)}\n`);
}

function countsOf(text: string): number[] {
  return text.split(',').map(Number);
}

export async function benchStarts(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      counts: { type: 'string', default: '20,50' },
      rounds: { type: 'string', default: '3' },
      json: { type: 'string' },
    },
  });
  const counts = countsOf(values.counts);
  await using host = await bootHost({ name: 'starts', boot: false });
  const all = Array.from({ length: Math.max(...counts) }, (_, n) => `c${n + 1}`);
  for (const name of all) await host.createContainer(name, 'busybox', { config: offline });
  await host.boot();
  await host.shell('cp /lib/systemd/system/lxc@.service /etc/systemd/system/stock@.service');
  await host.run('systemctl', ['daemon-reload']);
  const rows: Row[] = [];
  for (const count of counts) {
    const names = all.slice(0, count);
    const starts = new Map<string, Cost[]>();
    const stops = new Map<string, Cost[]>();
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const { name, start, stop, isEarly, prepare } of waysOf(host)) {
        await prepare();
        await sleep(2000);
        const until = isEarly ? () => untilAllRun(host, names) : undefined;
        const started = await costOf(host, () => start(names), until);
        const stopped = await costOf(host, () => stop(names));
        starts.set(name, [...(starts.get(name) ?? []), started]);
        stops.set(name, [...(stops.get(name) ?? []), stopped]);
      }
    }
    for (const [what, costs] of [
      ['start', starts],
      ['stop', stops],
    ] as const) {
      const medians = new Map([...costs].map(([name, some]) => [name, medianCost(some)]));
      rows.push(...rowsOf(what, count, medians));
    }
  }
  print(rows, values.json);
}

const generator = '/usr/lib/systemd/system-generators/lockerd-generator';

/** Containers of which only the definitions are needed, each with a locker that has its name. */
async function define(host: Host, from: number, to: number): Promise<void> {
  await host.shell(
    `n=${from}
    while [ "$n" -lt ${to} ]; do
      mkdir -p "/var/lib/lxc/r$n/rootfs"
      printf 'lxc.rootfs.path = dir:/var/lib/lxc/r%s/rootfs\\nlxc.uts.name = r%s\\n' "$n" "$n" \\
        >"/var/lib/lxc/r$n/config"
      printf 'tmpfs /lockers/r%s tmpfs noauto,nosuid,nodev,size=64k 0 0\\n' "$n" >>/etc/fstab
      ln -sf /lib/systemd/system/lxc@.service \\
        "/etc/systemd/system/multi-user.target.wants/lxc@r$n.service"
      n=$((n + 1))
    done`,
    { timeoutMs: 600_000 },
  );
}

export async function benchReloads(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { counts: { type: 'string', default: '10,100,1000' }, json: { type: 'string' } },
  });
  await using host = await bootHost({ name: 'reloads' });
  await host.run('systemctl', ['stop', 'lockerd']);
  await host.shell('mkdir -p /etc/systemd/system/multi-user.target.wants');
  const dropIn = '/usr/lib/systemd/system/lxc@.service.d/50-lockerd.conf';
  const reload = () => host.run('systemctl', ['daemon-reload'], { timeoutMs: 600_000 });
  const best = async (): Promise<Cost> => {
    await reload();
    const costs: Cost[] = [];
    for (let round = 0; round < 3; round++) costs.push(await costOf(host, reload));
    return medianCost(costs);
  };
  const rows: Row[] = [];
  let defined = 0;
  for (const count of countsOf(values.counts)) {
    await define(host, defined, count);
    defined = count;
    const costs = new Map<string, Cost>();
    await host.shell(`chmod -x ${generator}; mv ${dropIn} /root/drop-in`);
    costs.set('without lockerd', await best());
    await host.shell(`mv /root/drop-in ${dropIn}; chmod +x ${generator}`);
    const kept = '/run/systemd/system';
    await host.shell(`mkdir -p /root/made ${kept}; ${generator} /root/made /root/made /root/made`);
    await host.shell(
      `chmod -x ${generator}; cp -a ${kept} /root/kept; cp -a /root/made/. ${kept}/`,
    );
    costs.set('its units, no generator', await best());
    await host.shell(`rm -rf ${kept} /root/made; mv /root/kept ${kept}; chmod +x ${generator}`);
    costs.set('with lockerd', await best());
    rows.push(...rowsOf('reload', count, costs));
  }
  print(rows, values.json);
}
