// npm run bench: the CPU time of one generator run beside that of systemd's own fstab generator on
// the same machine, as a ratio. Absolute times differ between machines; the ratio much less.
//
// npm run bench -- bus: see bus.ts.
// npm run bench -- shrinks: see shrinks.ts.
// npm run bench -- autoballoon: see autoballoon.ts.
// npm run bench -- starts, npm run bench -- reloads: see starts.ts.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import process from 'node:process';

const generator = resolve('dist/lockerd-generator');
const fstabGenerator = '/usr/lib/systemd/system-generators/systemd-fstab-generator';
const rounds = 5;

function makeRoot(directory: string, containers: number, orders: number): void {
  mkdirSync(join(directory, 'etc'), { recursive: true });
  const fstab = [];
  for (let n = 0; n < containers; n++) {
    const path = join(directory, `var/lib/lxc/c${n}`);
    mkdirSync(path, { recursive: true });
    writeFileSync(
      join(path, 'config'),
      `lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = lvm:/dev/vg0/c${n}
lxc.uts.name = c${n}
lxc.net.0.type = veth
lxc.net.0.link = br0
lxc.start.auto = 1
lxc.start.order = ${n % orders}
lxc.mount.entry = /srv/data${n} srv none bind,create=dir 0 0
`,
    );
    fstab.push(`/dev/vg0/data${n} /srv/data${n} ext4 defaults 0 2`);
  }
  writeFileSync(join(directory, 'etc/fstab'), `${fstab.join('\n')}\n`);
  const shared = join(directory, 'usr/share/lxc/config/common.conf.d');
  mkdirSync(shared, { recursive: true });
  writeFileSync(
    join(directory, 'usr/share/lxc/config/common.conf'),
    'lxc.pty.max = 1024\nlxc.include = /usr/share/lxc/config/common.conf.d/\n',
  );
}

/** CPU seconds, user and system, of the quickest of some runs. */
function cpuSeconds(program: string, output: string, environment: Record<string, string>): number {
  let best = Infinity;
  for (let round = 0; round < rounds; round++) {
    rmSync(output, { recursive: true, force: true });
    mkdirSync(output);
    // The children's times are only counted when they have been waited for, by a parent of ours.
    const script = `"$0" "$1" "$1" "$1" 2>/dev/null; times`;
    const { stdout } = spawnSync('bash', ['-c', script, program, output], {
      encoding: 'utf8',
      env: { ...process.env, ...environment },
    });
    const times = /^(\d+)m([\d.]+)s (\d+)m([\d.]+)s\s*$/m.exec(stdout.trim().split('\n')[1] ?? '');
    if (times === null) throw new Error(`cannot read the times of ${program}: ${stdout}`);
    const [userMin = 0, user = 0, systemMin = 0, system = 0] = times.slice(1).map(Number);
    best = Math.min(best, (userMin + systemMin) * 60 + user + system);
  }
  return best;
}

function benchGenerator(): void {
  const work = mkdtempSync(join(tmpdir(), 'lockerd-bench-'));
  try {
    const output = join(work, 'out');
    console.log('containers  orders   lockerd ms   fstab-generator ms   ratio');
    for (const [containers, orders] of [
      [1, 1],
      [100, 1],
      [100, 100],
      [1000, 1],
      [1000, 10],
    ] as const) {
      const root = join(work, `root-${containers}-${orders}`);
      makeRoot(root, containers, orders);
      const ours = cpuSeconds(generator, output, { LOCKERD_ROOT: root });
      const theirs = cpuSeconds(fstabGenerator, output, {
        SYSTEMD_FSTAB: join(root, 'etc/fstab'),
        SYSTEMD_PROC_CMDLINE: 'quiet',
      });
      const cells = [
        String(containers).padStart(10),
        String(orders).padStart(7),
        (ours * 1000).toFixed(0).padStart(12),
        (theirs * 1000).toFixed(0).padStart(20),
        // The shell's clock has milliseconds; less than one cannot be divided by.
        (ours / Math.max(theirs, 0.001)).toFixed(1).padStart(7),
      ];
      console.log(cells.join(' '));
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const [which, ...args] = process.argv.slice(2);
if (which === 'bus') await (await import('./bus.ts')).benchBus();
else if (which === 'shrinks') await (await import('./shrinks.ts')).benchShrinks(args);
else if (which === 'autoballoon') await (await import('./autoballoon.ts')).benchAutoballoon(args);
else if (which === 'starts') await (await import('./starts.ts')).benchStarts(args);
else if (which === 'reloads') await (await import('./starts.ts')).benchReloads(args);
else benchGenerator();
