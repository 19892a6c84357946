import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { SystemdUnits } from '../../src/adapters/units.ts';
import type { ManagerListener, SystemdManager } from '../../src/systemd/manager.ts';
import type { BusConnection } from '../../src/bus/connection.ts';
import { DBusError, Variant } from '../../src/bus/values.ts';
import { Systemd } from '../../src/helper/systemd.ts';

const unit = 'lxc@web.service';
const job = '/org/freedesktop/systemd1/job/7';

/** What systemd says; its job has gone, and nobody heard of its end. */
let activeState: string;
let since: bigint;
let isAway: boolean;
let hasJob: boolean;
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'setInterval', 'clearTimeout', 'clearInterval'] });
  activeState = 'inactive';
  since = 5n;
  isAway = false;
  hasJob = false;
});
afterEach(() => {
  vi.useRealTimers();
});

function answer(member: string): readonly unknown[] {
  if (isAway) throw new DBusError('org.freedesktop.DBus.Error.NameHasNoOwner', 'away');
  if (member === 'GetJob') {
    if (!hasJob) throw new DBusError('org.freedesktop.systemd1.NoSuchJob', 'no such job');
    return [job];
  }
  return [member === 'LoadUnit' ? '/unit' : job];
}

/** The service's view of systemd, and who listens to it. */
function units(): { units: SystemdUnits; listener: ManagerListener } {
  let listener: ManagerListener = {};
  const manager: Partial<SystemdManager> = {
    listen: (one) => {
      listener = one;
      return () => true;
    },
    // eslint-disable-next-line @typescript-eslint/require-await -- throws as a call does
    call: async (member) => answer(member),
    cancelJob: () =>
      Promise.reject(new DBusError('org.freedesktop.systemd1.NoSuchJob', 'no such job')),
    listLoaded: () => Promise.resolve([{ name: unit, activeState, path: '/unit' }]),
    get: () => Promise.resolve(since),
    getAll: () =>
      Promise.resolve({
        ...{ Result: 'success', MainPID: 0, MemoryMax: 0n, MemorySwapMax: 0n },
        ControlGroup: '',
      }),
  };
  const adapter = new SystemdUnits(manager as SystemdManager, {
    watchLimits: () => Promise.resolve(() => Promise.resolve()),
  });
  return { units: adapter, listener };
}

/** What was answered so far; undefined for nothing. */
function outcomeOf(promise: Promise<string>): () => string | undefined {
  let outcome: string | undefined;
  void promise.then((result) => (outcome = result));
  return () => outcome;
}

/** Lets time pass, and what follows from it happen. */
async function pass(ms: number): Promise<void> {
  for (const part of [ms, 0]) {
    await vi.advanceTimersByTimeAsync(part);
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}

const never = new AbortController().signal;

test.each([
  ['start', 'active', 'done'],
  ['start', 'inactive', 'failed'],
  ['start', 'failed', 'failed'],
  ['stop', 'inactive', 'done'],
  ['stop', 'failed', 'done'],
  ['stop', 'active', 'lost'],
  ['restart', 'failed', 'failed'],
  ['restart', 'active', 'lost'],
] as const)('a %s job that got lost, of a unit that is %s, is %s', async (verb, state, result) => {
  const { units: adapter, listener } = units();
  await adapter.watch(unit, () => undefined);
  const outcome = outcomeOf(adapter[verb](unit, never));
  await pass(10);
  activeState = 'activating';
  listener.reloaded?.();
  await pass(1000);
  expect(outcome()).toBeUndefined();
  activeState = state;
  await pass(60_000);
  expect(outcome()).toBe(result);
});

test('a restart that got lost is done when its unit is up since then', async () => {
  const { units: adapter } = units();
  activeState = 'active';
  await adapter.watch(unit, () => undefined);
  const outcome = outcomeOf(adapter.restart(unit, never));
  since = 6n;
  await pass(60_000);
  expect(outcome()).toBe('done');
});

test('a job is waited for while systemd has it, and while systemd is away', async () => {
  const { units: adapter, listener } = units();
  hasJob = true;
  const outcome = outcomeOf(adapter.start(unit, never));
  await pass(100_000);
  hasJob = false;
  isAway = true;
  await pass(100_000);
  expect(outcome()).toBeUndefined();
  listener.jobRemoved?.(job, 'dependency');
  await pass(10);
  expect(outcome()).toBe('dependency');
});

test('a job that got lost need not be waited for when it is cancelled', async () => {
  const { units: adapter } = units();
  const abort = new AbortController();
  const outcome = outcomeOf(adapter.start(unit, abort.signal));
  await pass(10);
  abort.abort();
  await pass(10);
  expect(outcome()).toBe('failed');
});

test.each([
  ['start', 'active', 'done'],
  ['start', 'failed', 'failed'],
  ['stop', 'inactive', 'done'],
  ['stop', 'active', 'lost'],
] as const)('the helper: %s, %s, %s', async (verb, state, result) => {
  const bus: Partial<BusConnection> = {
    subscribe: () => Promise.resolve(() => Promise.resolve()),
    lost: new Promise(() => undefined),
    // eslint-disable-next-line @typescript-eslint/require-await -- throws as a call does
    call: async ({ member }) =>
      member === 'Get' ? [new Variant('s', activeState)] : answer(member),
  };
  const systemd = await Systemd.connect(bus as BusConnection);
  const outcome = outcomeOf(systemd[verb](unit, 60_000));
  isAway = true;
  activeState = 'deactivating';
  await pass(6000);
  isAway = false;
  await pass(6000);
  expect(outcome()).toBeUndefined();
  activeState = state;
  await pass(6000);
  expect(outcome()).toBe(result);
});
