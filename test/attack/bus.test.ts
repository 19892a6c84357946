import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { runAs } from '../machines/service.ts';
import { offline, systemctl } from '../machines/support.ts';
import { bootAttackHost, bystander, perlAs, stranger } from './attack-host.ts';
import { busClient } from './bus-client.ts';

vi.setConfig({ testTimeout: 400_000, hookTimeout: 900_000 });

const results = '/tmp/results';

/** Containers that make the answers of the service long; they are never started. */
const extras = 100;

let host: Host;
let lockerdPid: string;
beforeAll(async () => {
  host = await bootAttackHost('bus', {
    prepare: (made) => {
      for (let index = 1; index <= extras; index++) {
        const directory = `${made.root}/var/lib/lxc/extra${index}`;
        mkdirSync(`${directory}/rootfs`, { recursive: true });
        const rootfs = `lxc.rootfs.path = dir:/var/lib/lxc/extra${index}/rootfs`;
        writeFileSync(`${directory}/config`, [rootfs, ...offline, ''].join('\n'));
      }
      return Promise.resolve();
    },
  });
  await systemctl(host, 'start', 'lockerd.service', 'lxc@web');
  await host.waitForGuest('web');
  lockerdPid = await mainPid();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function mainPid(): Promise<string> {
  return (await host.unit('lockerd'))['MainPID'] ?? '';
}

/** Runs a program of a user's, with the client above it; what it prints is JSON. */
async function clientAs<T>(user: string, program: string, ...args: string[]): Promise<T> {
  const { exitCode, output } = await perlAs(host, user, `${busClient}\n${program}`, ...args);
  expect(exitCode, output).toBe(0);
  return JSON.parse(output) as T;
}

/** Runs an attack of the stranger's, which never ends by itself, while something happens. */
async function during<T>(program: string, args: string[], action: () => Promise<T>): Promise<T> {
  await host.shell(`rm -f ${results}; install -m 666 /dev/null ${results}`);
  const say = `sub say_begun { open my $file, '>>', '${results}' or die; syswrite $file, "begun\\n" }`;
  const attack = `${busClient}\n${say}\n$SIG{ALRM} = 'DEFAULT'; alarm 170;\n${program}`;
  const running = perlAs(host, stranger, attack, ...args);
  try {
    await host.waitFor(
      'the attack is on',
      async () => (await host.readFile(results)).includes('begun'),
      90_000,
    );
    return await action();
  } finally {
    await host.run('pkill', ['-KILL', '-u', stranger], { reject: false });
    await running;
  }
}

interface Measured {
  calls: number;
  /**
   * What lockerd and polkit have computed between a call and its answer, the median in milliseconds.
   * Unlike the time, it does not depend on what else the machine does.
   */
  computed: number;
  /** The median of the times, in milliseconds. */
  median: number;
  longest: number;
  /** The median of the bus itself. */
  bus: number;
  /** How often something went wrong, by the name of the error. */
  errors: Record<string, number>;
}

/** Calls a method now and then, from one connection, and waits for each answer. */
const measure = `
  my ($seconds, $member, @pids) = @ARGV;
  # What all threads of the services have computed, in milliseconds.
  sub computed {
    my $sum = 0;
    for my $stat (map { glob "/proc/$_/task/*/schedstat" } @pids) {
      # A thread may have ended.
      open my $file, '<', $stat or next;
      $sum += (split ' ', <$file> // '0')[0];
    }
    return $sum / 1e6;
  }
  computed() > 0 or die 'nothing is known of the services';
  my %call = (member => $member);
  %call = (%call, signature => 'sa{sv}', body => body(['s', 'evil'], ['a{sv}', []])) if $member eq 'StartContainer';
  my $bus = connect_bus() or die 'no connection';
  my (@times, @computed, @pings, %errors);
  my $end = now() + $seconds * 1000;
  while (now() < $end) {
    my $before = computed();
    my $start = now();
    my $got = call($bus, %call);
    push @times, now() - $start;
    push @computed, computed() - $before;
    my $error = $got ? $got->{error} : 'no answer';
    $errors{$error}++ if $error ne '';
    last if !$got;
    # What the bus itself takes, which nobody can keep from being flooded.
    $start = now();
    call($bus, to => 'org.freedesktop.DBus', path => '/', interface => 'org.freedesktop.DBus', member => 'GetId') or last;
    push @pings, now() - $start;
    pause(30);
  }
  my ($longest) = sort { $b <=> $a } @times;
  printf '{"calls":%d,"computed":%.2f,"median":%.1f,"longest":%.1f,"bus":%.1f,"errors":{%s}}',
    scalar @times, median(@computed), median(@times), $longest, median(@pings),
    join ',', map { qq("$_":$errors{$_}) } sort keys %errors;
`;

async function measured(what: string, seconds = 6, member = 'ListContainers'): Promise<Measured> {
  const polkitPid = (await host.unit('polkit'))['MainPID'] ?? '';
  const args = [String(seconds), member, lockerdPid, polkitPid];
  const result = await clientAs<Measured>(bystander, measure, ...args);
  const { calls, computed, median, longest, bus } = result;
  console.log(
    `${what}: ${member} of a bystander ${calls} times, computed ${computed} ms, median ${median} ms, longest ${longest} ms, bus ${bus} ms`,
  );
  return result;
}

/** What is and what was done on the host, of all that a call could change. */
async function stateOfHost(): Promise<string> {
  const { stdout } = await host.shell(`
    find /etc/lockerd* /etc/systemd /etc/fstab /var/lib/lxc/*/config /lockers /var/lib/lockerd \\
      -printf '%p %y %s %T@ %m %u\\n' 2>/dev/null | sort
    cut -d' ' -f3- /proc/self/mountinfo | sort
    for name in web evil mapped; do
      systemctl show lxc@$name -p ActiveState -p InvocationID -p MainPID -p MemoryMax -p NRestarts -p FreezerState
    done
    lxc-info -n web -sH
    systemctl list-units --plain --no-legend --state=active 'lxc@*' '*.mount' | awk '{print $1, $3, $4}'`);
  return stdout;
}

/** Walks over all objects but those of extra containers, and calls all there is with odd values. */
const walk = `
  my $bus = connect_bus() or die 'no connection';
  my (%results, @silent, @odd);
  my $calls = 0;
  sub ask {
    my ($key, %call) = @_;
    my $got;
    for (1 .. 20) {
      $calls++;
      pause(900) if $calls % 80 == 0;
      $got = call($bus, limit => 30_000, %call);
      last unless $got and $got->{error} =~ /LimitsExceeded/ and text($got) =~ /slow down/;
      pause(1000);
    }
    if (!$got) { push @silent, $key; $bus = connect_bus() or die; return { error => 'silent', body => '' } }
    my $result = $got->{error} eq '' ? 'ok' : $got->{error};
    $results{$key}{$result}++;
    push @odd, $key if $got->{error} ne '' and text($got) =~ /[\\x00-\\x1f\\x7f]/;
    return $got;
  }
  my @names = ('web', 'evil', 'data', '', '../x', "web\\e[31m\\n", 'x' x 300, '/org/lockerd1/container/web');
  my @paths = ('/org/lockerd1', '/org/lockerd1/container/web', '/nonsense', '/');
  my @options = ([], [['interactive', 'b', 1]], [['wait', 'b', 1], ['timeout-usec', 't', 1000]],
    [['force', 'b', 1]], [['persist', 'b', 1], ['read-only', 'b', 1]], [['request-id', 's', 'x']],
    [['__proto__', 's', 'x']], [['swap', 't', 5], ['force', 'b', 1]], [['force', 's', 'yes']]);
  my %plain = (t => [1 << 62, 0, 16 << 20], u => [7], b => [1], v => [['s', 'x']]);
  sub walk {
    my ($path) = @_;
    my $xml = text(ask('Introspect', path => $path, interface => 'org.freedesktop.DBus.Introspectable', member => 'Introspect'));
    while ($xml =~ m{<interface name="([^"]+)">(.*?)</interface>}gs) {
      my ($interface, $inner) = ($1, $2);
      while ($inner =~ m{<method name="([^"]+)"(?:/>|>(.*?)</method>)}gs) {
        my ($member, $arguments) = ($1, $2 // '');
        my @types;
        for ($arguments =~ m{<arg ([^>]*)>}g) { push @types, /type="([^"]+)"/ unless /direction="out"/ }
        my $signature = join '', @types;
        my @all = ([]);
        for my $type (@types) {
          my $values = $type eq 'a{sv}' ? \\@options : $type eq 's' ? \\@names : $type eq 'o' ? \\@paths : $plain{$type};
          # The objects have the same methods with one name less, and those get all names.
          $values = [@$values[0 .. 1]] if @all >= 8 and $type eq 's';
          # Each option has been given to methods with fewer arguments.
          $values = [@$values[0 .. 2]] if @all >= 16 and $type eq 'a{sv}';
          @all = map { my $before = $_; map { [@$before, [$type, $_]] } @$values } @all;
        }
        my %call = (path => $path, interface => $interface, member => $member);
        my $key = "$interface.$member";
        ask($key, %call, signature => $signature, body => body(@$_), flags => $calls % 2 ? 4 : 0) for @all;
        # Not what it takes: other types, and a text that says that it is longer than the body.
        ask("$key!", %call, signature => 'sss', body => body(map { ['s', $_] } qw(web data x)));
        ask("$key!", %call, signature => 'v', body => body(['v', ['s', 'web']]));
        ask("$key!", %call, signature => '') if $signature ne '';
      }
      while ($inner =~ m{<property name="([^"]+)"}g) {
        my $property = $1;
        my %call = (path => $path, interface => 'org.freedesktop.DBus.Properties');
        my @both = (['s', $interface], ['s', $property]);
        ask('Get', %call, member => 'Get', signature => 'ss', body => body(@both));
        ask('Set', %call, member => 'Set', signature => 'ssv', body => body(@both, ['v', $_])) for ['s', 'x'], ['b', 1], ['t', 1];
      }
    }
    my @children = $xml =~ m{<node name="([^"]+)"\\s*/>}g;
    walk($path eq '/' ? "/$_" : "$path/$_") for grep { !/^extra/ } @children;
  }
  walk('/');
  my $texts = sub { join ',', map { qq("$_") } @_ };
  printf '{"calls":%d,"silent":[%s],"odd":[%s],"results":{%s}}', $calls, $texts->(@silent), $texts->(@odd),
    join ',', map { my $of = $results{$_}; qq("$_":{) . join(',', map { qq("$_":$of->{$_}) } sort keys %$of) . '}' } sort keys %results;
`;

/** What anybody may call: it tells and changes nothing. */
const free =
  /^(Introspect|Get|org\.freedesktop\.DBus\.(Introspectable|Peer|ObjectManager)\.\w+|org\.freedesktop\.DBus\.Properties\.(Get|GetAll)|org\.lockerd1\.(?:Manager|Container|Locker)\.(List\w+|Get\w+|Describe\w*|Look\w*))$/;

test('nothing that a stranger can call does anything, and all of it is answered', async () => {
  const before = await stateOfHost();
  const walked = await clientAs<{
    calls: number;
    silent: string[];
    odd: string[];
    results: Record<string, Record<string, number>>;
  }>(stranger, walk);
  console.log(`${walked.calls} calls of ${Object.keys(walked.results).length} kinds`);
  expect(walked.silent).toEqual([]);
  expect(walked.odd).toEqual([]);
  const { results: answers } = walked;
  const done = Object.keys(answers).filter((key) => answers[key]?.['ok'] !== undefined);
  expect(done.filter((key) => !free.test(key))).toEqual([]);
  expect(done).toContain('org.lockerd1.Manager.GetPermissions');
  for (const verb of ['Start', 'Stop', 'Reboot', 'Freeze', 'Thaw', 'Balloon', 'MountLocker']) {
    const refused = answers[`org.lockerd1.Container.${verb}`] ?? {};
    expect(Object.keys(refused).join(), verb).toMatch(/AccessDenied|InteractiveAuthorization/);
  }
  // Root may set how much lockerd logs.
  expect(Object.keys(answers['Set'] ?? {}).sort()).toEqual([
    'org.freedesktop.DBus.Error.AccessDenied',
    'org.freedesktop.DBus.Error.PropertyReadOnly',
  ]);
  expect(await stateOfHost()).toBe(before);
  expect(await mainPid()).toBe(lockerdPid);
}, 700_000);

/**
 * Sends one kind of call as fast as it is answered, always some at a time. More calls at a time, or
 * such that want no answer, flood the bus itself, which serves its connections by turns.
 */
const flood = `
  my ($kind, $atATime) = @ARGV;
  my $bytes = $kind eq 'small' ? 65_000 : 1_040_000;
  my %call = $kind eq 'managed'
    ? (interface => 'org.freedesktop.DBus.ObjectManager', member => 'GetManagedObjects')
    : (member => 'StartContainer', signature => 'sa{sv}',
      body => body(['s', 'web'], ['a{sv}', [map { [sprintf('o%07d', $_), 'b', 1] } 1 .. $bytes / 24]]));
  for (1 .. 2) {
    next if fork;
    my $bus = connect_bus() or die;
    send_call($bus, %call) for 1 .. $atATime;
    while (receive($bus, 100_000)) { send_call($bus, %call) or last }
    exit;
  }
  say_begun();
  1 while wait > 0;
`;

test.each([
  ['calls of 64 KiB', 'small', '15'],
  ['calls of 1 MiB', 'large', '15'],
  ['questions for all objects', 'managed', '30'],
])('a flood of %s holds up nobody else', async (what, kind, atATime) => {
  const quiet = await measured('quiet');
  const flooded = await during(flood, [kind, atATime], () => measured(`flood of ${what}`, 8));
  expect(flooded.errors).toEqual({});
  // Without bounds it is 120 times as much and more, with them about ten times.
  expect(flooded.computed / quiet.computed).toBeLessThan(60);
  expect(await mainPid()).toBe(lockerdPid);
});

/** Connects, asks for everything and leaves, as often as it can. */
const leave = `
  my ($count) = @ARGV;
  my $all = { interface => 'org.freedesktop.DBus.ObjectManager', member => 'GetManagedObjects' };
  for (1 .. 4) {
    next if fork;
    for (1 .. $count / 4) {
      my $bus = connect_bus() or (pause(50), next);
      send_call($bus, %$all);
      # Before it is known who calls, while the answer is made, or when it is on the way.
      pause($_ % 8);
      close $bus->{socket};
      # Not more often than one user is answered.
      pause(40);
    }
    exit;
  }
  say_begun();
  1 while wait > 0;
  open my $file, '>>', '${results}' or die;
  syswrite $file, "left\\n";
  sleep 160;
`;

/** Asks for everything several times before it reads the first answer. */
const burst = `
  my ($count) = @ARGV;
  my $bus = connect_bus() or die 'no connection';
  my %waiting;
  $waiting{send_call($bus, interface => 'org.freedesktop.DBus.ObjectManager', member => 'GetManagedObjects')} = 1
    for 1 .. $count;
  my ($answered, $failed) = (0, 0);
  while (%waiting and my $got = receive($bus, 30_000)) {
    delete $waiting{$got->{reply}} or next;
    $got->{error} eq '' ? $answered++ : $failed++;
  }
  printf '{"answered":%d,"failed":%d}', $answered, $failed;
`;

test('callers that leave leave nothing behind', async () => {
  await during(leave, ['2000'], async () => {
    expect((await measured('while callers leave', 20)).errors).toEqual({});
    await host.waitFor(
      'the last one has left',
      async () => (await host.readFile(results)).includes('left'),
      120_000,
    );
  });
  expect((await measured('afterwards')).errors).toEqual({});
  expect(await clientAs(bystander, burst, '50')).toEqual({ answered: 50, failed: 0 });
  expect(await mainPid()).toBe(lockerdPid);
});

/** Is refused as often as it may be, and asks for what it may do without waiting for the answer. */
const refusals = `
  for my $kind (0 .. 3) {
    next if fork;
    while (1) {
      my $bus = connect_bus() or (pause(50), next);
      if ($kind % 2) {
        send_call($bus, member => 'GetPermissions', signature => 'o', body => body(['o', '/org/lockerd1/container/web'])) for 1 .. 10;
        pause(5);
      } else {
        my $body = body(['s', 'evil'], ['a{sv}', []]);
        for (1 .. 20) { call($bus, member => 'StartContainer', signature => 'sa{sv}', body => $body) or last }
      }
      close $bus->{socket};
      # Else it is the bus that is flooded, by those who come and go.
      pause(20);
    }
  }
  say_begun();
  1 while wait > 0;
`;

test('a flood of refusals costs the journal nothing of what was done', async () => {
  await host.run('journalctl', ['--sync']);
  const rounds = 3;
  const since = (await host.shell('date +@%s')).stdout.trim();
  await during(refusals, [], async () => {
    // The burst that each user has.
    await host.shell('sleep 6');
    for (let round = 0; round < rounds; round++) {
      for (const verb of ['stop', 'start']) {
        const { exitCode, output } = await runAs(host, 'root', 'lockerctl', verb, 'web');
        expect(exitCode, output).toBe(0);
      }
    }
  });
  const lines = async () => {
    await host.run('journalctl', ['--sync']);
    const args = ['-t', 'lockerd', `--since=${since}`, '--output=cat'];
    return (await host.run('journalctl', args)).stdout.split('\n');
  };
  const of = (all: string[], pattern: RegExp) => all.filter((line) => pattern.test(line)).length;
  const told = await lines();
  for (const verb of ['stop', 'start']) {
    expect(of(told, new RegExp(`^${verb} "web" for uid 0: allowed$`)), verb).toBe(rounds);
    expect(of(told, new RegExp(`${verb}.*"web".*: done$`)), verb).toBe(rounds);
  }
  const refused = of(told, /^start "evil" for uid \d+: denied/);
  console.log(`${told.length} entries, ${refused} of them refusals`);
  expect(refused).toBeGreaterThan(20);
});

/** Makes polkit be asked as often as it may. */
const checks = `
  my ($member) = @ARGV;
  my %call = $member eq 'GetPermissions'
    ? (member => $member, signature => 'o', body => body(['o', '/org/lockerd1/container/web']))
    : (member => $member, signature => 'sa{sv}', body => body(['s', 'web'], ['a{sv}', []]));
  for (1 .. 8) {
    next if fork;
    my $bus = connect_bus() or exit;
    if (!fork) { 1 while sysread $bus->{socket}, my $unused, 1 << 20; exit }
    while (send_call($bus, %call)) { pause(20) }
    exit;
  }
  say_begun();
  1 while wait > 0;
`;

test.each([
  ['starts of what runs', 'StartContainer'],
  ['questions for permissions', 'GetPermissions'],
])('a flood of %s keeps nobody else from polkit', async (what, member) => {
  const denied = /AccessDenied|InteractiveAuthorizationRequired/;
  const quiet = await measured('quiet', 6, 'StartContainer');
  const flooded = await during(checks, [member], async () => {
    await host.shell('sleep 3');
    return measured(`flood of ${what}`, 12, 'StartContainer');
  });
  expect(Object.keys(flooded.errors).join()).toMatch(denied);
  expect(Object.keys(flooded.errors)).toHaveLength(1);
  // With one line for the checks of all users it is 45 times as much.
  expect(flooded.computed / quiet.computed).toBeLessThan(12);
  expect(await mainPid()).toBe(lockerdPid);
});
