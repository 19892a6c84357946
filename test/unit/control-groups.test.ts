import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { KillCounter } from '../../src/cgroup/kill-counter.ts';
import { findGuestMemory } from '../../src/cgroup/find-group.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-groups-'));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(root, { recursive: true });
});

function put(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

/** Each look at the clock finds it so much later, as if all work took long. */
function slowDown(ms: number): void {
  let now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => (now += ms));
}

describe('counting OOM kills', () => {
  const killed = (group: string): void => {
    put(`${group}/memory.oom_control`, 'oom_kill_disable 0\nunder_oom 0\noom_kill 1\n');
  };

  test('looks at a thousand groups, those near the top first', async () => {
    killed('unit');
    for (let n = 0; n < 900; n++) killed(`unit/g${n}`);
    killed('unit/g0/below');
    for (let n = 0; n < 200; n++) mkdirSync(join(root, `unit/g0/below/g${n}`));
    killed('unit/g0/below/g0/below');
    expect(await new KillCounter().count(join(root, 'unit'))).toMatchObject({
      kills: 902n,
      groups: 1000,
    });
  });

  test('rests after a walk that took long, whoever asks', async () => {
    killed('unit');
    killed('other');
    slowDown(1000);
    const counter = new KillCounter();
    expect((await counter.count(join(root, 'unit'))).kills).toBe(1n);
    const next = counter.count(join(root, 'other')).then(() => 'counted');
    expect(await Promise.race([next, sleep(500, 'rests')])).toBe('rests');
  });

  test('lets others have their turn meanwhile', async () => {
    for (let n = 0; n < 50; n++) killed(`unit/g${n}`);
    slowDown(3);
    let turns = 0;
    let next: NodeJS.Immediate;
    const tick = (): void => {
      turns++;
      next = setImmediate(tick);
    };
    next = setImmediate(tick);
    await new KillCounter().count(join(root, 'unit'));
    clearImmediate(next);
    expect(turns).toBeGreaterThan(40);
  });
});

describe('the guest of a unit on cgroup v1', () => {
  /** Which group is taken for the guest's, told by its limit. */
  const found = (): bigint | undefined => findGuestMemory('/unit', root)?.guestLimit();
  const payload = (group: string, limit: number, procs = ''): void => {
    put(`memory/unit/${group}/memory.limit_in_bytes`, `${limit}\n`);
    put(`memory/unit/${group}/cgroup.procs`, procs);
  };

  test('is not looked for in more than 4096 groups, and taken for one that runs', () => {
    payload('lxc.payload.web', 4096);
    for (let n = 0; n < 4000; n++) {
      mkdirSync(join(root, `memory/unit/lxc.payload.web/g${n}`));
    }
    expect(found()).toBeUndefined();
    for (let n = 4000; n < 4200; n++) {
      mkdirSync(join(root, `memory/unit/lxc.payload.web/g${n}`));
    }
    expect(found()).toBe(4096n);
    // One that is known to run is preferred.
    payload('lxc.payload.web-1', 8192, '7\n');
    expect(found()).toBe(8192n);
  });

  test('is not looked for deeper than LXC goes with a few reboots', () => {
    const pivots = (count: number): string => 'lxc.pivot/'.repeat(count);
    payload(`${pivots(16)}lxc.payload.web`, 4096, '7\n');
    expect(found()).toBeUndefined();
    payload(`${pivots(15)}lxc.payload.web`, 8192, '7\n');
    expect(found()).toBe(8192n);
  });
});
