import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { watchFile } from '../../src/cgroup/control-files.ts';
import type { ManagerListener, SystemdManager } from '../../src/systemd/manager.ts';
import { unitPath } from '../../src/systemd/manager.ts';
import { Properties } from '../../src/systemd/properties.ts';
import { UnitFiles } from '../../src/systemd/unit-files.ts';
import { UnitWatch } from '../../src/systemd/unit-watch.ts';
import { settled } from './core-fakes.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockerd-units-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

function put(path: string, text: string): void {
  const file = join(directory, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

interface FakeUnit {
  activeState: string;
  service: Record<string, unknown>;
}

/** systemd as UnitWatch sees it. */
class FakeManager {
  /** Loaded ones, by name. */
  readonly units = new Map<string, FakeUnit>();
  /** The questions that it was asked. */
  asked: string[] = [];
  /** What happens while an answer is on its way. */
  meanwhile: () => void = () => undefined;
  /** How many lists of units fail next. */
  failures = 0;
  /** How many lists of units were asked for. */
  lists = 0;
  #listener: ManagerListener = {};

  listen(listener: ManagerListener): () => void {
    this.#listener = listener;
    return () => undefined;
  }

  get(unit: string, type: string, names: readonly string[]): Promise<Properties> {
    this.asked.push(...names.map((name) => `${unit} ${name}`));
    const { service = {} } = this.units.get(unit) ?? {};
    const all: Record<string, unknown> = { StateChangeTimestamp: 1n, MemoryMax: 7n, ...service };
    expect(['Unit', 'Service']).toContain(type);
    this.meanwhile();
    return Promise.resolve(new Properties(unit, new Map(names.map((name) => [name, all[name]]))));
  }

  getAll(unit: string, type: string, names: readonly string[]): Promise<Properties> {
    this.asked.push(`${unit} loaded`);
    return this.get(unit, type, names);
  }

  listLoaded(patterns: readonly string[]): Promise<unknown> {
    this.lists += 1;
    if (this.failures-- > 0) return Promise.reject(new Error('busy'));
    const isAsked = (name: string): boolean =>
      patterns.some((pattern) => pattern === name || pattern.endsWith('*.service'));
    return Promise.resolve(
      [...this.units]
        .filter(([name]) => isAsked(name))
        .map(([name, { activeState }]) => ({ name, activeState, job: { id: 0, type: '' } })),
    );
  }

  /** A change of a unit, of which systemd tells by a signal. */
  change(unit: string, activeState: string, service: Record<string, unknown> = {}): void {
    this.units.set(unit, { activeState, service });
    this.tell(unit, { ActiveState: activeState, ...service });
  }

  tell(unit: string, values: Record<string, unknown>): void {
    this.#listener.unitChanged?.(unitPath(unit), () => new Map(Object.entries(values)));
  }

  /** systemd has loaded a unit. */
  load(unit: string): void {
    this.#listener.unitNew?.(unit, unitPath(unit));
  }

  queueJob(unit: string): void {
    this.#listener.jobNew?.(unit);
  }

  reload(isNew = false): void {
    this.#listener.reloaded?.(isNew);
  }
}

const running = { Result: 'success', MainPID: 5, ControlGroup: '/web' };

interface Status {
  readonly activeState: string;
  readonly memoryMax: bigint;
  readonly controlGroup: string;
  readonly mainPid: number;
}

function watchAll(manager: FakeManager): UnitWatch<Status> {
  const files = new UnitFiles(/^MemoryMax=/m, directory);
  const wanted = {
    always: ['MemoryMax'],
    whenUsed: ['Result', 'MainPID', 'ControlGroup'],
    unset: { files, values: new Map([['MemoryMax', 99n]]) },
  };
  return new UnitWatch(
    manager as unknown as SystemdManager,
    wanted,
    (_, { activeState, service }) => ({
      activeState,
      memoryMax: service.bigint('MemoryMax'),
      controlGroup: activeState === 'inactive' ? '' : service.string('ControlGroup'),
      mainPid: activeState === 'inactive' ? 0 : service.number('MainPID'),
    }),
    () => undefined,
  );
}

const web = 'lxc@web.service';

describe('a unit that is watched', () => {
  test('is not looked at when it is loaded for a question, and is when it is for a start', async () => {
    const manager = new FakeManager();
    const units = watchAll(manager);
    await units.watch(web, () => undefined);
    manager.lists = 0;
    for (let count = 0; count < 3; count++) manager.load(web);
    await settled();
    expect(manager.lists).toBe(0);
    // Its first change may be told of by nothing else.
    manager.units.set(web, { activeState: 'activating', service: running });
    manager.load(web);
    manager.queueJob(web);
    await settled();
    expect(units.statusOf(web)).toMatchObject({ activeState: 'activating', mainPid: 5 });
    manager.lists = 0;
    // It was not seen to be unloaded.
    manager.units.set(web, { activeState: 'inactive', service: {} });
    manager.load(web);
    await settled();
    expect(units.statusOf(web)).toMatchObject({ activeState: 'inactive' });
  });

  test('is asked once at a start, and nothing at a stop, also when it is unloaded then', async () => {
    const manager = new FakeManager();
    manager.units.set(web, { activeState: 'inactive', service: {} });
    const units = watchAll(manager);
    await units.watch(web, () => undefined);
    manager.asked = [];
    manager.lists = 0;
    // Several signals fall into the reading.
    manager.change(web, 'activating', { ...running, MainPID: 4 });
    manager.change(web, 'activating', running);
    await settled();
    manager.change(web, 'active', running);
    await settled();
    expect(units.statusOf(web)).toMatchObject({ activeState: 'active', memoryMax: 7n, mainPid: 5 });
    // Signals have said all else, also that it is loaded.
    expect(manager.asked).toEqual([`${web} MemoryMax`]);
    expect(manager.lists).toBe(0);
    manager.asked = [];
    manager.change(web, 'deactivating', running);
    manager.units.delete(web);
    // The job is still there when the unit is down.
    manager.tell(web, { ActiveState: 'inactive', Job: [7, '/job/7'] });
    await settled();
    expect(units.statusOf(web)).toMatchObject({ activeState: 'inactive', controlGroup: '' });
    expect(manager.asked).toEqual([]);
  });

  test('shows what a signal said while it was read', async () => {
    const manager = new FakeManager();
    manager.units.set(web, { activeState: 'active', service: running });
    const units = watchAll(manager);
    await units.watch(web, () => undefined);
    manager.meanwhile = () => {
      manager.tell(web, { MainPID: 6 });
    };
    await units.look(web);
    expect(units.statusOf(web)?.mainPid).toBe(6);
  });

  test('is read again when it was down and up during a reading', async () => {
    const manager = new FakeManager();
    manager.units.set(web, { activeState: 'inactive', service: {} });
    const units = watchAll(manager);
    await units.watch(web, () => undefined);
    manager.meanwhile = () => {
      manager.meanwhile = () => undefined;
      // The answers come from the moment when it was down.
      manager.change(web, 'inactive', { Result: 'success', MainPID: 0 });
      queueMicrotask(() => {
        manager.units.set(web, { activeState: 'active', service: running });
        manager.tell(web, { ActiveState: 'active', MainPID: 5 });
      });
    };
    manager.change(web, 'active', { ...running, ControlGroup: '' });
    await settled();
    expect(units.statusOf(web)).toMatchObject({ activeState: 'active', controlGroup: '/web' });
  });

  test('is not asked what no file sets while it is down', async () => {
    put('etc/systemd/system/lxc@.service', '[Service]\nExecStart=/x\n');
    put('run/systemd/generator/lxc@limited.service.d/40-limits.conf', '[Service]\nMemoryMax=7\n');
    const manager = new FakeManager();
    const units = watchAll(manager);
    await Promise.all(
      [web, 'lxc@limited.service'].map((unit) => units.watch(unit, () => undefined)),
    );
    expect(units.statusOf(web)?.memoryMax).toBe(99n);
    expect(units.statusOf('lxc@limited.service')?.memoryMax).toBe(7n);
    expect(manager.asked.filter((question) => question.startsWith(web))).toEqual([]);
  });
});

describe('a reload', () => {
  const names = ['a', 'b', 'c'].map((name) => `lxc@${name}.service`);

  async function watched(manager: FakeManager): Promise<UnitWatch<Status>> {
    for (const unit of names) {
      manager.units.set(unit, { activeState: 'active', service: running });
      put(`run/systemd/generator/${unit}.d/60-container.conf`, '[Unit]\n');
    }
    put('etc/systemd/system/lxc@.service', '[Service]\nExecStart=/x\n');
    const units = watchAll(manager);
    await Promise.all(names.map((unit) => units.watch(unit, () => undefined)));
    manager.asked = [];
    return units;
  }

  async function reload(manager: FakeManager, isNew = false): Promise<Set<string>> {
    manager.reload(isNew);
    for (let round = 0; round < 5; round++) await settled();
    return new Set(manager.asked.map((question) => question.split(' ')[0] ?? ''));
  }

  test('finds what has changed meanwhile, also where the first question has no answer', async () => {
    const manager = new FakeManager();
    const units = await watched(manager);
    manager.units.delete('lxc@a.service');
    manager.failures = 1;
    await reload(manager);
    expect(units.statusOf('lxc@a.service')?.activeState).toBe('inactive');
  });

  test('asks nothing about units whose files say the same, though they are new', async () => {
    const manager = new FakeManager();
    await watched(manager);
    for (const unit of names) put(`run/systemd/generator/${unit}.d/60-container.conf`, '[Unit]\n');
    expect(await reload(manager)).toEqual(new Set());
  });

  test.each([
    ['changed', 'run/systemd/generator/lxc@b.service.d/60-container.conf', [names[1]]],
    ['come', 'etc/systemd/system/lxc@b.service.d/own.conf', [names[1]]],
    ['come for all', 'etc/systemd/system/lxc@.service.d/own.conf', names],
    ['come for all services', 'etc/systemd/system/service.d/own.conf', names],
  ])('reads units again of which files have %s', async (_, path, expected) => {
    const manager = new FakeManager();
    await watched(manager);
    put(path, '[Service]\nMemoryMax=5\n');
    expect(await reload(manager)).toEqual(new Set(expected));
  });

  test('reads units again whose state is another one', async () => {
    const manager = new FakeManager();
    const units = await watched(manager);
    manager.units.delete('lxc@c.service');
    await reload(manager);
    expect(units.statusOf('lxc@c.service')?.activeState).toBe('inactive');
    expect(manager.asked).toEqual([]);
  });

  test('reads everything again when systemd itself is new', async () => {
    const manager = new FakeManager();
    await watched(manager);
    expect(await reload(manager, true)).toEqual(new Set(names));
  });
});

test('a watched file is written, not removed', async () => {
  put('limit', '1');
  let writes = 0;
  const stop = watchFile(join(directory, 'limit'), () => writes++);
  put('limit', '2');
  await sleep(50);
  expect(writes).toBeGreaterThan(0);
  const before = writes;
  rmSync(join(directory, 'limit'));
  await sleep(50);
  expect(writes).toBe(before);
  stop();
});
