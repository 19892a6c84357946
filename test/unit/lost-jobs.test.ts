import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { SystemdUnits } from '../../src/adapters/units.ts';
import { SystemdManager } from '../../src/systemd/manager.ts';
import type { BusConnection, CallRequest, Signal } from '../../src/bus/connection.ts';
import { DBusError, Variant } from '../../src/bus/values.ts';
import { forLockers } from '../../src/helper/context.ts';

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

const service: Readonly<Record<string, Variant>> = {
  ...{ Result: new Variant('s', 'success'), ControlGroup: new Variant('s', '') },
  ...{ MainPID: new Variant('u', 0), MemoryMax: new Variant('t', 0n) },
  MemorySwapMax: new Variant('t', 0n),
};

function answer({ member, body = [] }: CallRequest): readonly unknown[] {
  if (isAway) throw new DBusError('org.freedesktop.DBus.Error.NameHasNoOwner', 'away');
  switch (member) {
    case 'GetJob':
      if (!hasJob) throw new DBusError('org.freedesktop.systemd1.NoSuchJob', 'no such job');
      return [job];
    case 'Cancel':
      throw new DBusError('org.freedesktop.systemd1.NoSuchJob', 'no such job');
    case 'ListUnitsByPatterns':
      return [[[unit, '', 'loaded', activeState, '', '', '/unit', 0, '', '/']]];
    case 'Get':
      if (body[1] === 'StateChangeTimestamp') return [new Variant('t', since)];
      return [service[String(body[1])] ?? new Variant('s', activeState)];
    default:
      return [job];
  }
}

/** A bus with nothing but systemd, and what sends signals of its manager. */
function fakeBus(): { bus: BusConnection; emit: (member: string, ...body: unknown[]) => void } {
  let heard: (signal: Signal) => void = () => undefined;
  const bus: Partial<BusConnection> = {
    subscribe: (match, handler) => {
      if (match.interface === 'org.freedesktop.systemd1.Manager') heard = handler;
      return Promise.resolve(() => Promise.resolve());
    },
    lost: new Promise(() => undefined),
    // eslint-disable-next-line @typescript-eslint/require-await -- throws as a call does
    call: async (request) => answer(request),
  };
  const emit = (member: string, ...body: unknown[]): void => {
    heard({ sender: '', path: '', interface: '', signature: '', member, body });
  };
  return { bus: bus as BusConnection, emit };
}

/** The service's view of systemd. */
async function units(): Promise<{ units: SystemdUnits; emit: ReturnType<typeof fakeBus>['emit'] }> {
  const { bus, emit } = fakeBus();
  const adapter = new SystemdUnits(await SystemdManager.connect(bus), {
    watchLimits: () => Promise.resolve(() => Promise.resolve()),
  });
  return { units: adapter, emit };
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
  const { units: adapter, emit } = await units();
  await adapter.watch(unit, () => undefined);
  const outcome = outcomeOf(adapter[verb](unit, never));
  await pass(10);
  activeState = 'activating';
  emit('Reloading', false);
  await pass(1000);
  expect(outcome()).toBeUndefined();
  activeState = state;
  await pass(60_000);
  expect(outcome()).toBe(result);
});

test('a restart that got lost is done when its unit is up since then', async () => {
  const { units: adapter } = await units();
  activeState = 'active';
  await adapter.watch(unit, () => undefined);
  const outcome = outcomeOf(adapter.restart(unit, never));
  since = 6n;
  await pass(60_000);
  expect(outcome()).toBe('done');
});

test('a job is waited for while systemd has it, and while systemd is away', async () => {
  const { units: adapter, emit } = await units();
  hasJob = true;
  const outcome = outcomeOf(adapter.start(unit, never));
  await pass(100_000);
  hasJob = false;
  isAway = true;
  await pass(100_000);
  expect(outcome()).toBeUndefined();
  emit('JobRemoved', 7, job, unit, 'dependency');
  await pass(10);
  expect(outcome()).toBe('dependency');
});

test('a job that got lost need not be waited for when it is cancelled', async () => {
  const { units: adapter } = await units();
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
  const systemd = await SystemdManager.connect(fakeBus().bus, forLockers);
  const outcome = outcomeOf(systemd[verb](unit, { timeoutMs: 60_000 }));
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
