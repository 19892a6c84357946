import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Autoballoon } from '../../src/autoballoon/autoballoon.ts';
import type { AutoballoonPorts } from '../../src/autoballoon/autoballoon-ports.ts';
import { whatIsMissing } from '../../src/autoballoon/kernel-memory.ts';
import type { UnitFigures } from '../../src/autoballoon/kernel-memory.ts';
import type { Setting } from '../../src/autoballoon/managed-container.ts';
import type { PressureHandlers } from '../../src/autoballoon/pressure.ts';
import { PressureWatch } from '../../src/autoballoon/pressure.ts';
import { unlimited } from '../../src/model/memory-limit.ts';
import { entriesDroppedId } from '../../src/adapters/journal.ts';
import { messageIds } from '../../src/core/message-ids.ts';
import type { JournalEntry, UnitStatus } from '../../src/core/ports.ts';
import { containerUnit } from '../../src/model/unit-name.ts';

const mib = 2n ** 20n;
const range = { floor: 64n * mib, ceiling: 512n * mib };

/** A host of 1 GiB in memory: what is set is what the kernel has, at once. */
class FakeHost {
  settings: Setting[] = [];
  budget = 896n * mib;
  spare = 896n * mib;
  nowMs = 0;
  ballooning = false;
  full = true;
  /** What else happens when something is set. */
  applied: () => void = () => undefined;
  readonly figures = new Map<string, UnitFigures>();
  readonly sets: string[] = [];
  /** What systemd was told. */
  readonly settled = new Map<string, bigint>();
  readonly takenOff: string[] = [];
  readonly foreign = new Set<string>();
  readonly journal: JournalEntry[] = [];
  readonly #handlers = new Map<string, PressureHandlers>();
  readonly #status = new Map<string, (status: UnitStatus) => void>();
  #reloaded: () => void = () => undefined;

  readonly ports: AutoballoonPorts = {
    settings: () => Promise.resolve(this.settings),
    units: {
      watch: (unit, changed) => {
        this.#status.set(unit, changed);
        if (this.figures.has(`/${unit}`)) void this.report(unit, {});
        return Promise.resolve(() => Promise.resolve());
      },
      onReloaded: (handler) => {
        this.#reloaded = handler;
      },
    },
    memory: {
      unit: (group) => this.figures.get(group),
      supply: () => ({ budget: this.budget, spare: this.spare }),
      isFull: () => this.full,
      reclaim: (group, bytes) => {
        const figures = this.figures.get(group);
        if (figures === undefined || figures.cold < bytes) return Promise.resolve(false);
        const { usage, cold } = figures;
        this.figures.set(group, { ...figures, usage: usage - bytes, cold: cold - bytes });
        this.spare += bytes;
        return Promise.resolve(true);
      },
      isBallooning: () => this.ballooning,
    },
    high: {
      isForeign: (unit) => this.foreign.has(unit),
      apply: (unit, _controlGroup, bytes) => {
        this.sets.push(`${unit} ${bytes / mib}`);
        this.update(unit, { high: bytes });
        this.applied();
        return Promise.resolve();
      },
      settle: (unit, bytes) => {
        this.settled.set(unit, bytes);
        return Promise.resolve();
      },
      takeOff: (units) => {
        this.takenOff.push(...units);
        return Promise.resolve();
      },
    },
    pressure: {
      watch: (file, _trigger, handlers) => {
        this.#handlers.set(file, handlers);
        return () => this.#handlers.delete(file);
      },
    },
    journal: { write: (entry) => this.journal.push(entry) },
    nowMs: () => this.nowMs,
  };

  update(unit: string, changed: Partial<UnitFigures>): void {
    const before = this.figures.get(`/${unit}`);
    if (before !== undefined) this.figures.set(`/${unit}`, { ...before, ...changed });
  }

  /** Lets what was set off come to its end. */
  settle(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, 5));
  }

  report(unit: string, status: Partial<UnitStatus>): Promise<void> {
    this.#status.get(unit)?.({
      ...{ activeState: 'active', result: 'success', stateChangeUsec: 1n },
      ...{ memoryMax: range.ceiling, memorySwapMax: unlimited, controlGroup: `/${unit}` },
      ...status,
    });
    return this.settle();
  }

  async run(name: string, usage: bigint, cold = 0n): Promise<string> {
    const unit = containerUnit(name);
    const figures = { usage, cold, high: unlimited, limit: range.ceiling };
    this.figures.set(`/${unit}`, figures);
    await this.report(unit, {});
    return unit;
  }

  press(unit: string): Promise<void> {
    const file = unit === '' ? '/proc/pressure/memory' : `/sys/fs/cgroup/${unit}/memory.pressure`;
    this.#handlers.get(file)?.fired();
    return this.settle();
  }

  lose(unit: string, why: string): Promise<void> {
    this.#handlers.get(`/sys/fs/cgroup/${unit}/memory.pressure`)?.gone(why);
    return this.settle();
  }

  isWatched(unit: string): boolean {
    return this.#handlers.has(`/sys/fs/cgroup/${unit}/memory.pressure`);
  }

  reload(): Promise<void> {
    this.#reloaded();
    return this.settle();
  }
}

function setting(name: string): Setting {
  return { name, unit: containerUnit(name), autoballoon: range };
}

let host: FakeHost;
let autoballoon: Autoballoon;

async function start(...names: string[]): Promise<void> {
  host = new FakeHost();
  host.settings = names.map(setting);
  autoballoon = new Autoballoon(host.ports);
  autoballoon.start();
  await host.settle();
}

describe('shares', () => {
  test('are what there is, divided by those who run', async () => {
    await start('a', 'b', 'off');
    const a = await host.run('a', 20n * mib);
    const b = await host.run('b', 20n * mib);
    expect(host.sets).toEqual([`${a} 512`, `${b} 384`]);
    expect(host.journal.map(({ fields }) => fields['REASON'])).toEqual(['started', 'started']);
  });

  test('are equal for those that were there before', async () => {
    host = new FakeHost();
    host.settings = ['a', 'b', 'c'].map(setting);
    const units = ['a', 'b', 'c'].map(containerUnit);
    for (const unit of units) {
      const usage = 20n * mib;
      host.figures.set(`/${unit}`, { usage, cold: 0n, high: unlimited, limit: range.ceiling });
    }
    autoballoon = new Autoballoon(host.ports);
    autoballoon.start();
    await host.settle();
    expect(host.sets).toEqual(units.map((unit) => `${unit} 298`));
  });

  test('grow under pressure, once a second, by more and more, up to the ceiling', async () => {
    await start('a', 'b', 'c');
    await host.run('b', 20n * mib);
    await host.run('c', 20n * mib);
    const a = await host.run('a', 20n * mib);
    const first = host.sets.at(-1);
    expect(first).toBe(`${a} 64`);
    const grown: string[] = [];
    for (host.nowMs = 20_000; host.nowMs < 26_000; host.nowMs += 500) {
      host.update(a, { usage: (host.figures.get(`/${a}`)?.high ?? 0n) - mib });
      host.sets.length = 0;
      await host.press(a);
      grown.push(
        ...host.sets.filter((set) => set.startsWith(a)).map((set) => `${host.nowMs} ${set}`),
      );
    }
    expect(grown).toEqual([`20000 ${a} 128`, `21000 ${a} 256`, `22000 ${a} 512`]);
    const sum = [...host.figures.values()].reduce((total, { high }) => total + high, 0n);
    expect(sum).toBeLessThanOrEqual(host.budget);
    for (const [unit, bytes] of host.settled) {
      expect(host.figures.get(`/${unit}`)?.high).toBe(bytes);
    }
  });

  test('stay as they are while there is pressure for another reason', async () => {
    await start('a');
    host.budget = 256n * mib;
    const a = await host.run('a', 20n * mib);
    host.nowMs = 20_000;
    await host.press(a);
    expect(host.sets).toEqual([`${a} 256`]);
  });

  test('come from idle memory, which is taken back first', async () => {
    await start('a', 'b');
    const a = await host.run('a', 400n * mib, 300n * mib);
    const b = await host.run('b', 300n * mib);
    host.spare = 0n;
    host.nowMs = 20_000;
    host.update(b, { usage: 380n * mib });
    await host.press(b);
    expect(host.sets.slice(2)).toEqual([`${a} 378`, `${b} 448`]);
    expect(host.figures.get(`/${a}`)?.usage).toBe(336n * mib);
  });

  test('are not lowered where memory was short in the last ten seconds', async () => {
    await start('a', 'b');
    const a = await host.run('a', 400n * mib, 300n * mib);
    const b = await host.run('b', 300n * mib);
    host.spare = 0n;
    host.nowMs = 20_000;
    await host.press(a);
    host.nowMs = 25_000;
    host.update(b, { usage: 380n * mib });
    await host.press(b);
    expect(host.sets).toHaveLength(2);
    expect(host.journal.at(-1)?.fields['REASON']).toBe('nothing left');
    // Told once, and tried more and more rarely.
    host.nowMs = 25_500;
    await host.press(b);
    host.nowMs = 27_000;
    await host.press(b);
    expect(host.journal).toHaveLength(3);
  });

  test('are asked for at once when a container stops', async () => {
    await start('a', 'b');
    const a = await host.run('a', 400n * mib);
    const b = await host.run('b', 380n * mib);
    host.spare = 0n;
    host.nowMs = 20_000;
    await host.press(a);
    await host.press(b);
    expect(host.journal.at(-1)?.fields['REASON']).toBe('nothing left');
    host.figures.delete(`/${a}`);
    await host.report(a, { activeState: 'inactive', controlGroup: '' });
    host.spare = 400n * mib;
    host.sets.length = 0;
    await host.press(b);
    expect(host.sets).toEqual([`${b} 512`]);
  });

  test('are given up where pressure cannot be watched, unless the container has gone', async () => {
    await start('a', 'b');
    const a = await host.run('a', 20n * mib);
    const b = await host.run('b', 20n * mib);
    host.figures.delete(`/${a}`);
    await host.lose(a, 'No such device');
    expect(host.takenOff).toEqual([]);
    await host.lose(b, 'Too many open files');
    await host.report(b, { memoryMax: 256n * mib });
    expect(host.takenOff).toEqual([b]);
    expect(host.sets).toHaveLength(2);
    expect(host.journal.at(-1)).toMatchObject({
      priority: 4,
      message: expect.stringContaining('Too many open files') as string,
    });
  });

  test('go back to a host whose processes wait for memory, by and by', async () => {
    await start('a');
    const a = await host.run('a', 400n * mib, 300n * mib);
    host.nowMs = 20_000;
    // Of some limit on the host, not of its memory.
    host.full = false;
    await host.press('');
    expect(host.sets).toHaveLength(1);
    host.full = true;
    await host.press('');
    expect(host.sets.slice(1)).toEqual([`${a} 378`]);
    host.nowMs = 21_000;
    host.spare = -100n * mib;
    await host.press('');
    expect(host.sets.slice(2)).toEqual([`${a} 265`]);
    expect(host.spare).toBe(0n);
  });

  test('stay where it is a container that waits, and not the host', async () => {
    await start('a', 'b');
    await host.run('a', 400n * mib, 300n * mib);
    const b = await host.run('b', 20n * mib);
    host.nowMs = 20_000;
    await host.press(b);
    await host.press('');
    expect(host.sets).toHaveLength(2);
  });
});

describe('what somebody else decides', () => {
  test('a lower limit is the ceiling', async () => {
    await start('a');
    const a = await host.run('a', 20n * mib);
    host.nowMs = 20_000;
    host.update(a, { limit: 100n * mib });
    await host.report(a, { memoryMax: 100n * mib });
    expect(host.sets.slice(1)).toEqual([`${a} 100`]);
  });

  test('a balloon under way is waited for', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    try {
      host = new FakeHost();
      host.settings = [setting('a')];
      host.ballooning = true;
      host.settle = () => Promise.resolve();
      autoballoon = new Autoballoon(host.ports);
      autoballoon.start();
      await vi.advanceTimersByTimeAsync(10);
      await host.run('a', 20n * mib);
      await vi.advanceTimersByTimeAsync(10);
      expect(host.sets).toEqual([]);
      host.ballooning = false;
      await vi.advanceTimersByTimeAsync(5000);
      expect(host.sets).toHaveLength(1);
    } finally {
      vi.useRealTimers();
    }
  });

  test('a MemoryHigh= that is set at the same time is not set again', async () => {
    await start('a');
    const unit = containerUnit('a');
    host.applied = () => host.foreign.add(unit);
    await host.run('a', 20n * mib);
    expect(host.sets).toHaveLength(1);
    expect(host.settled.has(unit)).toBe(false);
  });

  test('a foreign MemoryHigh= is left, and told of once', async () => {
    await start('a');
    host.foreign.add(containerUnit('a'));
    const a = await host.run('a', 20n * mib);
    await host.press(a);
    await host.report(a, { memoryMax: 256n * mib });
    expect(host.sets).toEqual([]);
    expect(host.journal.map(({ priority }) => priority)).toEqual([4]);
  });

  test('a setting that is taken back ends it for that container, the last one for all', async () => {
    await start('a', 'b');
    const a = await host.run('a', 20n * mib);
    await host.run('b', 20n * mib);
    host.settings = [{ ...setting('a'), autoballoon: undefined }, setting('b')];
    await host.reload();
    expect(host.takenOff).toEqual([a]);
    expect(host.isWatched(a)).toBe(false);
    host.settings = [];
    await host.reload();
    await expect(autoballoon.ended).resolves.toBeUndefined();
  });

  test('a container that has stopped and started anew starts anew here', async () => {
    await start('a');
    const a = await host.run('a', 20n * mib);
    host.figures.delete(`/${a}`);
    await host.report(a, { activeState: 'inactive', controlGroup: '' });
    expect(host.isWatched(a)).toBe(false);
    await host.run('a', 20n * mib);
    expect(host.isWatched(a)).toBe(true);
    expect(host.sets).toHaveLength(2);
  });
});

describe('the kernel', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'lockerd-autoballoon-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  test('without cgroup v2 is told what to do', () => {
    expect(whatIsMissing(directory)).toContain('systemd.unified_cgroup_hierarchy=1');
    writeFileSync(join(directory, 'cgroup.controllers'), 'memory\n');
    expect(whatIsMissing(directory)).toContain('5.19');
    mkdirSync(join(directory, 'system.slice'));
    writeFileSync(join(directory, 'system.slice/memory.reclaim'), '');
    expect(whatIsMissing(directory)).toBeUndefined();
  });

  test('refuses to watch what is not there', async () => {
    const pressure = new PressureWatch(join(import.meta.dirname, '../../hooks/pressure-watch'));
    const gone = await new Promise<string>((resolve) => {
      pressure.watch(join(directory, 'memory.pressure'), 'some 1 1', {
        fired: () => undefined,
        gone: resolve,
      });
    });
    expect(gone).toBe('No such file or directory');
    pressure.close();
    expect((await pressure.ended).message).toContain('ended (0)');
  });
});

test('the catalog explains every kind of entry', () => {
  const file = join(import.meta.dirname, '../../units/catalog/lockerd.catalog');
  const explained = [...readFileSync(file, 'utf8').matchAll(/^-- ([0-9a-f]{32})$/gm)];
  expect(explained.map(([, id]) => id).sort()).toEqual(
    [...Object.values(messageIds), entriesDroppedId].sort(),
  );
});
