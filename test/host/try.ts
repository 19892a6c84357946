// npm run try: shows lockerd's main job on a disposable host with real systemd and real containers.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { bootHost, type GuestKind, type Host } from './host.ts';

const guests: readonly { name: string; kind: GuestKind; config: string[] }[] = [
  {
    name: 'db',
    kind: 'sysvinit',
    config: ['lxc.start.auto = 1', 'lxc.start.order = 10', 'lxc.start.delay = 2'],
  },
  { name: 'web', kind: 'systemd', config: ['lxc.start.auto = 1', 'lxc.start.order = 20'] },
  { name: 'cache', kind: 'busybox', config: ['lxc.group = lab'] },
];

const started = performance.now();

function say(text: string): void {
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
  process.stdout.write(`${seconds} s  ${text}\n`);
}

/** Shows what an admin would type and what comes of it. */
async function show(host: Host, command: string, ...args: string[]): Promise<string> {
  const before = performance.now();
  const { stdout, stderr, exitCode } = await host.run(command, args, { reject: false });
  const ms = Math.round(performance.now() - before);
  const words = [command, ...args].map((word) => (/\s/.test(word) ? `'${word}'` : word));
  process.stdout.write(`\n# ${words.join(' ')}    (${ms} ms, exit status ${exitCode})\n`);
  const output = (stdout + stderr).trimEnd();
  if (output !== '') process.stdout.write(`${output.replaceAll(/^/gm, '  ')}\n`);
  return stdout;
}

/** Fails the whole run when a claim is not true. */
async function check(claim: string, isTrue: () => Promise<boolean>): Promise<void> {
  if (!(await isTrue())) throw new Error(`not so: ${claim}`);
  process.stdout.write(`  ok: ${claim}\n`);
}

async function isActive(host: Host, name: string): Promise<boolean> {
  return (await host.unit(`lxc@${name}`))['ActiveState'] === 'active';
}

async function demonstrate(host: Host): Promise<void> {
  say('The host is up. Three containers were defined before it booted:');
  for (const { name, kind, config } of guests) {
    process.stdout.write(`          ${name} (${kind} guest): ${config.join('; ')}\n`);
  }

  await show(host, 'systemctl', 'list-units', '--no-pager', '--legend=no', '--all', 'lxc@*');
  await check('db and web were started by the boot, in this order, two seconds apart', async () => {
    const since = async (name: string): Promise<number> =>
      Number((await host.unit(`lxc@${name}`))['ActiveEnterTimestampMonotonic']) / 1e6;
    await host.waitFor('web is active', () => isActive(host, 'web'));
    return (await isActive(host, 'db')) && (await since('web')) - (await since('db')) >= 2;
  });
  await check('cache was not started, as its configuration says', async () => {
    return !(await isActive(host, 'cache'));
  });

  say('What the generator wrote for web:');
  await show(host, 'cat', '/run/systemd/generator/lxc@web.service.d/60-container.conf');

  say('Start, look, stop: plain systemctl.');
  await show(host, 'systemctl', 'start', 'lxc@cache');
  await show(host, 'systemctl', 'status', '--no-pager', '--lines=3', 'lxc@cache');

  say('The same over D-Bus, as a program would do it.');
  const manager = [
    'call',
    'org.freedesktop.systemd1',
    '/org/freedesktop/systemd1',
    'org.freedesktop.systemd1.Manager',
  ];
  await show(host, 'busctl', ...manager, 'RestartUnit', 'ss', 'lxc@cache.service', 'replace');
  await host.waitFor('cache is back', () => isActive(host, 'cache'));
  await check('the restarted guest had shut down by itself', async () => {
    return (await host.marker('cache')) !== undefined;
  });
  await host.waitForGuest('cache');

  say('A container that is broken says so and harms no other.');
  await host.writeFile('/var/lib/lxc/old/config', 'lxc.utsname = old\nlxc.network.type = veth\n');
  await show(host, 'systemctl', 'daemon-reload');
  await show(host, 'systemctl', 'start', 'lxc@old');
  await host.run('journalctl', ['--sync']);
  await show(host, 'journalctl', '--no-pager', '--output=cat', '-t', 'refuse-start');
  await check('the others still run', async () => {
    return (await isActive(host, 'db')) && (await isActive(host, 'web'));
  });

  say('Stop: each guest is told to shut down by the signal its init understands.');
  for (const { name } of guests) {
    await host.waitForGuest(name);
    await host.clearMarker(name);
  }
  await show(host, 'systemctl', 'stop', ...guests.map(({ name }) => `lxc@${name}`));
  for (const { name } of guests) {
    await check(`${name} ran its own shutdown to the end`, async () => {
      return (await host.marker(name)) !== undefined;
    });
  }

  say('Reboot the host: autostarted guests shut down, and are back afterwards.');
  await show(host, 'systemctl', 'start', 'lxc-autostart.target');
  for (const name of ['db', 'web']) {
    await host.waitForGuest(name);
    await host.clearMarker(name);
  }
  const before = performance.now();
  await host.reboot();
  process.stdout.write(`\n# systemctl reboot    (${Math.round(performance.now() - before)} ms)\n`);
  for (const name of ['db', 'web']) {
    await check(`${name} shut down by itself`, async () => (await host.marker(name)) !== undefined);
    await host.waitFor(`${name} is active`, () => isActive(host, name));
    await check(`${name} is running again`, () => isActive(host, name));
  }
  say('Done.');
}

/** Leaves the admin in the host; it goes when the shell ends. */
async function openShell(host: Host): Promise<void> {
  say('A shell in the host; it is thrown away when you leave. Try: systemctl status lxc@web');
  const child = spawn('nsenter', [...host.enterArguments(), '/bin/bash', '-l'], {
    stdio: 'inherit',
  });
  await once(child, 'exit');
}

const args = process.argv.slice(2);
if (args.some((arg) => arg !== '--shell')) {
  process.stderr.write('Usage: npm run try [-- --shell]\n');
  process.exit(2);
}

say('Booting a disposable Debian host with systemd as PID 1 ...');
const host = await bootHost({ name: 'try', boot: false });
try {
  for (const { name, kind, config } of guests) await host.createContainer(name, kind, { config });
  await host.boot();
  await demonstrate(host);
  if (args.includes('--shell')) await openShell(host);
} finally {
  await host.close();
}
