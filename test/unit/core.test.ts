import { beforeEach, describe, expect, test } from 'vitest';
import type { Core } from '../../src/core/core.ts';
import { LockerdError } from '../../src/model/errors.ts';
import type { Job } from '../../src/core/job-queue.ts';
import { messageIds } from '../../src/core/message-ids.ts';
import type { ActionDetails, Decision } from '../../src/core/ports.ts';
import type { Request } from '../../src/core/request.ts';
import { emptyDetails } from '../../src/core/request-plan.ts';
import {
  caller,
  codeOf,
  definition,
  definitions,
  FakeOutside,
  noLimit,
  options,
  settled,
} from './core-fakes.ts';

let outside: FakeOutside;
let core: Core;
beforeEach(async () => {
  outside = new FakeOutside();
  core = outside.core();
  await core.start();
});

function verb(name: 'start' | 'stop' | 'reboot' | 'freeze' | 'thaw', container = 'web'): Request {
  return { verb: name, container };
}
const start = verb('start');
const stop = verb('stop');

/** A prompt that somebody answers when the test says so. */
function prompt(): { answer: (decision: Decision) => void } {
  let answer: (decision: Decision) => void = () => undefined;
  outside.decide = ({ interactive }) =>
    interactive ? new Promise((resolve) => (answer = resolve)) : 'challenge';
  return {
    answer: (decision) => {
      answer(decision);
    },
  };
}
const patient = () => caller({ interactive: true });

async function started(request: Request = start, values = {}, who = caller()): Promise<Job> {
  return core.request(who, request, options(values));
}

function outcome(job: Job): [string, string | undefined] {
  return [job.result, job.error?.code];
}

describe('start', () => {
  test('is done when the unit is up and its state is told', async () => {
    const job = await started();
    expect(job).toMatchObject({ state: 'running', phase: 'starting', verb: 'start', uid: 1000 });
    expect(core.jobs.of('web')).toBe(job);
    const states: string[] = [];
    core.host.changed.add(() => states.push(core.host.container('web')?.state ?? ''));
    core.jobs.ended.add(() => states.push('ended'));
    outside.unit('web', { activeState: 'activating' });
    outside.answer('start lxc@web.service', 'done');
    await settled();
    expect(job.state).toBe('running');
    outside.run('web', 321);
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
    expect(states.at(-1)).toBe('ended');
    expect(states.at(-2)).toBe('running');
    expect(core.host.container('web')?.leader).toBe(321);
    expect(core.jobs.of('web')).toBeUndefined();
  });

  test('says how the unit failed and where to look', async () => {
    const waiting = started(start, { wait: true });
    await settled();
    outside.unit('web', { activeState: 'failed', result: 'exit-code' });
    outside.answer('start lxc@web.service', 'failed');
    await expect(waiting).rejects.toMatchObject({
      code: 'Failed',
      message: `container "web" did not start (exit-code); see: journalctl -u lxc@web`,
    });
  });

  test('that lacked something says so, and that it begins again by itself', async () => {
    const job = await started(start);
    const failed = { activeState: 'failed', result: 'exit-code', isAwaited: true } as const;
    outside.unit('web', failed);
    outside.answer('start lxc@web.service', 'failed');
    await settled();
    // What waits for it has not said yet what is missing.
    expect(job.state).toBe('running');
    outside.unit('web', {
      ...failed,
      heldStart: 'unmet',
      heldBy: 'dev-sdb1.device srv-data.mount',
    });
    await settled();
    expect(outcome(job)).toEqual(['failed', 'StartsLater']);
    expect(job.error?.message).toBe(
      'container "web" did not start: the host lacks dev-sdb1.device, srv-data.mount; ' +
        'the container starts by itself when the host has that, unless it is stopped before',
    );
  });

  test('that lacked something says so also where systemd tells of the failure first', async () => {
    const job = await started(start);
    const failed = { activeState: 'failed', result: 'exit-code' } as const;
    outside.unit('web', failed);
    outside.seen = () => {
      outside.unit('web', {
        ...failed,
        isAwaited: true,
        heldStart: 'unmet',
        heldBy: 'dev-a.device',
      });
    };
    outside.answer('start lxc@web.service', 'failed');
    await settled();
    expect(outcome(job)).toEqual(['failed', 'StartsLater']);
  });

  test('that lacked something says so also while the guest before it is still known', async () => {
    const job = await started(start);
    outside.lxc('web', 'STOPPING', 321);
    outside.unit('web', {
      ...{ activeState: 'failed', result: 'exit-code', isAwaited: true },
      ...{ heldStart: 'unmet', heldBy: 'dev-a.device' },
    });
    outside.answer('start lxc@web.service', 'failed');
    await settled();
    expect(job.state).toBe('running');
    outside.lxc('web', 'STOPPED');
    await settled();
    expect(outcome(job)).toEqual(['failed', 'StartsLater']);
  });

  test('that lacked nothing, or for which nothing waits, has just failed', async () => {
    const looked = await started(start);
    outside.unit('web', { activeState: 'failed', result: 'exit-code', isAwaited: true });
    outside.answer('start lxc@web.service', 'failed');
    await settled();
    outside.unit('web', { activeState: 'failed', result: 'exit-code', isAwaited: false });
    await settled();
    expect(outcome(looked)).toEqual(['failed', 'Failed']);
    const alone = await started(verb('start', 'db'));
    outside.unit('db', { activeState: 'inactive', heldStart: 'unmet', heldBy: 'zfs.service' });
    outside.answer('start lxc@db.service', 'dependency');
    await settled();
    expect(outcome(alone)).toEqual(['failed', 'Failed']);
  });

  test('of what runs is an error, of a broken container too', async () => {
    outside.run('web');
    expect(await codeOf(started())).toBe('AlreadyRunning');
    outside.definitions = definitions(definition('bad', { problem: 'config:3: no such key' }));
    outside.reload();
    await settled();
    expect(core.host.container('bad')?.state).toBe('broken');
    expect(await codeOf(started(verb('start', 'bad')))).toBe('Failed');
    expect(outside.done).toEqual([]);
  });

  test('that is cancelled is undone', async () => {
    const job = await started();
    outside.unit('web', { activeState: 'activating' });
    const signal = outside.signalOf('start lxc@web.service');
    await core.cancel(caller(), job, options());
    expect(signal?.aborted).toBe(true);
    outside.answer('start lxc@web.service', 'canceled');
    await settled();
    outside.unit('web', { activeState: 'inactive' });
    outside.answer('stop lxc@web.service', 'done');
    await settled();
    expect(outcome(job)).toEqual(['cancelled', 'Cancelled']);
    expect(await codeOf(core.cancel(caller(), job, options()))).toBe('Failed');
  });

  test('that takes too long is undone and says so', async () => {
    const waiting = codeOf(started(start, { wait: true, 'timeout-usec': 3_000_000n }));
    await outside.clock.pass(2_999);
    expect(outside.done).toEqual(['start lxc@web.service']);
    await outside.clock.pass(2);
    outside.fail('start lxc@web.service', new Error('aborted'));
    await settled();
    outside.answer('stop lxc@web.service', 'done');
    await settled();
    expect(await waiting).toBe('TimedOut');
    expect(core.jobs.all.map(({ result }) => result)).toEqual(['timeout']);
  });

  test('whose end systemd never tells does not block the container for ever', async () => {
    const job = await started();
    await core.cancel(caller(), job, options());
    await outside.clock.pass(59_000);
    expect(job.state).toBe('running');
    await outside.clock.pass(2_000);
    expect(outcome(job)).toEqual(['cancelled', 'Cancelled']);
    expect(core.jobs.of('web')).toBeUndefined();
  });
});

describe('stop', () => {
  test('is done when the unit is down', async () => {
    outside.run('web');
    const job = await started(stop);
    outside.answer('stop lxc@web.service', 'done');
    outside.stop('web');
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
    expect(await codeOf(started(stop))).toBe('NotRunning');
  });

  test('with force kills when systemd has begun to stop the unit', async () => {
    outside.run('web');
    const job = await started(stop, { force: true });
    await settled();
    expect(outside.done).toEqual(['stop lxc@web.service']);
    outside.unit('web', { activeState: 'deactivating' });
    await settled();
    expect(outside.done).toEqual(['stop lxc@web.service', 'kill lxc@web.service all 9']);
    outside.stop('web');
    outside.answer('stop lxc@web.service', 'done');
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
    expect(outside.checks.at(-1)).toMatchObject({
      action: 'org.lockerd1.stop-force',
      details: { force: 'true', verb: 'stop' },
    });
  });

  test('with force thaws first', async () => {
    outside.run('web');
    outside.lxc('web', 'FROZEN', 100);
    await started(stop, { force: true });
    await settled();
    expect(outside.done).toEqual(['thaw web']);
    outside.answer('thaw web');
    await settled();
    expect(outside.done).toEqual(['thaw web', 'stop lxc@web.service']);
  });

  test('ends a start that hangs', async () => {
    const hanging = await started();
    outside.unit('web', { activeState: 'activating' });
    const job = await started(stop);
    expect(job.state).toBe('waiting');
    expect(core.jobs.of('web')).toBe(job);
    outside.answer('start lxc@web.service', 'canceled');
    await settled();
    expect(outcome(hanging)).toEqual(['cancelled', 'Cancelled']);
    expect(outside.done).toEqual(['start lxc@web.service', 'stop lxc@web.service']);
    outside.stop('web');
    outside.answer('stop lxc@web.service', 'done');
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
  });

  test('with force ends a stop that hangs; without it, it is in the way', async () => {
    outside.run('web');
    const hanging = await started(stop);
    outside.unit('web', { activeState: 'deactivating' });
    expect(await codeOf(started(stop))).toBe('JobConflict');
    const forced = await started(stop, { force: true });
    outside.answer('stop lxc@web.service', 'canceled');
    await settled();
    expect(hanging.result).toBe('cancelled');
    expect(forced.phase).toBe('killing');
    outside.stop('web');
    outside.answer('stop lxc@web.service', 'done');
    await settled();
    expect(outcome(forced)).toEqual(['done', undefined]);
  });

  test('waits for all that its predecessors have under way', async () => {
    outside.run('web');
    await started({ verb: 'mount-locker', container: 'web', locker: 'data' });
    expect(await codeOf(started(stop))).toBe('JobConflict');
    const first = await started(stop, { force: true });
    const second = await started(stop, { force: true });
    await settled();
    expect(first.result).toBe('cancelled');
    expect(second.state).toBe('waiting');
    expect(outside.done).toEqual(['attach ["web","data",false,false]']);
    outside.answer('attach ["web","data",false,false]', { changed: true });
    await settled();
    expect(second.state).toBe('running');
    expect(outside.done.at(-1)).toBe('stop lxc@web.service');
  });

  test('cannot be called off once it is under way', async () => {
    outside.run('web');
    const job = await started(stop);
    expect(job.isCancelable).toBe(false);
    expect(await codeOf(core.cancel(caller(), job, options()))).toBe('Failed');
    expect(job.state).toBe('running');
  });
});

describe('while nobody tells of guests', () => {
  const problem = 'the helper of lockerd cannot be reached; see "systemctl status"';

  test('systemd says what runs, and the rest is unknown', () => {
    outside.run('web', 77);
    outside.lxc('web', 'FROZEN', 77);
    outside.heard?.(problem);
    expect(core.host.container('web')).toMatchObject({ state: 'running', leader: 0 });
    expect(core.host.container('db')).toMatchObject({ state: 'unknown', leader: 0 });
    expect(core.host.helperProblem).toBe(problem);
    // Once in the journal.
    outside.heard?.(problem);
    const told = outside.journal.filter(({ message }) => message.endsWith(problem));
    expect(told).toHaveLength(1);
    outside.lxc('web', 'FROZEN', 77);
    outside.heard?.(undefined);
    expect(core.host.container('web')).toMatchObject({ state: 'frozen', leader: 77 });
    expect(core.host.container('db')).toMatchObject({ state: 'stopped' });
    expect(core.host.helperProblem).toBe('');
  });

  test('a container is started, stopped, and not rebooted blindly', async () => {
    outside.heard?.(problem);
    const job = await started(verb('start', 'db'));
    outside.unit('db', { activeState: 'active' });
    outside.answer('start lxc@db.service', 'done');
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
    const reboot = await started(verb('reboot', 'db'));
    await settled();
    expect(reboot.error?.message).toContain(problem);
    const stopping = await started(verb('stop', 'db'));
    outside.unit('db', { activeState: 'inactive' });
    outside.answer('stop lxc@db.service', 'done');
    await settled();
    expect(outcome(stopping)).toEqual(['done', undefined]);
  });
});

test('who keeps LXC from starting a container is told when it does not start', async () => {
  outside.lxc('web', 'STOPPED', 0, { pid: 4321, uid: 1000 });
  const who = 'process 4321 of uid 1000 has';
  expect(core.host.container('web')?.obstacle).toContain(who);
  const job = await started();
  outside.unit('web', { activeState: 'failed', result: 'protocol' });
  outside.answer('start lxc@web.service', 'failed');
  await settled();
  expect(job.error?.message).toContain(who);
  outside.lxc('web', 'STOPPED');
  expect(core.host.container('web')?.obstacle).toBe('');
});

test('a container that has come is not stopping because it is told of later', () => {
  outside.lxc('web', 'STOPPED');
  const states: string[] = [];
  core.host.changed.add(() => states.push(core.host.container('web')?.state ?? ''));
  outside.unit('web', { activeState: 'activating' });
  outside.lxc('web', 'STOPPED');
  outside.unit('web', { activeState: 'active' });
  outside.lxc('web', 'RUNNING', 7);
  // A guest that reboots.
  outside.lxc('web', 'STOPPED');
  expect([...new Set(states)]).toEqual(['starting', 'running', 'stopping']);
});

describe('a start that has not begun', () => {
  test('waits for what is not its own, and since when that is known', () => {
    const own = 'var-locker\\x2dmappings-web.mount run-lockerd-slots-web.mount';
    outside.unit('web', { heldStart: 'waiting', heldBy: own });
    expect(core.host.container('web')).toMatchObject({ state: 'stopped', waitsFor: [] });
    outside.unit('web', { heldStart: 'waiting', heldBy: `${own} srv-data.mount` });
    expect(core.host.container('web')).toMatchObject({
      state: 'waiting',
      waitsFor: ['srv-data.mount'],
    });
    // The clock's time: the unit has not changed.
    expect(core.host.container('web')?.stateChangeUsec).toBe(1_000_000n);
    outside.unit('web', { heldStart: 'unmet', heldBy: 'srv-data.mount' });
    expect(core.host.container('web')).toMatchObject({
      state: 'unmet',
      waitsFor: ['srv-data.mount'],
    });
    outside.run('web');
    expect(core.host.container('web')).toMatchObject({ state: 'running', waitsFor: [] });
  });

  test('is told unmet also where nothing is known to be missing', () => {
    outside.unit('web', { heldStart: 'unmet', heldBy: '' });
    expect(core.host.container('web')).toMatchObject({ state: 'unmet', waitsFor: [] });
  });
});

describe('a container outside its unit', () => {
  test('runs, but is not stopped by a unit that does not run it', async () => {
    outside.lxc('web', 'RUNNING', 77);
    expect(core.host.container('web')).toMatchObject({ state: 'running', isOutsideUnit: true });
    await expect(started(stop)).rejects.toMatchObject({
      code: 'Failed',
      message:
        'container "web" runs outside its unit lxc@web.service; ' +
        'to start it there, first stop it with: lxc-stop -n web',
    });
    expect(await codeOf(started(verb('reboot')))).toBe('Failed');
    // A unit that tries and fails takes nothing away from it.
    outside.unit('web', { activeState: 'activating' });
    outside.unit('web', { activeState: 'failed', result: 'exit-code' });
    expect(core.host.container('web')).toMatchObject({ state: 'running', leader: 77 });
  });

  test.each([['unit'], ['LXC']])(
    'and one whose start was broken off is not mistaken for it, when the %s tells first',
    (first) => {
      const tellUnit = () => {
        outside.unit('web', { activeState: 'activating' });
      };
      if (first === 'unit') tellUnit();
      outside.lxc('web', 'STARTING', 0);
      if (first === 'LXC') tellUnit();
      outside.unit('web', { activeState: 'failed', result: 'signal' });
      expect(core.host.container('web')).toMatchObject({ state: 'failed', isOutsideUnit: false });
    },
  );

  test('and one whose monitor was killed is not mistaken for it', () => {
    outside.run('web', 88);
    outside.unit('web', { activeState: 'failed', result: 'signal' });
    expect(core.host.container('web')).toMatchObject({ state: 'failed', leader: 0 });
  });
});

describe('reboot', () => {
  test('is done when another guest runs', async () => {
    outside.run('web', 100);
    const job = await started(verb('reboot'));
    expect(outside.done).toEqual(['kill lxc@web.service main 2']);
    outside.lxc('web', 'STOPPING');
    outside.lxc('web', 'STARTING', 200);
    await settled();
    expect(job.state).toBe('running');
    outside.lxc('web', 'RUNNING', 200);
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
  });

  test('of a deaf guest times out', async () => {
    outside.run('web', 100);
    const job = await started(verb('reboot'));
    await outside.clock.pass(89_000);
    expect(job.state).toBe('running');
    await outside.clock.pass(2_000);
    expect(outcome(job)).toEqual(['timeout', 'TimedOut']);
  });

  test('of a guest that shuts down fails', async () => {
    outside.run('web', 100);
    const job = await started(verb('reboot'));
    outside.stop('web');
    await settled();
    expect(outcome(job)).toEqual(['failed', 'Failed']);
    expect(job.error?.message).toContain('shut down instead of rebooting');
  });

  test('with force restarts the unit', async () => {
    outside.run('web', 100);
    const job = await started(verb('reboot'), { force: true });
    outside.answer('restart lxc@web.service', 'done');
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
  });
});

describe('the other verbs', () => {
  test('freeze and thaw', async () => {
    expect(await codeOf(started(verb('freeze')))).toBe('NotRunning');
    outside.run('web');
    expect(await codeOf(started(verb('thaw')))).toBe('NotFrozen');
    const job = await started(verb('freeze'));
    outside.answer('freeze web');
    await settled();
    // The reply must not come before the property.
    expect(job.state).toBe('running');
    outside.lxc('web', 'FROZEN', 100);
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
    expect(await codeOf(started(verb('reboot')))).toBe('NotRunning');
    const thaw = await started(verb('thaw'));
    outside.answer('thaw web');
    outside.lxc('web', 'THAWED', 100);
    await settled();
    expect(outcome(thaw)).toEqual(['done', undefined]);
    expect(outside.checks.at(-1)).toMatchObject({
      action: 'org.lockerd1.freeze',
      details: { verb: 'thaw' },
    });
  });

  test('balloon tells polkit the direction and the caller the progress', async () => {
    outside.run('web');
    outside.unit('web', { memoryMax: 4096n * 1000n });
    const limit = (bytes: bigint): Request => ({ verb: 'balloon', container: 'web', limit: bytes });
    expect(await codeOf(started(limit(0n)))).toBe('InvalidArgs');
    const job = await started(limit(5_000n));
    expect(outside.checks.at(-1)?.details).toEqual({
      ...emptyDetails,
      container: 'web',
      unit: 'lxc@web.service',
      verb: 'balloon',
      'memory-limit': '5000',
      'memory-current': '4096000',
      'memory-direction': 'shrink',
    } satisfies ActionDetails);
    expect(job).toMatchObject({ phase: 'reclaiming', progress: 0.5, isCancelable: true });
    outside.answer('balloon web 5000 false false', { warnings: ['careful'] });
    await settled();
    expect(job.state).toBe('running');
    // systemd keeps whole pages.
    outside.unit('web', { memoryMax: 4096n });
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
    expect(job).toMatchObject({ progress: 1, warnings: ['careful'] });
    await started(limit(noLimit));
    expect(outside.checks.at(-1)?.details).toMatchObject({
      'memory-limit': 'max',
      'memory-current': '4096',
      'memory-direction': 'grow',
    });
  });

  test('set-limits tells polkit of each limit, and is done or not as the helper says', async () => {
    outside.run('web');
    const limits = { 'cpu-quota': '1500000', 'io-read-bytes': '8:0=max', tasks: '500' } as const;
    const request: Request = { verb: 'set-limits', container: 'web', limits };
    const job = await started(request, { persist: true });
    expect(outside.checks.at(-1)).toMatchObject({
      action: 'org.lockerd1.set-limits',
      details: {
        ...emptyDetails,
        container: 'web',
        unit: 'lxc@web.service',
        verb: 'set-limits',
        persist: 'true',
        limits: 'cpu-quota io-read-bytes tasks',
        ...limits,
      },
    });
    const question = `set-limits web ${JSON.stringify(limits)} true`;
    outside.answer(question, { warnings: ['careful'] });
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
    expect(job).toMatchObject({ warnings: ['careful'], isCancelable: false });
    const second = await started({ ...request, limits: { tasks: 'max' } });
    outside.fail('set-limits web {"tasks":"max"} false', new LockerdError('Failed', 'no'));
    await settled();
    expect(outcome(second)).toEqual(['failed', 'Failed']);
  });

  test('set-limits needs a container that runs, or persist', async () => {
    const request: Request = { verb: 'set-limits', container: 'web', limits: { tasks: '50' } };
    await expect(started(request)).rejects.toMatchObject({ code: 'NotRunning' });
    await started(request, { persist: true });
  });

  test('balloon limits swap as well, waits for it and tells how long the guest stood still', async () => {
    outside.run('web');
    outside.unit('web', { memoryMax: 8192n });
    const request: Request = { verb: 'balloon', container: 'web', limit: 8192n };
    const job = await started(request, { swap: 5000n });
    expect(outside.checks.at(-1)?.details).toMatchObject({
      'memory-direction': 'same',
      'swap-limit': '5000',
    });
    outside.answer('balloon web 8192 false false 5000', { warnings: [], stallUsec: 1500n });
    await settled();
    expect(job.state).toBe('running');
    outside.unit('web', { memorySwapMax: 4096n });
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
    expect(job.stallUsec).toBe(1500n);
    expect(outside.looks).toEqual(['lxc@web.service']);
    expect(outside.journal.at(-1)?.fields).toMatchObject({ VERB: 'balloon', STALL_USEC: '1500' });
    const stop: Request = { verb: 'stop', container: 'web' };
    expect(await codeOf(started(stop, { swap: 5000n }))).toBe('InvalidArgs');
  });

  test('whether the boot starts it is what the next look at the definitions says', async () => {
    const set = (autostart: boolean): Request => ({
      verb: 'set-autostart',
      container: 'web',
      autostart,
    });
    const job = await started(set(true));
    expect(outside.checks.at(-1)).toMatchObject({
      action: 'org.lockerd1.set-autostart',
      details: { container: 'web', verb: 'set-autostart', autostart: 'yes' },
    });
    // systemd tells of its reload when it likes.
    outside.definitions = definitions(
      definition('web', { autostart: true, autostartReasons: ['setting'] }),
    );
    outside.answer('set-autostart web true', { changed: true, warnings: ['careful'] });
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
    expect(job.warnings).toEqual(['careful']);
    expect(core.host.container('web')?.definition.autostart).toBe(true);

    const off = await started(set(false));
    outside.definitions = definitions(
      definition('web', { autostart: true, autostartReasons: ['needed'], neededBy: ['app'] }),
    );
    outside.answer('set-autostart web false', { changed: true, warnings: [] });
    await settled();
    expect(outcome(off)).toEqual(['done', undefined]);
    expect(off.warnings).toEqual([
      'container "web" starts at boot all the same, as "app" starts then and needs or wants it; ' +
        'to change that, disable that one as well, or take the name out of its settings',
    ]);

    const broken = await started(set(true));
    outside.definitions = definitions(
      definition('web', { autostart: true, autostartReasons: ['setting'], problem: 'x' }),
    );
    outside.answer('set-autostart web true', { changed: true, warnings: [] });
    await settled();
    expect(broken.warnings).toEqual([expect.stringContaining('is broken') as string]);

    const other = await started(set(false));
    outside.answer('set-autostart web false', { changed: false, warnings: [] });
    await settled();
    expect(other.warnings).toEqual([
      'container "web" starts at boot all the same; see: lockerctl status web',
    ]);
  });

  test("the helper's refusals are the caller's answer, its accidents are not", async () => {
    outside.run('web');
    const mount: Request = { verb: 'mount-locker', container: 'web', locker: 'data' };
    const what = 'attach ["web","data",true,false]';
    const refused = codeOf(started(mount, { wait: true, 'read-only': true }));
    await settled();
    expect(outside.checks.at(-1)?.details).toMatchObject({ locker: 'data', mode: 'ro' });
    outside.fail(what, new LockerdError('LockerBusy', 'locker "data" is busy'));
    expect(await refused).toBe('LockerBusy');
    const broken = started(mount, { wait: true, 'read-only': true });
    await settled();
    outside.fail(what, new Error('ENOENT: /root/secret'));
    const error = await broken.catch((thrown: unknown) => thrown as LockerdError);
    expect(error).toMatchObject({ code: 'Failed' });
    expect((error as LockerdError).message).not.toContain('secret');
    expect(outside.journal.map(({ message }) => message).join()).toContain('/root/secret');
  });

  test('lockers', async () => {
    outside.mount('/lockers/data', { source: '/dev/vg/data' });
    expect(core.host.locker('data')).toMatchObject({ isMounted: true, source: '/dev/vg/data' });
    const mount: Request = { verb: 'mount-locker', container: 'web', locker: 'data' };
    const unmount: Request = { ...mount, verb: 'unmount-locker' };
    expect(await codeOf(started(mount))).toBe('NotRunning');
    outside.run('web');
    expect(await codeOf(started(unmount))).toBe('NotMounted');
    expect(await codeOf(started({ ...mount, locker: '../x' }))).toBe('NoSuchLocker');
    const job = await started(mount);
    outside.answer('attach ["web","data",false,false]', { changed: true });
    await settled();
    expect(job.state).toBe('running');
    outside.mount('/var/locker-mappings/web/data', { readOnly: true });
    outside.mount('/var/locker-mappings/web/data/deep');
    outside.mount('/var/locker-mappings/webber/data');
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
    expect(core.host.container('web')?.attachments).toEqual([{ locker: 'data', readOnly: true }]);
    expect(core.host.locker('data')?.attachedTo).toEqual([{ container: 'web', readOnly: true }]);
    expect(await codeOf(started(mount))).toBe('AlreadyMounted');
    expect(await codeOf(started(mount, { 'read-only': true }))).toBe('AlreadyMounted');
    expect(await codeOf(started(mount, { persist: true }))).toBe('AlreadyMounted');
    const lasting = await started(mount, { persist: true, 'read-only': true });
    await settled();
    outside.answer('attach ["web","data",true,true]', { changed: true });
    await settled();
    expect(outcome(lasting)).toEqual(['done', undefined]);
    const away = await started(unmount, { force: true, persist: true });
    expect(outside.checks.at(-1)).toMatchObject({
      action: 'org.lockerd1.unmount-locker-force',
      details: { mode: 'ro', persist: 'true' },
    });
    outside.answer('detach ["web","data",true,true]', { changed: true, lazy: true });
    outside.umount('/var/locker-mappings/web/data');
    await settled();
    expect(outcome(away)).toEqual(['done', undefined]);
    expect(away.warnings).toEqual([
      'locker "data" is out of sight in container "web", but what used it there goes on using it ' +
        'until it lets go',
    ]);
    expect(await codeOf(started(unmount))).toBe('NotMounted');
    const forgotten = await started(unmount, { persist: true });
    await settled();
    outside.answer('detach ["web","data",false,true]', { changed: true, lazy: false });
    await settled();
    expect(outcome(forgotten)).toEqual(['done', undefined]);
  });
});

describe('authorization', () => {
  test.each<[Decision, string]>([
    ['no', 'AccessDenied'],
    ['challenge', 'InteractiveAuthorizationRequired'],
    ['dismissed', 'AuthorizationDismissed'],
  ])('%s changes nothing', async (decision, code) => {
    outside.decide = () => decision;
    expect(await codeOf(started())).toBe(code);
    expect(outside.done).toEqual([]);
    expect(core.jobs.all).toEqual([]);
  });

  test('somebody is asked only when the caller wants it', async () => {
    const { answer } = prompt();
    expect(await codeOf(started())).toBe('InteractiveAuthorizationRequired');
    const byOption = started(start, { interactive: true });
    await settled();
    answer('yes');
    await byOption;
    const byFlag = started(verb('start', 'db'), {}, patient());
    await settled();
    answer('dismissed');
    expect(await codeOf(byFlag)).toBe('AuthorizationDismissed');
    expect(outside.done).toEqual(['start lxc@web.service']);
  });

  test('the quota tells that somebody is asked, and when nobody is any more', async () => {
    const { answer } = prompt();
    let freed = 0;
    core.quota.freed.add(() => freed++);
    expect(core.quota.isUnused).toBe(true);
    const call = started(start, {}, patient());
    await settled();
    expect([core.quota.isUnused, freed]).toEqual([false, 0]);
    answer('dismissed');
    expect(await codeOf(call)).toBe('AuthorizationDismissed');
    expect(core.quota.isUnused).toBe(true);
    expect(freed).toBeGreaterThan(0);
  });

  test('who may not do a thing does not learn why it would make no sense', async () => {
    outside.decide = () => 'no';
    expect(await codeOf(started(stop))).toBe('AccessDenied');
    outside.decide = () => 'challenge';
    expect(await codeOf(started(stop))).toBe('InteractiveAuthorizationRequired');
    // And nobody types a password for what makes no sense.
    expect(await codeOf(started(stop, {}, patient()))).toBe('NotRunning');
    expect(outside.checks.filter(({ interactive }) => interactive)).toEqual([]);
    expect(await codeOf(started(verb('start', 'no such')))).toBe('NoSuchContainer');
  });

  test('without an authority nothing goes, also for root, unless the admin says so', async () => {
    outside.decide = () => {
      throw new LockerdError('AuthorityUnavailable', 'polkit is not there');
    };
    const root = caller({ uid: 0 });
    expect(await codeOf(started(start, {}, root))).toBe('AuthorityUnavailable');
    outside.definitions = { ...outside.definitions, rootNeedsNoAuthority: true };
    outside.reload();
    await settled();
    expect(await codeOf(started())).toBe('AuthorityUnavailable');
    expect(await codeOf(started(start, {}, root))).toBe('no error');
  });

  test('an authority that breaks is none', async () => {
    outside.decide = () => {
      throw new TypeError('nonsense');
    };
    expect(await codeOf(started())).toBe('AuthorityUnavailable');
  });

  test('when the caller leaves during the prompt, nothing happens', async () => {
    const { answer } = prompt();
    const leaving = new AbortController();
    const call = started(start, {}, caller({ interactive: true, left: leaving.signal }));
    await settled();
    expect(outside.checks.at(-1)?.signal.aborted).toBe(false);
    leaving.abort();
    answer('yes');
    expect(await codeOf(call)).toBe('Cancelled');
    expect(outside.done).toEqual([]);
    expect(outside.journal.at(-1)?.fields).toMatchObject({ DECISION: 'left' });
  });

  test('when the caller leaves later, its job goes on', async () => {
    const leaving = new AbortController();
    const job = await started(start, {}, caller({ left: leaving.signal }));
    leaving.abort();
    outside.run('web');
    outside.answer('start lxc@web.service', 'done');
    await settled();
    expect(outcome(job)).toEqual(['done', undefined]);
  });

  test.each<[string, Request, () => void]>([
    [
      'the container goes',
      start,
      () => {
        outside.definitions = definitions(definition('db'));
        outside.reload();
      },
    ],
    [
      'another container comes under its name',
      start,
      () => {
        const before = outside.definitions;
        outside.definitions = definitions(definition('db'));
        outside.reload();
        void settled().then(() => {
          outside.definitions = before;
          outside.reload();
        });
      },
    ],
    [
      'it was started meanwhile',
      start,
      () => {
        outside.run('web');
      },
    ],
    [
      'it was stopped meanwhile',
      verb('stop', 'db'),
      () => {
        outside.stop('db');
      },
    ],
    [
      'its guest has rebooted',
      verb('stop', 'db'),
      () => {
        outside.lxc('db', 'RUNNING', 555);
      },
    ],
    [
      'the locker was attached otherwise',
      { verb: 'mount-locker', container: 'db', locker: 'data' },
      () => {
        outside.mount('/var/locker-mappings/db/data');
      },
    ],
    [
      'a shrink has become a growth',
      { verb: 'balloon', container: 'db', limit: 2n ** 30n },
      () => {
        outside.unit('db', { memoryMax: 4096n });
      },
    ],
  ])('a yes to something else is none: %s', async (_, request, change) => {
    outside.run('db');
    const { answer } = prompt();
    const call = codeOf(started(request, {}, patient()));
    await settled();
    change();
    await settled();
    await settled();
    answer('yes');
    expect(await call).toBe('JobConflict');
    expect(outside.done).toEqual([]);
    expect(outside.journal.at(-1)?.fields['DECISION']).toBe('changed');
  });

  test('of two that are allowed at once, one gets the container', async () => {
    const answers: ((decision: Decision) => void)[] = [];
    outside.decide = () => new Promise((resolve) => answers.push(resolve));
    const first = codeOf(started());
    const second = codeOf(started(start, {}, caller({ uid: 1001 })));
    await settled();
    for (const answer of answers) answer('yes');
    expect([await first, await second]).toEqual(['no error', 'JobConflict']);
    expect(outside.done).toEqual(['start lxc@web.service']);
  });

  test('every decision and every end of a job is in the journal', async () => {
    const job = await started();
    outside.run('web');
    outside.answer('start lxc@web.service', 'done');
    await settled();
    expect(outside.journal).toEqual([
      {
        uid: 1000,
        isKept: true,
        messageId: messageIds.decision,
        priority: 6,
        message: 'start "web" for uid 1000: allowed',
        fields: {
          CONTAINER: 'web',
          VERB: 'start',
          ACTION: 'org.lockerd1.start',
          UID: '1000',
          SENDER: ':1.5',
          DECISION: 'yes',
        },
      },
      {
        uid: 1000,
        isKept: true,
        messageId: messageIds.jobEnded,
        priority: 6,
        message: `job ${job.id} (start of container "web"): done`,
        fields: {
          CONTAINER: 'web',
          VERB: 'start',
          JOB: String(job.id),
          UID: '1000',
          RESULT: 'done',
        },
      },
    ]);
  });
});

describe('request ids', () => {
  const id = { 'request-id': 'one' };

  test('a retry gets the same job, a while after its end too', async () => {
    const job = await started(start, id);
    expect(await started(start, id)).toBe(job);
    // Another way to wait is no other request.
    void started(start, { ...id, wait: true });
    outside.run('web');
    outside.answer('start lxc@web.service', 'done');
    await settled();
    await outside.clock.pass(59_000);
    expect(await started(start, id)).toBe(job);
    await outside.clock.pass(2_000);
    expect(await codeOf(started(start, id))).toBe('AlreadyRunning');
    expect(outside.done).toEqual(['start lxc@web.service']);
  });

  test('another request under the same id is an error; another uid has its own ids', async () => {
    await started(start, id);
    expect(await codeOf(started(verb('start', 'db'), id))).toBe('InvalidArgs');
    expect(await codeOf(started(stop, id))).toBe('InvalidArgs');
    expect(await codeOf(started(start, { ...id, 'timeout-usec': 5n }))).toBe('InvalidArgs');
    const other = caller({ uid: 1001 });
    expect(await codeOf(started(verb('start', 'db'), id, other))).toBe('no error');
  });

  test('a retry during the prompt joins it', async () => {
    const { answer } = prompt();
    const calls = [started(start, id, patient()), started(start, id, patient())];
    await settled();
    expect(outside.checks.filter(({ interactive }) => interactive)).toHaveLength(1);
    answer('yes');
    const [first, second] = await Promise.all(calls);
    expect(first).toBe(second);
    expect(outside.done).toEqual(['start lxc@web.service']);
  });

  test('a retry whose predecessor left asks for itself', async () => {
    const { answer } = prompt();
    const leaving = new AbortController();
    const first = started(start, id, caller({ interactive: true, left: leaving.signal }));
    const second = started(start, id, patient());
    await settled();
    leaving.abort();
    answer('no');
    expect(await codeOf(first)).toBe('Cancelled');
    await settled();
    answer('yes');
    expect((await second).verb).toBe('start');
  });

  test('a refused request may be tried again', async () => {
    outside.decide = () => 'no';
    expect(await codeOf(started(start, id))).toBe('AccessDenied');
    outside.decide = () => 'yes';
    expect(await codeOf(started(start, id))).toBe('no error');
  });
});

describe('limits', () => {
  test('of calls that wait for authorization', async () => {
    core = outside.core({ 'pending-authorizations-per-uid': 2, 'prompts-per-uid': 1 });
    await core.start();
    prompt();
    void codeOf(started(start, {}, patient()));
    await settled();
    expect(await codeOf(started(verb('start', 'db'), {}, patient()))).toBe('LimitsExceeded');
    const others = caller({ uid: 1001 });
    expect(await codeOf(started(verb('start', 'db'), {}, others))).toBe(
      'InteractiveAuthorizationRequired',
    );
  });

  test('of jobs', async () => {
    core = outside.core({ 'jobs-per-uid': 1 });
    await core.start();
    await started();
    expect(await codeOf(started(verb('start', 'db')))).toBe('LimitsExceeded');
    outside.run('web');
    outside.answer('start lxc@web.service', 'done');
    await settled();
    expect(await codeOf(started(verb('start', 'db')))).toBe('no error');
  });

  test('of jobs of all', async () => {
    core = outside.core({ jobs: 1 });
    await core.start();
    await started();
    const other = caller({ uid: 1001 });
    expect(await codeOf(started(verb('start', 'db'), {}, other))).toBe('LimitsExceeded');
  });
});

describe('jobs', () => {
  test("another's job is cancelled with polkit's yes only", async () => {
    const job = await started();
    const other = caller({ uid: 1001, sender: ':1.9' });
    outside.decide = () => 'no';
    expect(await codeOf(core.cancel(other, job, options()))).toBe('AccessDenied');
    expect(outside.checks.at(-1)).toMatchObject({
      action: 'org.lockerd1.cancel-job-other',
      sender: ':1.9',
      details: { container: 'web', unit: 'lxc@web.service', verb: 'start', 'job-uid': '1000' },
    });
    expect(outside.signalOf('start lxc@web.service')?.aborted).toBe(false);
    outside.decide = () => 'yes';
    await core.cancel(other, job, options());
    expect(outside.signalOf('start lxc@web.service')?.aborted).toBe(true);
    expect(await codeOf(core.cancel(caller(), job, options({ force: true })))).toBe('InvalidArgs');
  });

  test('waiting for a job ends with it, with the time, or with the caller', async () => {
    const job = await started();
    const late = codeOf(core.wait(caller(), job, 1000));
    const leaving = new AbortController();
    const left = codeOf(core.wait(caller({ left: leaving.signal }), job, undefined));
    const patience = codeOf(core.wait(caller(), job, undefined));
    leaving.abort();
    await outside.clock.pass(1000);
    expect(await late).toBe('TimedOut');
    expect(await left).toBe('Cancelled');
    outside.run('web');
    outside.answer('start lxc@web.service', 'done');
    expect(await patience).toBe('no error');
    expect(await codeOf(core.wait(caller(), job, 0))).toBe('no error');
  });

  test('one whose container goes has failed', async () => {
    const job = await started();
    outside.definitions = definitions(definition('db'));
    outside.reload();
    await settled();
    await outside.clock.pass(6_000);
    expect(outcome(job)).toEqual(['failed', 'Failed']);
    expect(job.error?.message).toContain('container "web" was removed during');
  });

  test('are kept for a minute after their end', async () => {
    const job = await started();
    const told: string[] = [];
    core.jobs.ended.add(({ id }) => told.push(`ended ${id}`));
    core.jobs.removed.add(({ id }) => told.push(`removed ${id}`));
    outside.run('web');
    outside.answer('start lxc@web.service', 'done');
    await settled();
    expect(core.jobs.unfinished).toEqual([]);
    expect(core.jobs.get(job.id)).toBe(job);
    await outside.clock.pass(60_000);
    expect(core.jobs.get(job.id)).toBeUndefined();
    expect(told).toEqual([`ended ${job.id}`, `removed ${job.id}`]);
  });
});

describe('permissions', () => {
  test('of a container are asked for as real calls would be, and nobody is prompted', async () => {
    outside.run('web');
    outside.decide = ({ action, details }) => {
      if (action === 'org.lockerd1.start') return 'yes';
      if (action === 'org.lockerd1.mount-locker') {
        return details.locker === 'data' && details.mode === 'ro' ? 'yes' : 'no';
      }
      return action === 'org.lockerd1.stop' ? 'challenge' : 'no';
    };
    const container = core.host.container('web');
    if (!container) throw new Error('no web');
    const answer = await core.permissions(patient(), { kind: 'container', container });
    expect(Object.fromEntries(answer)).toEqual({
      'org.lockerd1.start': 'yes',
      'org.lockerd1.stop': 'challenge',
      'org.lockerd1.stop-force': 'no',
      'org.lockerd1.reboot': 'no',
      'org.lockerd1.freeze': 'no',
      'org.lockerd1.balloon': 'no',
      'org.lockerd1.set-limits': 'no',
      'org.lockerd1.mount-locker': 'yes',
      'org.lockerd1.unmount-locker': 'no',
      'org.lockerd1.unmount-locker-force': 'no',
      'org.lockerd1.set-autostart': 'no',
    });
    expect(outside.checks.every(({ interactive }) => !interactive)).toBe(true);
    const forced = outside.checks.find(({ action }) => action === 'org.lockerd1.stop-force');
    await codeOf(started(stop, { force: true }));
    expect(outside.checks.at(-1)?.details).toEqual(forced?.details);
  });

  test('ask first for the lockers that a container comes with, whatever they are called', async () => {
    const names = Array.from({ length: 40 }, (_, index) => `a${index}`);
    outside.definitions = {
      ...definitions(
        definition('web', { lockers: [{ name: 'zebra', readOnly: false, strict: true }] }),
      ),
      lockers: [...names, 'zebra'].map((name) => ({ name, path: `/lockers/${name}` })),
    };
    outside.reload();
    await settled();
    outside.decide = ({ details }) => (details.locker === 'zebra' ? 'yes' : 'no');
    const container = core.host.container('web');
    if (!container) throw new Error('no web');
    const answer = await core.permissions(patient(), { kind: 'container', container });
    expect(answer.get('org.lockerd1.mount-locker')).toBe('yes');
  });

  test("of one's own job need no polkit", async () => {
    const job = await started();
    outside.decide = () => 'no';
    const own = await core.permissions(caller(), { kind: 'job', job });
    const others = await core.permissions(caller({ uid: 7 }), { kind: 'job', job });
    expect([...own.values(), ...others.values()]).toEqual(['yes', 'no']);
  });
});

describe('the world', () => {
  test('tells of containers and lockers that come and go', async () => {
    const told: string[] = [];
    core.host.changed.add(({ kind, type, name }) => {
      if (kind !== 'changed') told.push(`${kind} ${type} ${name}`);
    });
    outside.unit('new', { activeState: 'active' });
    outside.definitions = {
      ...definitions(definition('web'), definition('new')),
      lockers: [{ name: 'more', path: '/srv/more' }],
    };
    outside.reload();
    await settled();
    expect(told.sort()).toEqual([
      'added container new',
      'added locker more',
      'removed container db',
      'removed locker data',
      'removed locker sandbox',
      'removed locker web_vol',
    ]);
    expect(core.host.container('new')?.state).toBe('running');
    outside.mount('/srv/more', { source: 'here' });
    expect(core.host.locker('more')?.source).toBe('here');
  });

  test('counts kills for want of memory', () => {
    outside.run('web');
    outside.unit('web', { controlGroup: '/system.slice/web' });
    outside.oomKills?.(3n);
    expect(core.host.container('web')?.oomKills).toBe(3n);
    outside.oom?.('web');
    outside.oom?.('idle');
    outside.oom?.('nobody');
    expect(outside.expected).toEqual(['/system.slice/web']);
  });

  describe('a limit that the unit of a running container has', () => {
    const controlGroup = '/system.slice/web';
    beforeEach(async () => {
      outside.run('web');
      outside.unit('web', { controlGroup });
      await outside.clock.pass(10_000);
      outside.done.length = 0;
    });

    test('is brought to the kernel where systemd has not done it', async () => {
      outside.unit('web', { memoryMax: 600n * 4096n + 17n });
      await outside.clock.pass(1000);
      expect(outside.done).toEqual([]);
      await outside.clock.pass(5000);
      expect(outside.done).toEqual(['apply-limits web']);
    });

    test('is left to systemd where it has', async () => {
      outside.kernelLimits = { memory: 600n * 4096n, swap: 4096n };
      outside.unit('web', { memoryMax: 600n * 4096n + 17n, memorySwapMax: 4096n });
      await outside.clock.pass(10_000);
      outside.kernelLimits = { memory: noLimit, swap: undefined };
      outside.unit('web', { memoryMax: noLimit, memorySwapMax: 8192n });
      await outside.clock.pass(10_000);
      expect(outside.done).toEqual([]);
    });

    test('is no concern of one that does not run any more', async () => {
      outside.unit('web', { memoryMax: 4096n });
      outside.stop('web');
      await outside.clock.pass(10_000);
      expect(outside.done).toEqual([]);
    });

    test.each(['JobConflict', 'NotRunning', 'Failed'] as const)(
      'is tried again after %s, until it is there or is another one',
      async (code) => {
        const applied = (): number => outside.done.length;
        outside.unit('web', { memoryMax: 8192n });
        await outside.clock.pass(3000);
        for (let tries = 1; tries < 4; tries++) {
          expect(applied()).toBe(tries);
          outside.fail('apply-limits web', new LockerdError(code, 'no'));
          await outside.clock.pass(2000 * 2 ** (tries - 1) - 100);
          expect(applied()).toBe(tries);
          await outside.clock.pass(200);
        }
        expect(applied()).toBe(4);
        outside.answer('apply-limits web');
        await outside.clock.pass(300_000);
        expect(applied()).toBe(4);
        outside.unit('web', { memoryMax: 4096n });
        await outside.clock.pass(3000);
        outside.fail('apply-limits web', new LockerdError(code, 'no'));
        outside.kernelLimits = { memory: 12_288n, swap: noLimit };
        outside.unit('web', { memoryMax: 12_288n });
        await outside.clock.pass(300_000);
        expect(applied()).toBe(5);
        const told = outside.journal.filter(({ message }) => message.includes('memory limit'));
        expect(told).toHaveLength(code === 'Failed' ? 2 : 0);
      },
    );

    test('is told of once where the container cannot live with it, and left to its next start', async () => {
      outside.unit('web', { memoryMax: 8192n });
      await outside.clock.pass(3000);
      outside.fail('apply-limits web', new LockerdError('LimitBelowUsage', 'it needs more'));
      await outside.clock.pass(3_600_000);
      expect(outside.done).toEqual(['apply-limits web']);
      const told = outside.journal.filter(({ message }) => message.includes('it needs more'));
      expect(told).toHaveLength(1);
    });

    test('may fail to get there', async () => {
      for (const code of ['JobConflict', 'Failed'] as const) {
        outside.unit('web', { memoryMax: code === 'Failed' ? 4096n : 8192n });
        await outside.clock.pass(10_000);
        outside.fail('apply-limits web', new LockerdError(code, 'no'));
        await settled();
      }
      const told = outside.journal.filter(({ message }) => message.includes('memory limit'));
      expect(told).toHaveLength(1);
    });
  });

  test('dates changes by systemd, and those that only LXC knows by the clock', async () => {
    outside.unit('web', { activeState: 'active', stateChangeUsec: 7_000_000n });
    outside.lxc('web', 'RUNNING', 100);
    await outside.clock.pass(500);
    outside.lxc('web', 'FROZEN', 100);
    expect(core.host.container('web')?.stateChangeUsec).toBe(1_500_000n);
    outside.unit('web', { activeState: 'inactive', stateChangeUsec: 9_000_000n });
    expect(core.host.container('web')?.stateChangeUsec).toBe(9_000_000n);
  });
});
