import { describe, expect, test } from 'vitest';
import type { UnitStatus } from '../../src/core/ports.ts';
import { deriveState, isUp, runsOutsideUnit } from '../../src/core/container-state.ts';

type Unit = UnitStatus['activeState'];

function state(
  activeState: Unit | undefined,
  lxc?: string,
  broken = false,
  areGuestsReported = true,
): string {
  return deriveState({ broken, unit: activeState && { activeState }, lxc, areGuestsReported });
}

describe('the state of a container', () => {
  test.each<[Unit | undefined, string | undefined, string]>([
    ['inactive', 'STOPPED', 'stopped'],
    ['inactive', undefined, 'stopped'],
    ['activating', 'STOPPED', 'starting'],
    ['activating', 'STARTING', 'starting'],
    // With ready = booted the unit waits for more than LXC does.
    ['activating', 'RUNNING', 'starting'],
    ['activating', 'FROZEN', 'frozen'],
    ['active', 'RUNNING', 'running'],
    ['active', 'THAWED', 'running'],
    ['active', 'FREEZING', 'freezing'],
    ['active', 'FROZEN', 'frozen'],
    ['reloading', 'RUNNING', 'running'],
    // A guest that reboots or powers off by itself.
    ['active', 'STOPPING', 'stopping'],
    ['active', 'STOPPED', 'stopping'],
    ['active', 'STARTING', 'starting'],
    ['active', 'ABORTING', 'stopping'],
    ['deactivating', 'RUNNING', 'stopping'],
    ['deactivating', 'FROZEN', 'stopping'],
    ['deactivating', 'STOPPED', 'stopping'],
    ['failed', 'STOPPED', 'failed'],
    ['failed', undefined, 'failed'],
    // Outside its unit.
    ['inactive', 'RUNNING', 'running'],
    ['inactive', 'STARTING', 'starting'],
    ['inactive', 'STOPPING', 'stopping'],
    ['inactive', 'FROZEN', 'frozen'],
    ['failed', 'RUNNING', 'running'],
    // Without the helper, and without systemd.
    ['active', undefined, 'running'],
    [undefined, 'RUNNING', 'running'],
    [undefined, undefined, 'stopped'],
    ['inactive', 'SOMETHING NEW', 'stopped'],
  ])('unit %s, LXC %s: %s', (unit, lxc, expected) => {
    expect(state(unit, lxc)).toBe(expected);
  });

  test.each<[Unit, 'waiting' | 'unmet', string | undefined, boolean, string]>([
    ['inactive', 'waiting', 'STOPPED', false, 'waiting'],
    ['failed', 'waiting', 'STOPPED', false, 'waiting'],
    ['inactive', 'unmet', 'STOPPED', false, 'unmet'],
    ['inactive', 'unmet', undefined, false, 'unmet'],
    ['failed', 'unmet', 'STOPPED', false, 'unmet'],
    ['failed', 'unmet', 'STOPPED', true, 'broken'],
    ['failed', 'unmet', 'RUNNING', false, 'running'],
    // What is known of a guest, or of the configuration, says more.
    ['inactive', 'waiting', 'RUNNING', false, 'running'],
    ['inactive', 'unmet', 'RUNNING', false, 'running'],
    ['inactive', 'unmet', 'STOPPED', true, 'broken'],
    ['active', 'unmet', 'RUNNING', false, 'running'],
    ['activating', 'waiting', 'STOPPED', false, 'starting'],
  ])('unit %s whose start is %s, LXC %s', (activeState, heldStart, lxc, broken, expected) => {
    const unit = { activeState, heldStart };
    expect(deriveState({ broken, unit, lxc, areGuestsReported: true })).toBe(expected);
  });

  test('a start that ended unmet is not a state while guests are out of sight', () => {
    const unit = { activeState: 'inactive', heldStart: 'unmet' } as const;
    const facts = { broken: false, unit, lxc: undefined, areGuestsReported: false };
    expect(deriveState(facts)).toBe('unknown');
  });

  test('a guest that the unit has just started is waited for', () => {
    const active = {
      broken: false,
      unit: { activeState: 'active' },
      areGuestsReported: true,
    } as const;
    for (const lxc of [undefined, 'STOPPED']) {
      expect(deriveState({ ...active, lxc, guest: 'awaited' })).toBe('starting');
      expect(deriveState({ ...active, lxc, guest: 'never seen' })).toBe('running');
      // Nobody would tell.
      expect(deriveState({ ...active, lxc, guest: 'awaited', areGuestsReported: false })).toBe(
        'running',
      );
    }
    expect(deriveState({ ...active, lxc: 'RUNNING', guest: 'awaited' })).toBe('running');
  });

  test.each<[Unit | undefined, string]>([
    ['active', 'running'],
    ['activating', 'starting'],
    ['deactivating', 'stopping'],
    ['failed', 'failed'],
    // LXC may run it without its unit.
    ['inactive', 'unknown'],
    [undefined, 'unknown'],
  ])('unit %s while nobody tells of guests: %s', (unit, expected) => {
    expect(state(unit, undefined, false, false)).toBe(expected);
    // What was told before all has been is true.
    expect(state('inactive', 'STOPPED', false, false)).toBe('stopped');
  });

  test('a broken definition shows where nothing runs', () => {
    expect(state('inactive', 'STOPPED', true)).toBe('broken');
    expect(state('failed', 'STOPPED', true)).toBe('broken');
    expect(state('inactive', undefined, true, false)).toBe('unknown');
    expect(state('active', 'RUNNING', true)).toBe('running');
    expect(state('inactive', 'RUNNING', true)).toBe('running');
  });

  test('a guest is outside when its unit is down', () => {
    const outside = (activeState: Unit, lxc: string) =>
      runsOutsideUnit({ unit: { activeState }, lxc });
    expect(outside('inactive', 'RUNNING')).toBe(true);
    expect(outside('failed', 'FROZEN')).toBe(true);
    expect(outside('inactive', 'STOPPED')).toBe(false);
    expect(outside('active', 'RUNNING')).toBe(false);
    expect(outside('activating', 'RUNNING')).toBe(false);
  });

  test('up is everything with a guest', () => {
    expect(['stopped', 'failed', 'broken'].map((one) => isUp(one as 'stopped'))).toEqual([
      false,
      false,
      false,
    ]);
    expect(isUp('unknown')).toBe(false);
    expect(isUp('stopping')).toBe(true);
  });
});
