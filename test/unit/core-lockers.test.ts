import { beforeEach, describe, expect, test } from 'vitest';
import type { Core } from '../../src/core/core.ts';
import type { Job } from '../../src/core/job-queue.ts';
import { slowLookMs } from '../../src/core/locker-looks.ts';
import type { LockerLook, Store } from '../../src/core/locker-ports.ts';
import type { ActionDetails } from '../../src/core/ports.ts';
import type { LockerRequest } from '../../src/core/request.ts';
import { LockerdError } from '../../src/model/errors.ts';
import { caller, codeOf, FakeOutside, options, settled } from './core-fakes.ts';

const gibibyte = 2n ** 30n;
const gib = (count: number) => String(BigInt(count) * gibibyte);

let outside: FakeOutside;
let core: Core;

function store(name: string, change: Partial<Store> = {}): Store {
  return {
    ...{ name, type: 'lvm-thin', fileSystem: 'ext4', problem: '', forgotten: [] },
    ...{ size: 100n * gibibyte, free: 50n * gibibyte, maxSize: undefined, isDefault: false },
    ...change,
  };
}

function look(change: Partial<LockerLook> = {}): LockerLook {
  return { health: 'good', size: gibibyte, store: 'fast', creator: 1000, snapshots: [], ...change };
}

beforeEach(async () => {
  outside = new FakeOutside();
  outside.stores = [store('slow'), store('fast', { isDefault: true, maxSize: 10n * gibibyte })];
  outside.lockerLooks = { data: look(), web_vol: look({ creator: 7 }), sandbox: look() };
  core = outside.core();
  await core.start();
});

const create = (locker = 'new', size = gibibyte): LockerRequest => ({
  verb: 'create-locker',
  locker,
  size,
});

async function made(request: LockerRequest, values = {}, who = caller()): Promise<Job> {
  const job = await core.request(who, request, options(values));
  await settled();
  return job;
}

/** Details of the last check. */
function asked(): Partial<ActionDetails> {
  const { details } = outside.checks.at(-1) ?? {};
  return Object.fromEntries(Object.entries(details ?? {}).filter(([, value]) => value !== ''));
}

/** The locker is defined from the next reading on. */
function define(name: string): void {
  const { definitions } = outside;
  const lockers = [...definitions.lockers, { name, path: `/lockers/${name}` }];
  outside.definitions = { ...definitions, lockers };
}

const madeNew =
  'create-locker {"locker":"new","store":"fast","size":"1073741824","owner":"0:0","mode":"0750","encrypt":"no","container":"","creator":1000}';

describe('a new locker', () => {
  test('comes from the default store, and is there when its job ends', async () => {
    const job = await made(create());
    expect(outside.checks.at(-1)?.action).toBe('org.lockerd1.create-locker');
    expect(asked()).toEqual({
      ...{ verb: 'create-locker', locker: 'new', store: 'fast', size: gib(1), owner: '0:0' },
      ...{ mode: '0750', encrypt: 'no', force: 'false', persist: 'false' },
      ...{ 'user-lockers': '2', 'user-size': gib(2) },
    });
    expect(outside.done).toEqual([madeNew]);
    expect(job).toMatchObject({
      container: '',
      locker: 'new',
      phase: 'file-system',
      progress: 0.5,
    });
    define('new');
    outside.lockerLooks['new'] = look({ available: 9n });
    outside.answer(madeNew, { warnings: ['hm'] });
    await settled();
    expect(job).toMatchObject({ result: 'done', warnings: ['hm'] });
    expect(core.host.locker('new')).toBeDefined();
    expect(core.lockers.looks.of('new')).toMatchObject({ available: 9n });
  });

  test('is as the options say', async () => {
    await made(create(), {
      ...{ store: 'slow', owner: '1000:100', mode: 0o2770, container: 'web', encrypt: 'key-file' },
    });
    expect(asked()).toMatchObject({
      ...{ store: 'slow', owner: '1000:100', mode: '2770', container: 'web', encrypt: 'key-file' },
    });
    expect(outside.done[0]).toContain('"owner":"1000:100","mode":"2770","encrypt":"key-file"');
    expect(outside.done[0]).toContain('"container":"web"');
  });

  test.each([
    ['a name that starts with a dot', create('.a'), {}],
    ['a name with a slash', create('a/b'), {}],
    ['a long name', create('a'.repeat(64)), {}],
    ['no name', create(''), {}],
    ['no size', create('a', 0n), {}],
    ['an endless size', create('a', 2n ** 64n - 1n), {}],
    ['an owner by name', create(), { owner: 'root:root' }],
    ['an owner that is none', create(), { owner: '4294967295:0' }],
    ['a set-user-ID mode', create(), { mode: 0o4755 }],
    ['another encryption', create(), { encrypt: 'rot13' }],
    ['a store with a path', create(), { store: '../x' }],
  ])('with %s is refused before anything', async (_, request, values) => {
    expect(await codeOf(made(request, values))).toBe('InvalidArgs');
    expect([outside.checks, outside.lockerAsks]).toEqual([[], []]);
  });

  test('for a container that is not there is refused', async () => {
    expect(await codeOf(made(create(), { container: 'nobody' }))).toBe('NoSuchContainer');
  });

  test.each([
    ['a name that is there', create('data'), {}, 'LockerExists'],
    ['a store that is not there', create(), { store: 'none' }, 'NoSuchStore'],
    ['more than the store gives one', create('a', 11n * gibibyte), {}, 'InvalidArgs'],
  ])('with %s is an error for those who may make one', async (_, request, values, code) => {
    expect(await codeOf(made(request, values))).toBe(code);
    outside.decide = () => 'no';
    expect(await codeOf(made(request, values))).toBe('AccessDenied');
    expect(outside.done).toEqual([]);
  });

  test('needs a store, a sound one, and a helper', async () => {
    outside.stores = [store('slow')];
    expect(await codeOf(made(create()))).toBe('NoSuchStore');
    outside.stores = [store('fast', { isDefault: true, problem: 'the volume group has gone' })];
    await expect(made(create())).rejects.toThrow('the volume group has gone');
    outside.lockerFailure = new LockerdError('Failed', 'no helper');
    await expect(made(create())).rejects.toThrow('no helper');
    outside.decide = () => 'no';
    expect(await codeOf(made(create()))).toBe('AccessDenied');
  });
});

describe("a user's lockers", () => {
  test('count with what is being made, and with what is forgotten', async () => {
    await made(create());
    await made(create('other', 2n * gibibyte));
    expect(asked()).toMatchObject({ 'user-lockers': '3', 'user-size': gib(3) });
    outside.stores = outside.stores.map((one) => ({
      ...one,
      forgotten: [{ name: 'old', size: gibibyte, creator: one.isDefault ? 1000 : 7 }],
    }));
    await made(create('third'));
    expect(asked()).toMatchObject({ 'user-lockers': '5', 'user-size': gib(6) });
    await made(create('fourth'), {}, caller({ uid: 7 }));
    expect(asked()).toMatchObject({ 'user-lockers': '2', 'user-size': gib(2) });
  });

  test('of two requests at once, the second is asked for again', async () => {
    let allow: () => void = () => undefined;
    outside.decide = () =>
      new Promise((resolve) => {
        allow = () => {
          resolve('yes');
        };
      });
    const first = core.request(caller(), create(), options());
    await settled();
    const allowFirst = allow;
    const second = core.request(caller(), create('other'), options());
    await settled();
    allowFirst();
    await first;
    allow();
    expect(await codeOf(second)).toBe('JobConflict');
  });

  test('count until what failed has ended, and not afterwards', async () => {
    const job = await made(create());
    outside.fail(madeNew, new LockerdError('Failed', 'full'));
    await job.ended;
    await made(create());
    expect(asked()).toMatchObject({ 'user-lockers': '2' });
  });

  test('still count when nothing can be seen of the new one', async () => {
    await made(create());
    define('new');
    outside.answer(madeNew, { warnings: [] });
    await settled();
    await made(create('other'));
    expect(asked()).toMatchObject({ 'user-lockers': '3', 'user-size': gib(3) });
  });

  test('of an unknown size are no ground for more, but for root', async () => {
    outside.lockerLooks['data'] = { health: 'hung', creator: 1000 };
    await expect(made(create())).rejects.toThrow('size of locker "data" is not known');
    outside.lockerLooks['web_vol'] = { health: 'hung', creator: 0 };
    await made(create(), {}, caller({ uid: 0 }));
  });
});

describe('a larger locker', () => {
  const grow = (size: bigint): LockerRequest => ({ verb: 'grow-locker', locker: 'data', size });

  test('is asked for and made by its whole size, its own bytes not counted', async () => {
    await made(grow(gibibyte), { by: true });
    expect(asked()).toMatchObject({
      ...{ size: gib(2), own: 'true', 'user-lockers': '1', 'user-size': gib(1), store: 'fast' },
    });
    expect(outside.done).toEqual([`grow-locker {"locker":"data","size":"${gib(2)}"}`]);
    // The growth counts for others meanwhile.
    await made(create());
    expect(asked()).toMatchObject({ 'user-lockers': '2', 'user-size': gib(3) });
  });

  test('never becomes smaller, nor larger than its store lets one be', async () => {
    expect(await codeOf(made(grow(gibibyte)))).toBe('InvalidArgs');
    expect(await codeOf(made(grow(11n * gibibyte)))).toBe('InvalidArgs');
    outside.lockerLooks['data'] = { health: 'hung' };
    const unseen = outside.core();
    await unseen.start();
    expect(await codeOf(unseen.request(caller(), grow(gibibyte), options({ by: true })))).toBe(
      'Failed',
    );
  });

  test("of another user's is not the caller's own", async () => {
    await made({ verb: 'grow-locker', locker: 'web_vol', size: 2n * gibibyte });
    expect(asked()).toMatchObject({ own: 'false', 'user-lockers': '2' });
  });
});

describe('snapshots', () => {
  const snapshot: LockerRequest = { verb: 'snapshot-locker', locker: 'data', snapshot: '' };

  test('get a name from the time, and are counted', async () => {
    outside.lockerLooks['data'] = look({ snapshots: ['a', 'b'] });
    await made(snapshot, { freeze: true });
    expect(asked()).toMatchObject({ snapshot: '19700101-000001', snapshots: '2', freeze: 'true' });
    expect(outside.done).toEqual([
      'snapshot-locker {"locker":"data","snapshot":"19700101-000001","freeze":true}',
    ]);
  });

  test('have one name each', async () => {
    outside.lockerLooks['data'] = look({ snapshots: ['a'] });
    expect(await codeOf(made({ ...snapshot, snapshot: 'a' }))).toBe('LockerExists');
    expect(await codeOf(made({ ...snapshot, snapshot: '-a' }))).toBe('InvalidArgs');
  });

  test('become lockers of their own', async () => {
    outside.lockerLooks['data'] = look({ snapshots: ['a'] });
    const restore = {
      verb: 'restore-locker',
      locker: 'data',
      snapshot: 'a',
      name: 'copy',
    } as const;
    await made(restore);
    expect(asked()).toMatchObject({
      ...{ snapshot: 'a', name: 'copy', size: gib(1), 'user-lockers': '2', 'user-size': gib(2) },
    });
    expect(outside.done).toEqual([
      'restore-locker {"locker":"data","snapshot":"a","name":"copy","creator":1000}',
    ]);
    // Neither the one nor the other can have a job meanwhile.
    expect(await codeOf(made(create('copy')))).toBe('JobConflict');
    expect(await codeOf(made({ ...snapshot, snapshot: 'x' }))).toBe('JobConflict');
    expect(await codeOf(made({ ...restore, snapshot: 'b', locker: 'sandbox' }))).toBe(
      'JobConflict',
    );
  });

  test('that are not there cannot', async () => {
    const restore = {
      verb: 'restore-locker',
      locker: 'data',
      snapshot: 'b',
      name: 'copy',
    } as const;
    expect(await codeOf(made(restore))).toBe('NoSuchSnapshot');
    expect(await codeOf(made({ ...restore, name: 'sandbox' }))).toBe('LockerExists');
    expect(await codeOf(made({ ...restore, name: 'a b' }))).toBe('InvalidArgs');
  });
});

describe('a locker', () => {
  const rename: LockerRequest = { verb: 'rename-locker', locker: 'data', name: 'later' };
  const forget: LockerRequest = { verb: 'forget-locker', locker: 'data' };

  test('is renamed, and seen by its new name', async () => {
    const job = await made(rename);
    expect(asked()).toMatchObject({ name: 'later', own: 'true', locker: 'data' });
    const { definitions } = outside;
    const lockers = [{ name: 'later', path: '/lockers/later' }];
    outside.definitions = { ...definitions, lockers };
    outside.lockerLooks = { later: look({ size: 5n }) };
    outside.answer('rename-locker {"locker":"data","name":"later"}', { warnings: [] });
    await settled();
    expect(job.result).toBe('done');
    expect(core.lockers.looks.of('later')?.size).toBe(5n);
    expect(core.lockers.looks.of('data')).toBeUndefined();
  });

  test('that is attached is neither renamed nor forgotten', async () => {
    outside.run('web');
    outside.mount('/var/locker-mappings/web/data');
    await settled();
    expect(await codeOf(made(rename))).toBe('LockerBusy');
    expect(await codeOf(made(forget))).toBe('LockerBusy');
    expect(await codeOf(made({ ...rename, name: 'sandbox' }))).toBe('LockerExists');
  });

  test('that is forgotten leaves its data, which the job names', async () => {
    const job = await made(forget);
    outside.definitions = { ...outside.definitions, lockers: [] };
    outside.answer('forget-locker data', { warnings: [], place: '/dev/fast/locker-data' });
    await settled();
    expect(job).toMatchObject({
      result: 'done',
      warnings: ['the data of locker "data" stays in /dev/fast/locker-data'],
    });
    expect(core.host.locker('data')).toBeUndefined();
  });

  test('that is not there is no secret', async () => {
    outside.decide = () => 'no';
    expect(await codeOf(made({ ...forget, locker: 'none' }))).toBe('NoSuchLocker');
    expect(await codeOf(core.lockers.readSnapshots(1000, 'none'))).toBe('NoSuchLocker');
  });
});

describe('a job of a locker', () => {
  test('is cancelled while it makes something, and ends as the helper says', async () => {
    const job = await made(create());
    await core.cancel(caller(), job, options());
    expect(outside.signalOf(madeNew)?.aborted).toBe(true);
    outside.fail(madeNew, new LockerdError('Cancelled', 'undone'));
    await job.ended;
    expect([job.result, job.error?.code]).toEqual(['cancelled', 'Cancelled']);
    const late = await made(create());
    await core.cancel(caller(), late, options());
    outside.answer(madeNew, { warnings: [] });
    await late.ended;
    expect(late.result).toBe('done');
  });

  test('is not cancelled where that cannot be', async () => {
    const job = await made({ verb: 'forget-locker', locker: 'data' });
    expect(await codeOf(core.cancel(caller(), job, options()))).toBe('Failed');
  });

  test('joins a retry with the same request id, and no other request', async () => {
    const values = { 'request-id': 'x', store: 'slow' };
    const job = await made(create(), values);
    expect(await made(create(), values)).toBe(job);
    expect(await codeOf(made(create(), { ...values, store: 'fast' }))).toBe('InvalidArgs');
    expect(await codeOf(made(create(), { ...values, mode: 0o700 }))).toBe('InvalidArgs');
    expect(await codeOf(made(create('x'), values))).toBe('InvalidArgs');
  });

  test('leaves containers alone, and they leave it alone', async () => {
    await made(create(), { container: 'web' });
    await core.request(caller(), { verb: 'start', container: 'web' }, options());
    expect(core.jobs.unfinished).toHaveLength(2);
  });

  test('and its decision are in the journal', async () => {
    const job = await made(create());
    outside.fail(madeNew, new LockerdError('Failed', 'the store is full'));
    await job.ended;
    const [decision, end] = outside.journal.slice(-2);
    expect(decision).toMatchObject({
      message: 'create-locker "new" for uid 1000: allowed',
      fields: { LOCKER: 'new', STORE: 'fast', SIZE: gib(1), VERB: 'create-locker' },
    });
    expect(end).toMatchObject({
      message: `job ${job.id} (create-locker of locker "new"): failed: the store is full`,
      fields: { LOCKER: 'new' },
    });
    expect(end?.fields).not.toHaveProperty('CONTAINER');
  });
});

describe('looks', () => {
  const wanted = (isWanted: boolean) => {
    core.lockers.looks.isWanted = () => isWanted;
  };
  const looked = () => outside.lockerAsks.filter((what) => what.startsWith('look'));

  test('are not made at the start, nor for events that nobody asks about', async () => {
    outside.mount('/lockers/data');
    outside.reload();
    await outside.clock.pass(10 * slowLookMs);
    expect(outside.lockerAsks).toEqual([]);
  });

  test('follow what happens to lockers, and time, while somebody is there', async () => {
    wanted(true);
    core.lockers.looks.follow();
    expect(looked()).toEqual([]);
    outside.mount('/lockers/data');
    // That nothing has changed is no event.
    outside.reload();
    await outside.clock.pass(1_000);
    expect(looked()).toEqual(['look data']);
    await outside.clock.pass(slowLookMs);
    expect(looked()).toEqual(['look data', 'look data sandbox web_vol']);
    wanted(false);
    await outside.clock.pass(10 * slowLookMs);
    expect(looked()).toHaveLength(2);
  });

  test('tell of what is another, and only of that', async () => {
    const changed: string[] = [];
    core.lockers.looks.changed.add((name) => changed.push(name));
    await core.lockers.looks.refresh(['data', 'sandbox', 'none']);
    expect(looked()).toEqual(['look data sandbox']);
    outside.lockerLooks['data'] = look({ health: 'nearly-full' });
    await core.lockers.looks.refresh(['data', 'sandbox']);
    expect(changed).toEqual(['data', 'sandbox', 'data']);
  });

  test('are one at a time, and good for a moment', async () => {
    const { looks } = core.lockers;
    await Promise.all([looks.renew(['data']), looks.renew(['data', 'sandbox'])]);
    await looks.renew(['data']);
    expect(looked()).toEqual(['look data sandbox']);
    await outside.clock.pass(2_000);
    await looks.renew(['data']);
    expect(looked()).toHaveLength(2);
  });

  test('that fail are tried again, and a look at one begins at once', async () => {
    wanted(true);
    outside.lockerFailure = new LockerdError('Failed', 'no helper');
    core.lockers.looks.follow('data');
    await outside.clock.pass(1_000);
    expect(outside.journal.at(-1)?.message).toContain('no helper');
    outside.lockerFailure = undefined;
    await outside.clock.pass(slowLookMs);
    expect(core.lockers.looks.of('data')?.size).toBe(gibibyte);
  });
});

describe('permissions', () => {
  test('of a locker and of the manager tell of its own verbs', async () => {
    outside.decide = ({ action, details }) => {
      if (action === 'org.lockerd1.create-locker') {
        const isSmall =
          BigInt(details['user-size'] || '0') + BigInt(details.size || '0') < 4n * gibibyte;
        return details.store === 'fast' && isSmall ? 'yes' : 'no';
      }
      return details.own === 'true' ? 'yes' : 'no';
    };
    const locker = core.host.locker('data');
    if (!locker) throw new Error('there is no locker');
    const own = await core.permissions(caller(), { kind: 'locker', locker });
    expect(Object.fromEntries(own)).toEqual({
      ...{ 'org.lockerd1.mount-locker': 'no', 'org.lockerd1.unmount-locker': 'no' },
      ...{ 'org.lockerd1.unmount-locker-force': 'no', 'org.lockerd1.grow-locker': 'yes' },
      ...{ 'org.lockerd1.rename-locker': 'yes', 'org.lockerd1.snapshot-locker': 'yes' },
      ...{ 'org.lockerd1.restore-locker': 'yes', 'org.lockerd1.forget-locker': 'yes' },
    });
    const others = await core.permissions(caller({ uid: 8 }), { kind: 'locker', locker });
    expect(others.get('org.lockerd1.grow-locker')).toBe('no');
    const all = await core.permissions(caller(), { kind: 'manager' });
    expect(all.get('org.lockerd1.create-locker')).toBe('yes');
    outside.lockerLooks['data'] = look({ size: 3n * gibibyte });
    await core.lockers.looks.refresh(['data']);
    const full = await core.permissions(caller(), { kind: 'manager' });
    expect(full.get('org.lockerd1.create-locker')).toBe('no');
  });
});

describe('what was forgotten', () => {
  const adopt: LockerRequest = { verb: 'adopt-locker', locker: 'old' };
  const forgotten = [{ name: 'old', size: gibibyte, creator: 1000 }];
  const wanted = 'adopt-locker {"locker":"old","store":"slow","creator":1000}';
  beforeEach(() => {
    outside.stores = [store('slow', { forgotten }), store('fast', { isDefault: true })];
  });

  test('is taken back from the store that has it', async () => {
    const job = await made(adopt);
    expect(outside.checks.at(-1)?.action).toBe('org.lockerd1.adopt-locker');
    expect(asked()).toEqual({
      ...{ verb: 'adopt-locker', locker: 'old', store: 'slow', size: gib(1), own: 'true' },
      ...{ force: 'false', persist: 'false' },
    });
    expect(outside.done).toEqual([wanted]);
    define('old');
    outside.lockerLooks['old'] = look({ store: 'slow' });
    outside.answer(wanted, { warnings: [] });
    await settled();
    expect(job).toMatchObject({ result: 'done' });
    expect(core.lockers.looks.of('old')).toMatchObject({ store: 'slow' });
  });

  test('of two stores is taken from the one that is named', async () => {
    outside.stores = [store('slow', { forgotten }), store('fast', { forgotten })];
    expect(await codeOf(made(adopt))).toBe('InvalidArgs');
    await made(adopt, { store: 'slow' });
    expect(outside.done).toEqual([wanted]);
  });

  test.each([
    ['a locker that is there', { ...adopt, locker: 'data' }, {}, 'LockerExists'],
    ['what no store has', { ...adopt, locker: 'none' }, {}, 'NoSuchLocker'],
    ['what another store has', adopt, { store: 'fast' }, 'NoSuchLocker'],
    ['a store that is not there', adopt, { store: 'none' }, 'NoSuchStore'],
  ] as const)('cannot be %s', async (_, request, values, code) => {
    expect(await codeOf(made(request, values))).toBe(code);
    outside.decide = () => 'no';
    expect(await codeOf(made(request, values))).toBe('AccessDenied');
    expect(outside.done).toEqual([]);
  });

  test('cannot have a name that no new locker can have', async () => {
    expect(await codeOf(made({ ...adopt, locker: 'a/b' }))).toBe('InvalidArgs');
    expect([outside.checks, outside.lockerAsks]).toEqual([[], []]);
  });

  test('of a store that is broken says what is wrong with it', async () => {
    outside.stores = [store('slow', { problem: 'the volume group has gone' })];
    await expect(made(adopt, { store: 'slow' })).rejects.toThrow('the volume group has gone');
  });
});
