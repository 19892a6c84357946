import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { OomWatch } from '../../src/helper/oom.ts';

/** Writes down what it is asked, tells of each group twice, and ends on command. */
const fake = `#!/bin/sh
while read -r verb id directory; do
  echo "$verb $id $directory" >>"$0.log"
  case $directory in
    */gone) echo "$id gone No such file or directory" ;;
    */end) exit 1 ;;
    ?*) printf '%s\\n%s\\nnonsense\\n' "$id" "$id" ;;
  esac
done
echo over >>"$0.log"
`;
const program = path.join(import.meta.dirname, '../../hooks/oom-watch');

let directory: string;
let watch: OomWatch | undefined;
const told: string[] = [];
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-oom-'));
  fs.writeFileSync(path.join(directory, 'fake'), fake, { mode: 0o755 });
  told.length = 0;
});
afterEach(() => {
  watch?.close();
  watch = undefined;
  fs.rmSync(directory, { recursive: true });
});

function start(scanMs: number): OomWatch {
  watch = new OomWatch({
    names: () => ['web', 'my 50%n'],
    tell: (container) => told.push(container),
    ...{ directory, program: path.join(directory, 'fake'), scanMs },
  });
  for (const name of ['web', 'my 50%n']) watch.scanSoon(name);
  return watch;
}

function makeV1(): void {
  fs.writeFileSync(path.join(directory, 'cgroup.event_control'), '');
}

function make(...groups: string[]): void {
  for (const group of groups) fs.mkdirSync(path.join(directory, group), { recursive: true });
}

/** What the program was asked so far, with directories below the hierarchy. */
function asked(): string[] {
  const file = path.join(directory, 'fake.log');
  if (!fs.existsSync(file)) return [];
  const lines = fs.readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => line.replace(`${directory}/`, ''));
}

async function untilAsked(...lines: string[]): Promise<void> {
  await vi.waitFor(
    () => {
      expect(asked()).toEqual(lines);
    },
    { timeout: 10_000 },
  );
}

test('the groups of containers that can have a limit are heard, each container once', async () => {
  makeV1();
  const web = 'system.slice/lxc@web.service';
  make(`${web}/lxc.payload.web/system.slice`, 'system.slice/ssh.service', 'lxc@web.service.d');
  make(`${web}/lxc.pivot/lxc.payload.web-1/init.scope`);
  make('a.slice/a-b.slice/lxc@my\\x2050\\x25n.service/lxc.payload.my 50%n');
  make('user.slice/user@1000.service/lxc@web.service');
  const one = start(1e9);
  const my = 'a.slice/a-b.slice/lxc@my\\x2050\\x25n.service';
  const added = [
    ...[my, `${my}/lxc.payload.my 50%n`],
    ...[web, `${web}/lxc.payload.web`, `${web}/lxc.pivot`, `${web}/lxc.pivot/lxc.payload.web-1`],
  ].map((group, index) => `add ${index + 1} ${group}`);
  await untilAsked(...added);
  await vi.waitFor(() => {
    expect(told).toEqual(['my 50%n', 'web']);
  });
  fs.rmdirSync(path.join(directory, web, 'lxc.payload.web/system.slice'));
  fs.rmdirSync(path.join(directory, web, 'lxc.payload.web'));
  // Only the container is looked for that is named.
  fs.rmdirSync(path.join(directory, my, 'lxc.payload.my 50%n'));
  one.scanSoon('web');
  await untilAsked(...added, 'remove 4 ');
  one.scanSoon('my 50%n');
  await untilAsked(...added, 'remove 4 ', 'remove 2 ');
  one.close();
  await untilAsked(...added, 'remove 4 ', 'remove 2 ', 'over');
});

test('what has failed is tried again, and so is the program, at the next look', async () => {
  makeV1();
  const web = 'system.slice/lxc@web.service';
  make(`${web}/gone`);
  start(300);
  const added = [`add 1 ${web}`, `add 2 ${web}/gone`];
  await untilAsked(...added);
  await untilAsked(...added, `add 3 ${web}/gone`);
  fs.rmdirSync(path.join(directory, web, 'gone'));
  make(`${web}/end`);
  await vi.waitFor(
    () => {
      expect(asked().filter((line) => line.endsWith('/end')).length).toBeGreaterThan(1);
    },
    { timeout: 10_000 },
  );
});

test('nothing is done on cgroup v2, and no program runs without a container', async () => {
  make('system.slice/lxc@web.service');
  start(10);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(asked()).toEqual([]);
  watch?.close();
  fs.rmdirSync(path.join(directory, 'system.slice/lxc@web.service'));
  makeV1();
  fs.writeFileSync(path.join(directory, 'fake'), `#!/bin/sh\necho started >>"$0.log"\n`);
  start(10);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(asked()).toEqual([]);
});

test('a program that is missing is no fault of anybody else', async () => {
  makeV1();
  make('system.slice/lxc@web.service');
  fs.rmSync(path.join(directory, 'fake'));
  start(20);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(told).toEqual([]);
});

test('the program says what it cannot watch', () => {
  make('no group');
  fs.writeFileSync(path.join(directory, 'no group/memory.oom_control'), '');
  const input = `add 1 ${directory}/nothing\nadd 2 ${directory}/no group\nremove 3\n`;
  const { stdout, stderr, status } = spawnSync(program, { input, encoding: 'utf8' });
  expect(stdout).toBe('1 gone No such file or directory\n2 gone No such file or directory\n');
  expect(stderr).toBe('');
  expect(status).toBe(0);
});
