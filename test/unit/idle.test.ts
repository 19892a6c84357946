import { describe, expect, test } from 'vitest';
import type { ServiceConnection } from '../../src/bus/connection.ts';
import { IdleExit } from '../../src/service/idle.ts';
import { FakeClock } from './core-fakes.ts';

const lingerMs = 30_000;

/** A service with so many callers and jobs, and what it said to the bus. */
function served() {
  const clock = new FakeClock();
  const said: string[] = [];
  const state = { busy: 0, whileReleasing: () => undefined as unknown, nextHasName: false };
  let less: () => void = () => undefined;
  const connection: Pick<ServiceConnection, 'sync' | 'releaseName' | 'requestName' | 'log'> = {
    sync: () => Promise.resolve(),
    releaseName: () => {
      said.push('release');
      state.whileReleasing();
      return Promise.resolve();
    },
    requestName: () => {
      said.push('request');
      return state.nextHasName ? Promise.reject(new Error('it has an owner')) : Promise.resolve();
    },
    log: () => said.push('log'),
  };
  const occupation = {
    isIdle: () => state.busy === 0,
    onLess: (look: () => void) => {
      less = look;
    },
  };
  const idle = new IdleExit(connection as ServiceConnection, occupation, clock, lingerMs);
  void idle.ended.then(() => said.push('end'));
  const leave = () => {
    state.busy--;
    less();
  };
  return { clock, said, state, leave };
}

describe('the service', () => {
  test('ends when nobody called for a while', async () => {
    const { clock, said } = served();
    await clock.pass(lingerMs - 1);
    expect(said).toEqual([]);
    await clock.pass(1);
    expect(said).toEqual(['release', 'end']);
  });

  test('stays while somebody is there, and for a while after the last', async () => {
    const { clock, said, state, leave } = served();
    state.busy = 2;
    await clock.pass(10 * lingerMs);
    leave();
    await clock.pass(10 * lingerMs);
    expect(said).toEqual([]);
    leave();
    await clock.pass(lingerMs - 1);
    state.busy++;
    leave();
    await clock.pass(lingerMs - 1);
    expect(said).toEqual([]);
    await clock.pass(1);
    expect(said).toEqual(['release', 'end']);
  });

  test.each([false, true])(
    'stays for who calls in the last moment, also where the next one runs: %s',
    async (nextHasName) => {
      const { clock, said, state, leave } = served();
      Object.assign(state, { nextHasName, whileReleasing: () => (state.busy = 1) });
      await clock.pass(10 * lingerMs);
      expect(said).toEqual(['release', 'request', ...(nextHasName ? ['log'] : [])]);
      state.whileReleasing = () => undefined;
      leave();
      await clock.pass(lingerMs);
      expect(said.slice(-2)).toEqual(['release', 'end']);
    },
  );
});
