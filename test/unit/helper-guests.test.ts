import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LxcStatus } from '../../src/helper/guests.ts';
import {
  containerInTitle,
  Guests,
  isHostRoot,
  isInit,
  parseProcess,
} from '../../src/helper/guests.ts';
import { groupIn } from '../../src/cgroup/hierarchy.ts';
import { commandSocketOwners } from '../../src/helper/socket-owner.ts';

const socketOwner = path.join(import.meta.dirname, '../../hooks/socket-owner');
const unit = '/system.slice/system-lxc.slice/lxc@web.service';

/** Listens at abstract sockets and takes nobody in. */
const listen = `
  use Socket;
  my @all = map {
    socket my $one, AF_UNIX, SOCK_STREAM, 0 or die;
    bind $one, pack_sockaddr_un("\\0$_") or die $!;
    listen $one, 1;
    $one;
  } @ARGV;
  syswrite STDOUT, "ready";
  sleep 60;
`;

interface FakeProcess {
  readonly parent?: number;
  readonly uid?: number;
  readonly namespaces?: string;
  readonly group?: string;
  readonly flags?: number;
  readonly state?: string;
  readonly started?: number;
  readonly title?: string;
  readonly name?: string;
}

let root: string;
let proc: string;
let cgroup: string;
let children: Map<number, number[]>;
beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-guests-'));
  proc = path.join(root, 'proc');
  cgroup = path.join(root, 'cgroup');
  children = new Map();
  write('cgroup/cgroup.controllers', '');
});
afterEach(() => {
  fs.rmSync(root, { recursive: true });
});

function write(file: string, text: string): void {
  const place = path.join(root, file);
  fs.mkdirSync(path.dirname(place), { recursive: true });
  fs.writeFileSync(place, text);
}

function statOf(pid: number, fake: FakeProcess): string {
  const { name = 'lxc-start', state = 'S', parent = 1, flags = 0x400100, started = pid } = fake;
  const before = [state, parent, 1, 1, 0, -1, flags, ...Array<number>(12).fill(0)];
  return `${pid} (${name}) ${before.join(' ')} ${started} 0 0\n`;
}

/** A process in a control group of cgroup v2. */
function run(pid: number, fake: FakeProcess): void {
  const { parent = 1, uid = 0, namespaces = '', group = '/', title = '' } = fake;
  write(`proc/${pid}/stat`, statOf(pid, fake));
  write(
    `proc/${pid}/status`,
    `Name:\tx\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\nNSpid:\t${pid}${namespaces}\n`,
  );
  write(`proc/${pid}/cgroup`, `0::${group}\n`);
  write(`proc/${pid}/cmdline`, title);
  write(`proc/${pid}/task/${pid}/children`, '');
  const siblings = [...(children.get(parent) ?? []), pid];
  children.set(parent, siblings);
  write(`proc/${parent}/task/${parent}/children`, siblings.join(' '));
  const procs = path.join(cgroup, group, 'cgroup.procs');
  fs.mkdirSync(path.dirname(procs), { recursive: true });
  fs.appendFileSync(procs, `${pid}\n`);
}

function end(pid: number): void {
  fs.rmSync(path.join(proc, String(pid)), { recursive: true });
}

/** A container that runs as its unit. */
function runUnit(): void {
  run(100, { group: `${unit}/lxc.monitor.web` });
  run(101, { parent: 100, namespaces: '\t1', group: `${unit}/lxc.payload.web/init.scope` });
  write(`cgroup${unit}/lxc.payload.web/cgroup.events`, 'populated 1\nfrozen 0\n');
}

function guests(): Guests {
  return new Guests({ proc, cgroup });
}

function look(from: Guests = guests(), name = 'web'): LxcStatus | undefined {
  return from.look([name]).get(name);
}

const stopped = { state: 'STOPPED', leader: 0 };
const running = { state: 'RUNNING', leader: 101 };

describe('the guest of a unit', () => {
  test('is the child of the monitor that is the first of another PID namespace', () => {
    run(99, { parent: 100, group: `${unit}/lxc.monitor.web` });
    run(98, { parent: 100, namespaces: '\t7', group: `${unit}/lxc.payload.web` });
    runUnit();
    expect(look()).toEqual(running);
    expect(look(guests(), 'db')).toEqual(stopped);
  });

  test('is found beside many processes that hooks have left', () => {
    for (let pid = 1000; pid < 1210; pid++) {
      run(pid, { name: 'sleep', group: `${unit}/lockerd${pid % 3}` });
    }
    runUnit();
    expect(look()).toEqual(running);
  });

  test('is found where LXC has put it after a reboot', () => {
    run(100, { group: `${unit}/lxc.pivot/lxc.monitor.web` });
    run(101, { parent: 100, namespaces: '\t1', group: `${unit}/lxc.pivot/lxc.payload.web` });
    expect(look()).toEqual(running);
  });

  test.each<[string, FakeProcess]>([
    ['of a user', { uid: 1000 }],
    ['of another namespace', { namespaces: '\t17' }],
    ['that ends', { flags: 0x4 }],
    ['that has ended', { state: 'Z' }],
  ])('has no monitor %s', (_what, fake) => {
    run(100, { group: `${unit}/lxc.monitor.web`, ...fake });
    run(101, { parent: 100, namespaces: '\t1', group: `${unit}/lxc.payload.web` });
    expect(look()).toEqual(stopped);
  });

  test.each<[string, FakeProcess]>([
    ['in another control group', { group: '/lxc.payload.web' }],
    ['in one that only begins alike', { group: `${unit}x/lxc.payload.web` }],
    ['outside of this cgroup namespace', { group: '/../lxc@web.service/lxc.payload.web' }],
    ['that is first of no namespace', { namespaces: '\t2' }],
    ['of the same namespace', { namespaces: '' }],
    ['that ends', { flags: 0x4 }],
  ])('has no init %s', (_what, fake) => {
    run(100, { group: `${unit}/lxc.monitor.web` });
    const init = { parent: 100, namespaces: '\t1', group: `${unit}/lxc.payload.web` };
    run(101, { ...init, ...fake });
    expect(look()).toEqual({ state: 'STARTING', leader: 0 });
  });

  test('cannot pass a process of its own for the monitor', () => {
    write(`cgroup${unit}/cgroup.procs`, '');
    run(200, { group: `${unit}/lxc.payload.web/lxc.monitor.web` });
    run(201, { parent: 200, namespaces: '\t1', group: `${unit}/lxc.payload.web` });
    expect(look()).toEqual(stopped);
  });

  test('is followed from its start over a reboot to its end', () => {
    const known = guests();
    run(100, { group: `${unit}/lxc.monitor.web` });
    expect(look(known)).toEqual({ state: 'STARTING', leader: 0 });
    const init = { parent: 100, namespaces: '\t1', group: `${unit}/lxc.payload.web` };
    run(101, { ...init, flags: 0x400140 });
    expect(look(known)).toEqual({ state: 'STARTING', leader: 101 });
    write('proc/101/stat', statOf(101, init));
    expect(look(known)).toEqual(running);
    end(101);
    expect(look(known)).toEqual({ state: 'STOPPING', leader: 0 });
    run(102, init);
    expect(look(known)).toEqual({ state: 'RUNNING', leader: 102 });
    // The same number, and another process.
    write('proc/102/stat', statOf(102, { ...init, parent: 1, started: 7000 }));
    expect(look(known)).toEqual({ state: 'STOPPING', leader: 0 });
    end(100);
    end(102);
    expect(look(known)).toEqual(stopped);
  });

  test('is frozen when its group is', () => {
    runUnit();
    const payload = `cgroup${unit}/lxc.payload.web`;
    write(`${payload}/cgroup.freeze`, '1\n');
    expect(look()).toEqual({ state: 'FREEZING', leader: 101 });
    write(`${payload}/cgroup.events`, 'populated 1\nfrozen 1\n');
    expect(look()).toEqual({ state: 'FROZEN', leader: 101 });
  });

  test('is found on cgroup v1 as well', () => {
    fs.rmSync(path.join(cgroup, 'cgroup.controllers'));
    runUnit();
    fs.cpSync(path.join(cgroup, 'system.slice'), path.join(cgroup, 'systemd/system.slice'), {
      recursive: true,
    });
    const line = (text: string): string => `9:name=systemd:${text}\n6:freezer:/lxc.payload.web\n`;
    write('proc/101/cgroup', line(`${unit}/lxc.payload.web`));
    write('cgroup/freezer/lxc.payload.web/freezer.state', 'THAWED\n');
    expect(look()).toEqual(running);
    for (const state of ['FREEZING', 'FROZEN']) {
      write('cgroup/freezer/lxc.payload.web/freezer.state', `${state}\n`);
      expect(look()).toEqual({ state, leader: 101 });
    }
  });

  test('costs no more than so much, however many groups and processes there are', () => {
    runUnit();
    for (let index = 0; index < 3000; index++) {
      fs.mkdirSync(path.join(cgroup, unit, 'a', String(index)), { recursive: true });
    }
    write(`cgroup${unit}/a/cgroup.procs`, '7\n'.repeat(100_000));
    const start = performance.now();
    expect([stopped, running]).toContainEqual(look());
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

describe('a guest outside of its unit', () => {
  const title = '[lxc monitor] /var/lib/lxc web\0';

  function runOutside(group: string, monitor: FakeProcess = {}): void {
    run(300, { group: `${group}/lxc.monitor.web`, title, ...monitor });
    run(301, { parent: 300, namespaces: '\t1', group: `${group}/lxc.payload.web` });
  }

  test.each(['', '/user.slice/user-0.slice/session-1.scope', '/lxc.pivot', '/a/b/c'])(
    'is found in %s',
    (group) => {
      runOutside(group);
      const known = guests();
      expect(known.findOutside('/var/lib/lxc', new Set(['web', 'db']))).toEqual(['web']);
      expect(look(known)).toEqual({ state: 'RUNNING', leader: 301 });
      end(300);
      expect(look(known)).toEqual(stopped);
    },
  );

  test.each<[string, string, FakeProcess]>([
    ['a name that is not listed', '', { title: '[lxc monitor] /var/lib/lxc ../../tmp/x\0' }],
    ['another directory', '', { title: '[lxc monitor] /srv/lxc web\0' }],
    ['no title', '', { title: 'lxc-start\0-n\0web\0' }],
    ['a process of a user', '', { uid: 1000 }],
    ['a process of a guest', '', { namespaces: '\t17' }],
    ['a group of a guest', '/lxc.payload.evil', {}],
  ])('is not believed with %s', (_what, group, fake) => {
    runOutside(group, fake);
    expect(guests().findOutside('/var/lib/lxc', new Set(['web']))).toEqual([]);
  });

  test('is not looked for in groups that root has given away', () => {
    runOutside('/user.slice/user-1000.slice/user@1000.service');
    fs.lchownSync(path.join(cgroup, 'user.slice/user-1000.slice/user@1000.service'), 1000, 1000);
    expect(guests().findOutside('/var/lib/lxc', new Set(['web']))).toEqual([]);
  });

  test('is found by who has begun to listen for it', () => {
    run(300, { group: '/foo/monitor' });
    run(301, { parent: 300, namespaces: '\t1', group: '/foo/container' });
    run(302, { uid: 1000 });
    run(303, { namespaces: '\t5' });
    const known = guests();
    expect([302, 303, 999].map((pid) => known.setOutside('web', pid))).toEqual([
      ...['stranger', 'stranger', 'gone'],
    ]);
    expect(look(known)).toEqual(stopped);
    expect(known.setOutside('web', 300)).toBe('monitor');
    expect(look(known)).toEqual({ state: 'RUNNING', leader: 301 });
  });
});

describe('what the kernel shows', () => {
  test('of a process with any name', () => {
    const process = { pid: 7, parent: 1, started: '7', hasExecuted: true };
    for (const name of ['a', 'a) Z 9 9', ') (', 'a b', '\n']) {
      expect(parseProcess(statOf(7, { name }))).toEqual(process);
    }
    for (const text of ['', '7', '7 (x) S', 'x (x) S 1']) {
      expect(parseProcess(text)).toBeUndefined();
    }
  });

  test('of who it is', () => {
    const status = (uids: string, pids: string): string => `Uid:\t${uids}\nNSpid:\t${pids}\n`;
    expect(isHostRoot(status('0\t0\t0\t0', '7'))).toBe(true);
    expect(isHostRoot(status('0\t0\t0\t0', '7\t1'))).toBe(false);
    expect(isHostRoot(status('1000\t0\t0\t0', '7'))).toBe(false);
    expect(isInit(status('0\t0\t0\t0', '7\t1'))).toBe(true);
    expect(isInit(status('0\t0\t0\t0', '7\t5\t1'))).toBe(true);
    expect(isInit(status('0\t0\t0\t0', '7\t11'))).toBe(false);
    expect(isInit(status('0\t0\t0\t0', '1'))).toBe(false);
  });

  test('of its groups', () => {
    const text = '9:name=systemd:/a:b/c\n4:cpu,freezer:/f\n0::/u\n';
    expect(groupIn(text, 'name=systemd')).toBe('/a:b/c');
    expect(groupIn(text, 'freezer')).toBe('/f');
    expect(groupIn(text, '')).toBe('/u');
    expect(groupIn(text, 'memory')).toBeUndefined();
    expect(groupIn('0::/../x\n', '')).toBeUndefined();
  });

  test('of a title', () => {
    expect(containerInTitle('[lxc monitor] /var/lib/lxc my web', '/var/lib/lxc')).toBe('my web');
    expect(containerInTitle('[lxc monitor] /var/lib/lxc/ web', '/var/lib/lxc')).toBe('web');
    expect(containerInTitle('[lxc monitor] /var/lib/lxc2 web', '/var/lib/lxc')).toBeUndefined();
    expect(containerInTitle('[lxc monitor] /var/lib web', '/var/lib/lxc')).toBeUndefined();
    expect(containerInTitle('/var/lib/lxc web', '/var/lib/lxc')).toBeUndefined();
  });
});

describe('who has a command socket', () => {
  test('is told by the kernel, also where the name is too long and the queue is full', async () => {
    const lxcpath = fs.mkdtempSync(path.join(os.tmpdir(), 'lxc-'));
    const long = 'n'.repeat(150);
    // FNV-1a of "LXCPATH/NAME", as LXC has it; computed once more here.
    const hash = Buffer.from(`${lxcpath}/${long}`).reduce(
      (sum, byte) => BigInt.asUintN(64, (sum ^ BigInt(byte)) * 0x100000001b3n),
      0xcbf29ce484222325n,
    );
    const hashed = `lxc/${hash.toString(16).padStart(16, '0')}/command`;
    const listener = spawn('perl', ['-e', listen, `${lxcpath}/my web/command`, hashed]);
    await once(listener.stdout, 'data');
    const ask = () => commandSocketOwners(lxcpath, ['x', 'my web', long], socketOwner);
    const own = { pid: listener.pid, uid: process.getuid?.() };
    expect([...(await ask())]).toEqual([
      ['my web', own],
      [long, own],
    ]);
    // It takes nobody in.
    let owners = await ask();
    for (let times = 0; times < 10 && owners.size > 0; times++) owners = await ask();
    expect(owners).toEqual(new Map());
    listener.kill();
    fs.rmSync(lxcpath, { recursive: true });
  });

  test('is nobody where the program fails', async () => {
    expect(await commandSocketOwners('/x', ['web'], '/bin/false')).toEqual(new Map());
    expect(await commandSocketOwners('/x', ['web'], '/nonexistent')).toEqual(new Map());
  });

  test('takes nothing for a request that is none', () => {
    const { stdout, status } = spawnSync(socketOwner, {
      input: '\n1\n2 \n3 x\n',
      encoding: 'utf8',
    });
    expect({ stdout, status }).toEqual({ stdout: '2 none\n3 none\n', status: 0 });
  });
});
