// npm run try: shows what lockerd does, on a disposable host with real systemd and real containers.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { bootHost, type GuestKind, type Host } from './host.ts';
import { configurePackage } from '../machines/service.ts';

const usage = `Usage: npm run try [-- OPTION...]

Boots a disposable Debian host, with systemd as PID 1 and lockerd installed, and shows what lockerd
does with three containers. What follows "ok:" was checked; where something is not so, the run ends
at once with exit status 1. Containers of this machine are not touched.

  --shell   Leave a shell in that host at the end, also after a failure
  --help    Print this help
`;

const guests: readonly { name: string; kind: GuestKind; config: string[] }[] = [
  {
    name: 'db',
    kind: 'sysvinit',
    config: ['lxc.start.auto = 1', 'lxc.start.order = 10', 'lxc.start.delay = 2'],
  },
  { name: 'web', kind: 'systemd', config: ['lxc.start.auto = 1', 'lxc.start.order = 20'] },
  { name: 'cache', kind: 'busybox', config: ['lxc.group = lab'] },
];

/** The first is web's own, the second its settings name, every container shares the third. */
const fstab = `/srv/web    /lockers/web      none   bind,nosuid,nodev     0 0
/srv/data   /lockers/data     none   bind,nosuid,nodev     0 0
sandbox     /lockers/sandbox  tmpfs  size=4m,nosuid,nodev  0 0
/srv/music  /lockers/music    none   bind,nosuid,nodev     0 0
`;

const settings = { file: '/etc/lockerd/containers/web.conf', text: 'lockers = data:ro\n' };

const rules = {
  file: '/etc/polkit-1/rules.d/60-keeper.rules',
  text: `// User keeper may start and stop cache, and may attach music to web and detach it.
polkit.addRule(function (action, subject) {
    if (subject.user !== "keeper") {
        return polkit.Result.NOT_HANDLED;
    }
    switch (action.id) {
        case "org.lockerd1.start":
        case "org.lockerd1.stop":
            if (action.lookup("container") === "cache") return polkit.Result.YES;
            break;
        case "org.lockerd1.mount-locker":
        case "org.lockerd1.unmount-locker":
            if (action.lookup("container") === "web" && action.lookup("locker") === "music")
                return polkit.Result.YES;
    }
    return polkit.Result.NOT_HANDLED;
});
`,
};

const started = performance.now();

function print(text: string): void {
  process.stdout.write(text === '' ? '' : `${text.trimEnd().replaceAll(/^(?=.)/gm, '  ')}\n`);
}

function say(text: string): void {
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stdout.write(`\n=== ${text}    (at ${seconds} s)\n`);
}

interface Shown {
  readonly output: string;
  readonly good: boolean;
}

/** Shows what an admin would type and what comes of it. */
async function show(host: Host, command: string, ...args: string[]): Promise<Shown> {
  const before = performance.now();
  const { stdout, stderr, exitCode } = await host.run(command, args, {
    reject: false,
    timeoutMs: 180_000,
  });
  const ms = Math.round(performance.now() - before);
  const words = [command, ...args].map((word) => (/[\s{;|>]/.test(word) ? `'${word}'` : word));
  process.stdout.write(`\n# ${words.join(' ')}    (${ms} ms, exit status ${exitCode})\n`);
  print(stdout + stderr);
  return { output: stdout + stderr, good: exitCode === 0 };
}

/** Shows a command that has to succeed; answers with its output. */
async function must(host: Host, command: string, ...args: string[]): Promise<string> {
  const { output, good } = await show(host, command, ...args);
  if (!good) throw new Error(`it should have succeeded: ${[command, ...args].join(' ')}`);
  return output;
}

/** Shows a command that has to fail; answers with its output. */
async function mustFail(host: Host, command: string, ...args: string[]): Promise<string> {
  const { output, good } = await show(host, command, ...args);
  if (good) throw new Error(`it should have failed: ${[command, ...args].join(' ')}`);
  return output;
}

function check(claim: string, isTrue: boolean): void {
  if (!isTrue) throw new Error(`not so: ${claim}`);
  process.stdout.write(`  ok: ${claim}\n`);
}

async function writeShown(host: Host, file: string, text: string): Promise<void> {
  await host.writeFile(file, text);
  process.stdout.write(`\n# cat ${file}\n`);
  print(text);
}

async function isActive(host: Host, name: string): Promise<boolean> {
  return (await host.unit(`lxc@${name}`))['ActiveState'] === 'active';
}

async function activeSince(host: Host, name: string): Promise<number> {
  return Number((await host.unit(`lxc@${name}`))['ActiveEnterTimestampMonotonic']) / 1e6;
}

async function showBoot(host: Host): Promise<void> {
  say('1. The boot has started the containers that are to start with it');
  await host.waitFor('web is active', () => isActive(host, 'web'));
  await must(host, 'systemctl', 'list-units', '--no-pager', '--legend=no', '--all', 'lxc@*');
  check(
    'db and web were started, in this order, two seconds apart',
    (await isActive(host, 'db')) &&
      (await activeSince(host, 'web')) - (await activeSince(host, 'db')) >= 2,
  );
  check('cache was not, as its configuration says', !(await isActive(host, 'cache')));
  process.stdout.write('\nWhat the generator made of the configuration of web:\n');
  const dropIn = await must(
    host,
    'cat',
    '/run/systemd/generator/lxc@web.service.d/60-container.conf',
  );
  check('web comes after db', /^After=lxc@db\.service$/m.test(dropIn));
}

async function showSystemctl(host: Host): Promise<void> {
  say('2. Start, look, stop: plain systemctl');
  await must(host, 'systemctl', 'start', 'lxc@cache');
  await must(host, 'systemctl', 'status', '--no-pager', '--lines=3', 'lxc@cache');
  await host.waitForGuest('cache');
  await must(host, 'systemctl', 'stop', 'lxc@cache');
  check(
    'cache ran its own shutdown to the end',
    (await host.marker('cache')) !== undefined && !(await isActive(host, 'cache')),
  );

  process.stdout.write('\nA container that is broken says so and harms no other:\n');
  await host.writeFile('/var/lib/lxc/old/config', 'lxc.utsname = old\nlxc.network.type = veth\n');
  // The generator's own failure is a line in the journal and none of systemctl's.
  await must(host, 'systemctl', 'daemon-reload');
  await mustFail(host, 'systemctl', 'start', 'lxc@old');
  await host.run('journalctl', ['--sync']);
  const reason = await must(host, 'journalctl', '--no-pager', '-o', 'cat', '-t', 'refuse-start');
  check('file, line and remedy are named', /old\/config:1: .*lxc-update-config/s.test(reason));
  check('db and web still run', (await isActive(host, 'db')) && (await isActive(host, 'web')));
  await host.run('rm', ['-r', '/var/lib/lxc/old']);
  await host.run('systemctl', ['daemon-reload']);
}

/** The lockers that a guest sees. */
async function showLockersOf(host: Host, name: string): Promise<string[]> {
  const output = await must(host, 'lockerctl', 'shell', name, '--', 'ls', '/lockers');
  return output.split(/\s+/).filter((word) => word !== '');
}

async function showLockers(host: Host): Promise<void> {
  say('3. Lockers: data volumes of the host that a container sees in /lockers');
  await host.waitForGuest('web');
  await host.waitForGuest('db');
  await must(host, 'cat', '/etc/fstab');
  await must(host, 'cat', settings.file);
  check(
    'web sees its own locker, the one in its settings and the shared one',
    (await showLockersOf(host, 'web')).join() === 'data,sandbox,web',
  );
  check('db sees the shared one alone', (await showLockersOf(host, 'db')).join() === 'sandbox');
  const inWeb = (script: string) =>
    ['lockerctl', 'shell', 'web', '--', 'sh', '-c', script] as const;
  await must(host, ...inWeb('echo from web > /lockers/web/note'));
  check('the host has the note', (await must(host, 'cat', '/lockers/web/note')) === 'from web\n');
  const refusal = await mustFail(host, ...inWeb('echo from web > /lockers/data/note'));
  check('data is read-only in web', refusal.includes('Read-only file system'));
}

async function showService(host: Host): Promise<void> {
  say('4. The D-Bus service and lockerctl: what polkit allows, without root');
  const list = await must(host, 'lockerctl', 'list');
  check(
    'all three containers are listed',
    guests.every(({ name }) => list.includes(name)),
  );
  await must(host, 'lockerctl', 'lockers');

  process.stdout.write('\nkeeper is an ordinary user of the host:\n');
  const asKeeper = ['runuser', '-u', 'keeper', '--'] as const;
  const start = [...asKeeper, 'lockerctl', 'start', 'cache'] as const;
  await mustFail(host, ...start);
  check('cache was not started', !(await isActive(host, 'cache')));

  process.stdout.write('\nA rule allows it, for these objects alone:\n');
  await writeShown(host, rules.file, rules.text);
  await host.waitFor('polkit has read the rule', async () => {
    const args = [...asKeeper.slice(1), 'lockerctl', '--json', 'permissions', 'cache'];
    return (await host.run('runuser', args)).stdout.includes('"yes"');
  });
  await must(host, ...asKeeper, 'lockerctl', 'permissions', 'cache');
  await must(host, ...start);
  check('cache runs', await isActive(host, 'cache'));
  await mustFail(host, ...asKeeper, 'lockerctl', 'stop', 'db');
  check('db, which the rule does not name, still runs', await isActive(host, 'db'));

  process.stdout.write('\nA locker for a container while it runs:\n');
  await must(host, ...asKeeper, 'lockerctl', 'attach', 'web', 'music');
  check('web sees it', (await showLockersOf(host, 'web')).includes('music'));
  const song = ['shell', 'web', '--', 'cat', '/lockers/music/song'];
  check('and reads it', (await must(host, 'lockerctl', ...song)) === 'la la\n');
  const status = await must(host, 'lockerctl', 'status', 'web');
  check('its status says so', status.includes('music'));
  await must(host, ...asKeeper, 'lockerctl', 'detach', 'web', 'music');
  check('it is gone from web', !(await showLockersOf(host, 'web')).includes('music'));

  process.stdout.write('\nThe same by any other client of D-Bus:\n');
  await host.waitForGuest('cache');
  const target = ['org.lockerd1', '/org/lockerd1', 'org.lockerd1.Manager'];
  const stop = ['StopContainer', 'sa{sv}', 'cache', '1', 'wait', 'b', 'true'];
  await must(host, ...asKeeper, 'busctl', '--timeout=150', 'call', ...target, ...stop);
  check('cache was stopped', !(await isActive(host, 'cache')));

  process.stdout.write('\nEach decision and the end of each job are in the journal:\n');
  await host.run('journalctl', ['--sync']);
  const entries = ['-t', 'lockerd', 'LOCKERD_CONTAINER=cache'];
  const journal = await must(host, 'journalctl', '--no-pager', '-o', 'cat', ...entries);
  check(
    'the refused start and the allowed one are there',
    /^start .*denied/m.test(journal) && /^start .*allowed$/m.test(journal),
  );
}

async function showPowerOff(host: Host): Promise<void> {
  say('5. Power off the host: each guest shuts down by the signal its init understands');
  await must(host, 'systemctl', 'start', 'lxc@cache');
  for (const { name } of guests) {
    await host.waitForGuest(name);
    await host.clearMarker(name);
  }
  const before = performance.now();
  await host.powerOff();
  process.stdout.write(
    `\n# systemctl poweroff    (${Math.round(performance.now() - before)} ms)\n`,
  );
  for (const { name, kind } of guests) {
    check(
      `${name} (${kind}) ran its own shutdown to the end`,
      (await host.marker(name)) !== undefined,
    );
  }
  check('what web wrote is there', (await host.readFile('/srv/web/note')) === 'from web\n');
}

/** Leaves the admin in the host; it goes when the shell ends. */
async function openShell(host: Host): Promise<void> {
  if (!host.isOn) {
    say('Booting the host again for the shell');
    await host.boot();
  }
  say('A shell in the host; it is thrown away when you leave. Try: lockerctl list');
  const child = spawn('nsenter', [...host.enterArguments(), '/bin/bash', '-l'], {
    stdio: 'inherit',
  });
  await once(child, 'exit');
}

async function prepare(host: Host): Promise<void> {
  for (const { name, kind, config } of guests) {
    await host.createContainer(name, kind, { config });
    process.stdout.write(`  ${name} (${kind} guest): ${config.join('; ')}\n`);
  }
  await host.writeFile('/etc/fstab', fstab);
  await host.writeFile(settings.file, settings.text);
  for (const name of ['web', 'data']) await host.writeFile(`/srv/${name}/.keep`, '');
  await host.writeFile('/srv/music/song', 'la la\n');
}

async function demonstrate(host: Host): Promise<void> {
  await showBoot(host);
  await showSystemctl(host);
  await showLockers(host);
  await showService(host);
  await showPowerOff(host);
  say('Done: everything was as it should be.');
}

const args = process.argv.slice(2);
if (args.includes('--help') || args.includes('-h')) {
  process.stdout.write(usage);
  process.exit(0);
}
if (args.some((arg) => arg !== '--shell')) {
  process.stderr.write(usage);
  process.exit(2);
}

/** Answers whether everything was as it should be. */
async function run(host: Host): Promise<boolean> {
  try {
    await prepare(host);
    process.stdout.write('Booting it ...\n');
    await host.boot();
    await configurePackage(host);
    await host.run('useradd', ['--no-create-home', 'keeper']);
    await demonstrate(host);
    return true;
  } catch (error) {
    fail(error);
    return false;
  }
}

function fail(error: unknown): void {
  const reason = error instanceof Error ? error.message : String(error);
  process.stderr.write(`\nFAILED: ${reason}\n`);
  process.exitCode = 1;
}

try {
  process.stdout.write('A disposable Debian host with systemd as PID 1; its containers:\n');
  const host = await bootHost({ name: 'try', boot: false });
  try {
    const good = await run(host);
    if (args.includes('--shell') && (good || host.isOn)) await openShell(host);
  } finally {
    await host.close();
  }
} catch (error) {
  fail(error);
}
