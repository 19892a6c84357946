import { describe, expect, test } from 'vitest';
import { SystemdMounts } from '../../src/adapters/mount-units.ts';
import type { MountsChange } from '../../src/core/ports.ts';
import type { ManagerListener, SystemdManager } from '../../src/systemd/manager.ts';
import { unitPath } from '../../src/systemd/manager.ts';
import { Properties } from '../../src/systemd/properties.ts';
import { settled } from './core-fakes.ts';

/** systemd's mount units, by name: what is mounted. */
class FakeManager {
  readonly mounted = new Map<string, { What: string; Options: string }>();
  read: string[] = [];
  patterns: (readonly string[])[] = [];
  /** How many questions about a unit fail next. */
  failures = 0;
  #listener: ManagerListener = {};

  listen(listener: ManagerListener): () => void {
    this.#listener = listener;
    return () => undefined;
  }

  listLoaded(patterns: readonly string[]): Promise<unknown> {
    this.patterns.push(patterns);
    const isAsked = (name: string): boolean =>
      patterns.some((pattern) => pattern === name || pattern.includes('*'));
    const names = [...this.mounted.keys()].filter(isAsked);
    return Promise.resolve(names.map((name) => ({ name, activeState: 'active', job: { id: 0 } })));
  }

  get(unit: string): Promise<Properties> {
    this.read.push(unit);
    if (this.failures-- > 0) return Promise.reject(new Error('gone'));
    return Promise.resolve(
      new Properties(unit, new Map(Object.entries(this.mounted.get(unit) ?? {}))),
    );
  }

  mount(locker: string, options = 'rw'): void {
    const unit = `lockers-${locker}.mount`;
    this.mounted.set(unit, { What: '/dev/vg/x', Options: options });
    this.#listener.unitChanged?.(unitPath(unit), () => new Map());
  }

  unmount(locker: string): void {
    const unit = `lockers-${locker}.mount`;
    this.mounted.delete(unit);
    this.#listener.unitChanged?.(unitPath(unit), () => new Map());
  }

  reload(): void {
    this.#listener.reloaded?.(false);
  }
}

describe('mounts below a directory', () => {
  async function watched(): Promise<{ manager: FakeManager; seen: MountsChange[] }> {
    const manager = new FakeManager();
    for (let number = 0; number < 100; number++) manager.mount(`l${number}`);
    const seen: MountsChange[] = [];
    const mounts = new SystemdMounts(manager as unknown as SystemdManager);
    await mounts.watch('/lockers', (now) => seen.push(now));
    manager.read = [];
    manager.patterns = [];
    return { manager, seen };
  }

  test('are read where one has changed, however many there are', async () => {
    const { manager, seen } = await watched();
    manager.mount('l7', 'ro');
    manager.mount('new');
    await settled();
    manager.unmount('l8');
    await settled();
    expect(new Set(manager.read)).toEqual(new Set(['lockers-l7.mount', 'lockers-new.mount']));
    expect(manager.patterns.flat().filter((pattern) => pattern.includes('*'))).toEqual([]);
    expect(seen[0]?.mounted).toHaveLength(100);
    const point = (locker: string, readOnly: boolean) => ({
      path: `/lockers/${locker}`,
      source: '/dev/vg/x',
      readOnly,
    });
    expect(seen.slice(1)).toEqual([
      { mounted: [point('l7', true), point('new', false)], gone: [] },
      { mounted: [], gone: ['/lockers/l8'] },
    ]);
  });

  test('that have not changed are not reported again', async () => {
    const { manager, seen } = await watched();
    manager.mount('l7');
    await settled();
    manager.reload();
    await settled();
    expect(seen).toHaveLength(1);
  });

  test('are all found after a reload, also those of which no signal told', async () => {
    const { manager, seen } = await watched();
    manager.mounted.set('lockers-quiet.mount', { What: 'x', Options: 'rw' });
    manager.mounted.set('lockers-l3.mount', { What: '/dev/vg/x', Options: 'ro' });
    manager.reload();
    await settled();
    expect(seen.at(-1)).toMatchObject({
      mounted: [
        { path: '/lockers/l3', readOnly: true },
        { path: '/lockers/quiet', readOnly: false },
      ],
      gone: [],
    });
  });

  test('are told of as gone when nothing else has changed after a failure', async () => {
    const { manager, seen } = await watched();
    manager.mounted.delete('lockers-l8.mount');
    manager.failures = 1;
    manager.reload();
    await settled();
    expect(seen).toHaveLength(1);
    manager.mount('l7');
    await settled();
    expect(seen.at(-1)?.gone).toEqual(['/lockers/l8']);
  });

  test('are told of when another change falls into their reading', async () => {
    const { manager, seen } = await watched();
    manager.mount('new');
    manager.unmount('l8');
    await Promise.resolve();
    manager.mount('l9', 'ro');
    await settled();
    manager.unmount('new');
    await settled();
    const gone = seen.slice(1).flatMap((change) => change.gone);
    const mounted = seen.slice(1).flatMap((change) => change.mounted.map(({ path }) => path));
    expect(gone).toEqual(['/lockers/l8', '/lockers/new']);
    expect(mounted.sort()).toEqual(['/lockers/l9', '/lockers/new']);
  });
});
