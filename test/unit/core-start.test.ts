import { expect, test } from 'vitest';
import { Core, type CorePorts } from '../../src/core/core.ts';
import { defaultLimits } from '../../src/core/user-quota.ts';
import { FakeOutside, settled } from './core-fakes.ts';

/** Starts a service whose helper answers when the test says so. */
function startWithSlowHelper() {
  const outside = new FakeOutside();
  const ports = outside.ports();
  let answer: () => void = () => undefined;
  const watch: CorePorts['helper']['watch'] = (...listeners) =>
    new Promise((resolve) => {
      answer = () => {
        resolve(ports.helper.watch(...listeners));
      };
    });
  const core = new Core({ ...ports, helper: { ...ports.helper, watch } }, outside.clock, {
    ...defaultLimits,
  });
  const progress = { isReady: false };
  void core.start().then(() => (progress.isReady = true));
  return {
    outside,
    core,
    progress,
    answer: () => {
      answer();
    },
  };
}

test('the service is ready when a slow helper has reported the guests', async () => {
  const { outside, core, progress, answer } = startWithSlowHelper();
  await settled();
  await outside.clock.pass(9_000);
  await settled();
  expect(progress.isReady).toBe(false);
  answer();
  outside.unit('web', { activeState: 'inactive' });
  outside.lxc('web', 'STOPPED');
  await settled();
  expect(progress.isReady).toBe(true);
  expect(core.host.container('web')?.state).toBe('stopped');
});

test('a helper that hangs does not hold up the service until the bus gives up on it', async () => {
  const { outside, core, progress } = startWithSlowHelper();
  await settled();
  await outside.clock.pass(11_000);
  await settled();
  expect(progress.isReady).toBe(true);
  expect(core.host.container('web')?.state).toBe('unknown');
});
