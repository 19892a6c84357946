// The target of a move where root file systems become logical volumes. What the source would say is said by a script.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { expectState, offline } from '../machines/support.ts';
import { bootVm, disks, type VirtualHost } from './vm.ts';

// Emulation is slow: each request is a start of Node, which takes some seconds.
vi.setConfig({ testTimeout: 3_600_000, hookTimeout: 3_600_000 });

/** Says what a file has, step by step, and that it is there; a step that is a text is run by the shell. */
const beSource = `
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
const target = spawn('/usr/lib/lockerd/lockerd-move', ['receive'], { stdio: ['pipe', 'pipe', 'inherit'] });
let [n, seen] = [0, 0];
const waiting = new Map();
createInterface({ input: target.stdout }).on('line', (line) => {
  const answer = JSON.parse(line);
  seen = answer.now;
  waiting.get(answer.n)?.(answer);
});
const ask = (fields) => new Promise((resolve) => {
  waiting.set(++n, resolve);
  target.stdin.write(JSON.stringify({ ...fields, n, seen }) + '\\n');
});
const pings = setInterval(() => { if (seen > 0) ask({ op: 'ping' }); }, 2000);
const env = { ...process.env };
for (const step of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  if (typeof step === 'string') {
    execFileSync('sh', ['-euc', step], { env, stdio: ['ignore', 'ignore', 'inherit'] });
    continue;
  }
  const answer = await ask(step);
  console.log(JSON.stringify({ op: step.op, ...answer }));
  if (answer.error) break;
  if (answer.copy) Object.assign(env, { COPY: answer.copy, ROOT: answer.root });
}
clearInterval(pings);
target.stdin.end();
`;

const id = '0123456789abcdef';
const mebibyte = 1024 * 1024;

const name = 'web';
const sizes = { volumeBytes: 120 * mebibyte, rootBytes: 10 * mebibyte, bytes: 4096, files: 1 };
const empty = { needs: [], idmaps: [], lockers: [], wanted: {}, store: 'thick' };
const hello = { op: 'hello', protocol: 2 };
const check = { op: 'check', id, name, config: 'lxc.uts.name = web\n', ...empty, ...sizes };
const prepare = { op: 'prepare', id, name, ...empty, volumeBytes: sizes.volumeBytes };
const copy = `
  cp -a --remove-destination /var/lib/lxc/model/rootfs/. $ROOT/
  sed 's|^lxc.rootfs.path.*|lxc.rootfs.path = lvm:/dev/sold/web|' /var/lib/lxc/model/config >$COPY/config
  mkdir -p $COPY/rootfs`;
const install = { op: 'install', dropIns: {}, limits: {}, autostart: false, isVolume: true };
const steps = [hello, check, prepare, copy, { op: 'flush' }, install];

let vm: VirtualHost;

beforeAll(async () => {
  vm = await bootVm({ name: 'move' });
  await vm.writeFile('/root/be-source.mjs', beSource);
  // What would be copied by it is copied by the script.
  await vm.writeFile('/usr/local/bin/rsync', '#!/bin/sh\nexit 0\n', 0o755);
  await vm.writeFile(
    '/etc/lockerd/lockerd.conf',
    '[store thick]\ntype = lvm\nvolume-group = raid\n',
  );
  await vm.createContainer('model', 'busybox', { config: offline });
  await vm.shell(
    `vgcreate -q raid /dev/${disks.data}
    systemctl daemon-reload && systemctl start lockerd-stores.socket`,
    { timeoutMs: 300_000 },
  );
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

type Answer = Readonly<Record<string, unknown>>;

async function receive(all: readonly unknown[]): Promise<Answer[]> {
  await vm.writeFile('/root/steps.json', JSON.stringify(all));
  const { stdout } = await vm.shell('node /root/be-source.mjs /root/steps.json', {
    timeoutMs: 600_000,
  });
  return stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Answer);
}

async function tagsOf(volume: string): Promise<string> {
  const { stdout } = await vm.shell(`lvs --noheadings -o lv_tags raid/${volume} || true`);
  return stdout.trim();
}

test('a volume that the group has no room for is refused', async () => {
  const huge = { ...check, volumeBytes: 1e12 };
  const [, answer] = await receive([hello, huge]);
  expect(answer).toMatchObject({ ok: true });
  expect(String(answer?.['problems'])).toContain('store "thick" has');
});

test('a move that ends before its end leaves a volume and no container', async () => {
  const answers = await receive([...steps, { op: 'start' }]);
  expect(answers.map(({ op, error }) => [op, error])).toEqual(
    ['hello', 'check', 'prepare', 'flush', 'install', 'start'].map((op) => [op, undefined]),
  );
  expect(answers[1]?.['warnings']).toContain(
    'its root file system is a volume, and becomes volume /dev/raid/lxc-web there',
  );
  const { stdout } = await vm.shell(
    'ls -d /var/lib/lxc/web || true; findmnt -rn /dev/raid/lxc-web || true',
  );
  expect(stdout).toBe('');
  expect(await tagsOf('lxc-web')).toBe(`lockerd.move=${id}`);
  await expectState(vm, 'lxc@web.service', 'inactive');
});

test('the next one goes on from that, and its container starts from the volume', async () => {
  const mark = 'test -e $ROOT/bin/busybox && echo again >$ROOT/again';
  const goesOn = [hello, check, prepare, mark, copy, { op: 'flush' }, install];
  const answers = await receive([...goesOn, { op: 'flush' }, { op: 'start' }, { op: 'keep' }]);
  expect(answers.at(-1)).toMatchObject({ op: 'keep', ok: true });
  await expectState(vm, 'lxc@web.service', 'active');
  await vm.waitForGuest('web');
  expect(await tagsOf('lxc-web')).toBe('');
  expect(await vm.readFile('/var/lib/lxc/web/config')).toContain(
    'lxc.rootfs.path = lvm:/dev/raid/lxc-web',
  );
  const { stdout } = await vm.shell(
    'lxc-attach -n web -- cat /again; lxc-attach -n web -- grep " / " /proc/mounts; ls -A /var/lib/lxc',
  );
  expect(stdout).toMatch(/^again\n/);
  expect(stdout).toContain('/dev/raid/lxc-web / ext4');
  expect(stdout).not.toContain('.lockerd-move');
  // Nobody takes it for a locker. The bus has not been told of lockerd before.
  const { stdout: lockers } = await vm.shell(
    'systemctl reload dbus.service; lockerctl lockers --quiet',
  );
  expect(lockers).toBe('');
});

test('a volume of somebody else is in the way', async () => {
  await vm.shell('lvcreate -qy -L 8M -n lxc-other raid');
  const [, answer] = await receive([hello, { ...check, name: 'other' }]);
  expect(answer?.['problems']).toEqual(['there is a volume /dev/raid/lxc-other already']);
});
