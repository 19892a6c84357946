import { describe, expect, test, vi } from 'vitest';
import { DBusError, Variant } from '../../src/bus/values.ts';
import type { BusConnection, CallRequest, Signal } from '../../src/bus/connection.ts';
import { SystemdManager } from '../../src/systemd/manager.ts';
import type { UnitReading } from '../../src/systemd/watched-unit.ts';
import { commonPattern } from '../../src/systemd/common-pattern.ts';
import { UnitWatch } from '../../src/systemd/unit-watch.ts';
import { settled } from './core-fakes.ts';

const unit = 'lxc@web.service';
const path = '/org/freedesktop/systemd1/unit/lxc_40web_2eservice';

/** A bus with nothing but systemd, whose answers are changed from outside. */
class FakeSystemd {
  activeState = 'inactive';
  job: readonly [id: number, type: string] = [0, ''];
  waits: readonly string[] = [];
  /** Other units that are loaded, with their states. */
  others: Readonly<Record<string, string>> = {};
  /** Whether they have jobs that start them. */
  isQueued = false;
  requires: readonly string[] = [];
  /** Status of the unit that waits for what the start has lacked. */
  status = '';
  readonly #handlers = new Map<string, (signal: Signal) => void>();

  readonly bus = {
    subscribe: (match: { member?: string; path?: string }, handler: (signal: Signal) => void) => {
      const kind = match.path === undefined ? (match.member ?? '') : 'manager';
      this.#handlers.set(kind, handler);
      return Promise.resolve(() => Promise.resolve());
    },
    lost: new Promise(() => undefined),
    // eslint-disable-next-line @typescript-eslint/require-await -- throws as a call does
    call: async (request: CallRequest) => this.#answer(request),
  } as unknown as BusConnection;

  #answer({ member, body = [] }: CallRequest): readonly unknown[] {
    switch (member) {
      case 'ListUnitsByPatterns': {
        const names = body[1] as string[];
        const all = { ...this.others, [unit]: this.activeState };
        return [
          Object.entries(all)
            .filter(([name]) => names.includes(name))
            .map(([name, state]) => {
              const [id, type] = name === unit ? this.job : [this.isQueued ? 9 : 0, 'start'];
              return [name, '', 'loaded', state, '', '', '/unit', id, type, '/'];
            }),
        ];
      }
      case 'GetJobBefore':
        if (body[0] !== this.job[0]) {
          throw new DBusError('org.freedesktop.systemd1.NoSuchJob', 'no such job');
        }
        return [this.waits.map((name) => [9, name, 'start', 'running', '/job', '/unit'])];
      case 'Get':
        if (body[1] === 'StateChangeTimestamp') return [new Variant('t', 1n)];
        if (body[1] === 'StatusText') return [new Variant('s', this.status)];
        return [new Variant('as', body[1] === 'Requires' ? this.requires : [])];
      default:
        return [{}];
    }
  }

  signal(kind: string, member: string, ...body: unknown[]): void {
    this.signalOf(path, kind, member, ...body);
  }

  signalOf(from: string, kind: string, member: string, ...body: unknown[]): void {
    const signal = { sender: '', path: from, interface: '', signature: '', member, body };
    this.#handlers.get(kind)?.(signal);
  }

  jobEnds(result: string): void {
    this.job = [0, ''];
    this.signal('manager', 'JobRemoved', 7, '/job/7', unit, result);
    this.signal('PropertiesChanged', 'PropertiesChanged', 'Unit', { Job: new Variant('(uo)', []) });
  }
}

async function watch(systemd: FakeSystemd): Promise<() => UnitReading['heldStart']> {
  const manager = await SystemdManager.connect(systemd.bus);
  let held: UnitReading['heldStart'];
  const units = new UnitWatch(
    manager,
    { always: [], whenUsed: [] },
    (_, { heldStart }) => ({ kind: heldStart?.kind, units: heldStart?.units.join(' ') }),
    () => undefined,
  );
  await units.watch(unit, ({ kind, units: names = '' }) => {
    held = kind && { kind, units: names.split(' ').filter((name) => name !== '') };
  });
  return () => held;
}

/** Whether something is seen to wait for what the start has lacked. */
async function isAwaited(systemd: FakeSystemd): Promise<boolean | undefined> {
  const manager = await SystemdManager.connect(systemd.bus);
  const wanted = { always: [], whenUsed: [] };
  const decode = (_: string, reading: UnitReading) => ({ isAwaited: reading.isAwaited });
  const units = new UnitWatch(manager, wanted, decode, () => undefined);
  await units.watch(unit, () => undefined);
  return units.statusOf(unit)?.isAwaited;
}

test('a queued start names what it waits for, until it begins', async () => {
  const systemd = new FakeSystemd();
  const held = await watch(systemd);
  expect(held()).toBeUndefined();
  systemd.job = [7, 'start'];
  systemd.waits = ['srv-data.mount', 'dev-sdb1.device'];
  const job = new Variant('(uo)', [7, '/job/7']);
  systemd.signal('PropertiesChanged', 'PropertiesChanged', 'Unit', { Job: job });
  await settled();
  // Most starts do not wait, and are about to begin.
  expect(held()).toBeUndefined();
  await vi.waitFor(() => {
    const units = ['dev-sdb1.device', 'srv-data.mount'];
    expect(held()).toEqual({ kind: 'waiting', units });
  }, 5000);
  systemd.activeState = 'activating';
  const state = new Variant('s', 'activating');
  systemd.signal('PropertiesChanged', 'PropertiesChanged', 'Unit', { ActiveState: state });
  await settled();
  expect(held()).toBeUndefined();
});

test('a start that is queued before the unit is announced is seen', async () => {
  const systemd = new FakeSystemd();
  const held = await watch(systemd);
  systemd.job = [7, 'start'];
  systemd.waits = ['srv-data.mount'];
  systemd.signal('manager', 'UnitNew', unit, path);
  systemd.signal('manager', 'JobNew', 7, '/job/7', unit);
  await settled();
  expect(held()).toEqual({ kind: 'waiting', units: ['srv-data.mount'] });
});

test('a queued stop is no start that waits', async () => {
  const systemd = new FakeSystemd();
  systemd.job = [7, 'stop'];
  expect((await watch(systemd))()).toBeUndefined();
});

test('a start that ended for want of what it requires says what is missing, until the next one', async () => {
  const systemd = new FakeSystemd();
  systemd.requires = [
    'system.slice',
    'srv-data.mount',
    'dev-sdb1.device',
    'zfs.service',
    '-.mount',
  ];
  systemd.others = { 'system.slice': 'active', 'zfs.service': 'failed', '-.mount': 'active' };
  const held = await watch(systemd);
  systemd.jobEnds('dependency');
  await settled();
  expect(held()).toEqual({
    kind: 'unmet',
    units: ['dev-sdb1.device', 'srv-data.mount', 'zfs.service'],
  });
  systemd.jobEnds('done');
  await settled();
  expect(held()).toBeUndefined();
});

test.each(['done', 'canceled', 'failed', 'skipped'])(
  'a job that ended with "%s" leaves nothing unmet',
  async (result) => {
    const systemd = new FakeSystemd();
    const held = await watch(systemd);
    systemd.jobEnds(result);
    await settled();
    expect(held()).toBeUndefined();
  },
);

describe('a start whose needs are waited for', () => {
  const late = 'lxc-late@web.service';
  const latePath = '/org/freedesktop/systemd1/unit/lxc_2dlate_40web_2eservice';

  test.each(['inactive', 'failed'])('is unmet, also when it ended long ago: %s', async (state) => {
    const systemd = new FakeSystemd();
    systemd.activeState = state;
    systemd.others = { [late]: 'active' };
    systemd.status = 'dev-sdb1.device srv-data.mount';
    const held = await watch(systemd);
    const unmet = { kind: 'unmet', units: ['dev-sdb1.device', 'srv-data.mount'] };
    expect(held()).toEqual(unmet);
    // The same where nothing is said of the container's own unit.
    systemd.others = {};
    systemd.signalOf(latePath, 'PropertiesChanged', 'PropertiesChanged', 'Unit', {});
    await settled();
    expect(held()).toBeUndefined();
  });

  test('is awaited as soon as the start of what waits for them is queued', async () => {
    const systemd = new FakeSystemd();
    systemd.activeState = 'failed';
    systemd.others = { [late]: 'inactive' };
    expect(await isAwaited(systemd)).toBe(false);
    systemd.isQueued = true;
    expect(await isAwaited(systemd)).toBe(true);
  });

  test('is not before it is known what is missing, nor while the container runs', async () => {
    const systemd = new FakeSystemd();
    systemd.others = { [late]: 'active' };
    expect((await watch(systemd))()).toBeUndefined();
    systemd.status = 'srv-data.mount';
    systemd.activeState = 'active';
    expect((await watch(systemd))()).toBeUndefined();
  });
});

test.each([
  [['lxc@a.service', 'lxc@b.service'], 'lxc@*.service'],
  [['lxc@a.service', 'lxc@aa.service', 'lxc@.service'], 'lxc@*.service'],
  [['aaaa', 'aa'], 'aa*'],
  [['aba', 'aba'], 'aba*'],
  [['x', 'y'], '*'],
])('%j are found with one pattern: %s', (names, pattern) => {
  expect(commonPattern(names)).toBe(pattern);
});
