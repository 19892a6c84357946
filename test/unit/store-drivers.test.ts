import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Mount } from '../../src/host/mountinfo.ts';
import type { VolumeStore } from '../../src/host/store-settings.ts';
import { LockerdError } from '../../src/model/errors.ts';
import { DirectoryDriver } from '../../src/stores/directory.ts';
import { noLayer } from '../../src/stores/layer.ts';
import { LvmDriver } from '../../src/stores/lvm.ts';
import type { Program, Runner } from '../../src/stores/tools.ts';
import { ToolError, Tools } from '../../src/stores/tools.ts';

/** Tools whose answers are made up, and which note what was asked of them. */
class MadeUpTools extends Tools {
  readonly asked: string[] = [];
  readonly #answers: Partial<Record<Program, string | Error>>;

  constructor(answers: Partial<Record<Program, string | Error>>) {
    super();
    this.#answers = answers;
  }

  override readonly run: Runner['run'] = (program, args) => {
    this.asked.push([program, ...args].join(' '));
    const answer = this.#answers[program] ?? '';
    return typeof answer === 'string' ? Promise.resolve(answer) : Promise.reject(answer);
  };
}

async function errorOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return error instanceof LockerdError ? `${error.code}: ${error.message}` : String(error);
}

const mebibyte = 1024n * 1024n;
const extent = 4n * mebibyte;

function vgs(free: bigint): string {
  const vg = { vg_size: '4290772992', vg_free: free.toString(), vg_extent_size: extent.toString() };
  return JSON.stringify({ report: [{ vg: [vg] }], log: [] });
}

function lv(more: Record<string, string>) {
  return {
    lv_name: 'locker-data',
    lv_uuid: 'x',
    lv_size: (100n * mebibyte).toString(),
    origin: '',
    origin_size: '',
    lv_tags: 'lockerd.locker',
    data_percent: '',
    lv_time: '1796050516',
    pool_lv: '',
    lv_active: 'active',
    lv_snapshot_invalid: 'unknown',
    ...more,
  };
}

function lvs(...rows: object[]): string {
  return JSON.stringify({ report: [{ lv: rows }], log: [] });
}

const thick: VolumeStore = {
  name: 'thick',
  type: 'lvm',
  volumeGroup: 'raid',
  fileSystem: 'ext4',
  options: [],
  definition: 'unit',
};
const thin: VolumeStore = { ...thick, name: 'thin', type: 'lvm-thin', thinPool: 'pool' };

describe('sizes of volumes', () => {
  const driver = new LvmDriver(thick, new MadeUpTools({ vgs: vgs(40n * mebibyte) }));

  test('are whole extents, which the answer says', async () => {
    expect(await driver.check('a', 16n * mebibyte)).toEqual({ size: 16n * mebibyte, warnings: [] });
    const { size, warnings } = await driver.check('a', 16n * mebibyte + 1n);
    expect(size).toBe(20n * mebibyte);
    expect(warnings).toEqual(['the size is 20971520 bytes, as volumes are made of 4194304']);
  });

  test('need space for what is new alone', async () => {
    expect(await errorOf(driver.check('a', 44n * mebibyte))).toMatch(
      /^NoSpace: .*40M left.*vgextend/,
    );
    const tools = new MadeUpTools({ vgs: vgs(40n * mebibyte), lvs: lvs() });
    const grown = await new LvmDriver(thick, tools).check('a', 44n * mebibyte, 4n * mebibyte);
    expect(grown.size).toBe(44n * mebibyte);
  });

  test('are not smaller than the file system', async () => {
    expect(await errorOf(driver.check('a', mebibyte))).toMatch(/^InvalidArgs: .*8M/);
    const xfs = new LvmDriver({ ...thick, fileSystem: 'xfs' }, new MadeUpTools({}));
    expect(await errorOf(xfs.check('a', 299n * mebibyte))).toMatch(/^InvalidArgs: .*300M/);
  });

  test('of a thin pool may be more than it together, and no single one', async () => {
    const pool = lv({
      lv_name: 'pool',
      lv_size: (128n * mebibyte).toString(),
      lv_tags: '',
      data_percent: '12.50',
    });
    const data = lv({ pool_lv: 'pool' });
    const answers = { vgs: vgs(0n), lvs: lvs(pool, data) };
    const pooled = new LvmDriver(thin, new MadeUpTools(answers));
    expect(await pooled.space()).toEqual({
      size: 128n * mebibyte,
      free: 112n * mebibyte,
      fileSystem: 'ext4',
    });
    expect((await pooled.check('a', 28n * mebibyte)).warnings).toEqual([]);
    expect((await pooled.check('a', 32n * mebibyte)).warnings).toEqual([
      'the volumes of store "thin" are larger than it when all of them are full',
    ]);
    // One that grows counts once.
    expect((await pooled.check('data', 128n * mebibyte, 100n * mebibyte)).warnings).toEqual([]);
    expect(await errorOf(pooled.check('a', 132n * mebibyte))).toMatch(/^NoSpace: .*128M in all/);
    const full = { ...answers, lvs: lvs({ ...pool, data_percent: '95.00' }) };
    const fullPool = new LvmDriver(thin, new MadeUpTools(full));
    expect(await errorOf(fullPool.check('a', 16n * mebibyte))).toMatch(/^NoSpace: 95 % .*lvextend/);
  });
});

test.each([
  ['a_tdata', 'keeps for itself'],
  ['a_mimage', 'keeps for itself'],
  ['-'.repeat(63), 'too long'],
])('a name that LVM refuses is refused first: %s', (name, why) => {
  const driver = new LvmDriver(thick, new MadeUpTools({}));
  expect(() => {
    driver.checkName(name);
  }).toThrow(why);
});

test('a volume group or pool that has gone is told with its name', async () => {
  const failed = new ToolError('vgs', 'Volume group "raid" not found', 5, '');
  const gone = new LvmDriver(thick, new MadeUpTools({ vgs: failed, lvs: failed }));
  expect(await errorOf(gone.space())).toMatch(/^NoSuchStore: store "thick" .*"raid"/);
  expect(await errorOf(gone.lockers())).toMatch(/^NoSuchStore: store "thick" .*"raid"/);
  const noPool = new LvmDriver(thin, new MadeUpTools({ lvs: lvs() }));
  expect(await errorOf(noPool.space())).toMatch(/^NoSuchStore: .*no thin pool "pool"/);
});

describe('copies of volumes', () => {
  const copy = lv({
    lv_name: 'lockersnap-1',
    lv_size: (64n * mebibyte).toString(),
    origin: 'locker-data',
    origin_size: (100n * mebibyte).toString(),
    lv_tags: 'lockerd.snapshot=monday',
    data_percent: '25.00',
    lv_snapshot_invalid: '',
  });
  const unfinished = lv({
    ...copy,
    lv_name: 'lockersnap-2',
    lv_tags: 'lockerd.change=0123456789abcdef,lockerd.snapshot=next',
  });

  test('are those that LVM names the locker as the origin of, and that are finished', async () => {
    const foreign = lv({ lv_name: 'locker-other', lv_tags: '' });
    const tools = new MadeUpTools({ lvs: lvs(lv({}), copy, unfinished, foreign) });
    expect(await new LvmDriver(thick, tools).lockers()).toEqual([
      {
        locker: 'data',
        size: 100n * mebibyte,
        snapshots: [
          {
            name: 'monday',
            createdUsec: 1796050516000000n,
            size: 100n * mebibyte,
            used: 16n * mebibyte,
          },
        ],
      },
    ]);
  });

  test('are in the way of growth where LVM does not grow what has some', async () => {
    const grow = async (store: VolumeStore, ...rows: object[]): Promise<string> => {
      const tools = new MadeUpTools({ vgs: vgs(400n * mebibyte), lvs: lvs(...rows) });
      return errorOf(new LvmDriver(store, tools).check('data', 112n * mebibyte, 100n * mebibyte));
    };
    const own = { ...copy, lv_name: 'by-hand', lv_tags: '' };
    expect(await grow(thick, lv({}), copy, own)).toMatch(
      /^LockerBusy: locker "data" has snapshots \(monday, raid\/by-hand\)/,
    );
    expect(await grow(thick, lv({}), lv({ ...copy, origin: 'locker-other' }))).toBe('undefined');
    const pool = lv({ lv_name: 'pool', lv_size: (200n * mebibyte).toString(), lv_tags: '' });
    expect(await grow(thin, pool, lv({}), copy)).toBe('undefined');
  });

  test('that have overflowed are not restored', async () => {
    const lost = { ...copy, lv_snapshot_invalid: 'snapshot invalid' };
    const tools = new MadeUpTools({ lvs: lvs(lv({}), lost) });
    const making = { change: '2', progress: () => undefined };
    const from = { locker: 'data', snapshot: 'monday' };
    const restored = new LvmDriver(thick, tools).restore(from, 'new', noLayer, making);
    expect(await errorOf(restored)).toMatch(/^Failed: .*it is lost/);
    expect(tools.asked.filter((line) => !line.startsWith('lvs'))).toEqual([]);
  });

  test('an undone change removes only what has its mark', async () => {
    const tools = new MadeUpTools({ lvs: lvs(lv({}), copy, unfinished) });
    await new LvmDriver(thick, tools).undo({ change: '0123456789abcdef', locker: 'data' });
    expect(tools.asked.filter((line) => line.startsWith('lvremove'))).toEqual([
      'lvremove --quiet --yes -- raid/lockersnap-2',
    ]);
  });

  test('what lockerd has not made is not destroyed', async () => {
    const tools = new MadeUpTools({ lvs: lvs(lv({ lv_tags: 'mine' })) });
    expect(await errorOf(new LvmDriver(thick, tools).destroy('data'))).toMatch(
      /^Failed: .*lvremove/,
    );
    expect(tools.asked.filter((line) => line.startsWith('lvremove'))).toEqual([]);
  });
});

describe('the place of a store of directories', () => {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'store-')));
  afterAll(() => {
    rmSync(path, { recursive: true });
  });
  const mount: Mount = {
    id: 2,
    parent: 1,
    device: '8:1',
    root: '/',
    mountPoint: path,
    readOnly: false,
    options: ['rw'],
    type: 'ext4',
    source: '/dev/sda1',
    superOptions: ['rw', 'prjquota'],
  };
  const driverOn = (mounts: readonly Mount[], tools = new MadeUpTools({})) =>
    new DirectoryDriver(
      { name: 'files', type: 'directory', path, options: [], definition: 'unit' },
      tools,
      () => mounts,
    );

  test.each([
    [[], /is not mounted/],
    [[{ ...mount, type: 'tmpfs' }], /is tmpfs, and neither ext4 nor xfs/],
    [[{ ...mount, superOptions: ['rw'] }], /has no project quotas.*prjquota.*tune2fs/],
    [[{ ...mount, type: 'xfs', superOptions: ['rw'] }], /has no project quotas.*"prjquota"$/],
  ])('has to be such a file system (%#)', async (mounts, why) => {
    expect(await errorOf(driverOn(mounts).space())).toMatch(/^NoSuchStore: /);
    expect(await errorOf(driverOn(mounts).space())).toMatch(why);
  });

  test('lockers are directories with a limit of their own; hidden and others are none', async () => {
    for (const name of ['data', 'lost+found', '.unfinished-1', 'plain'])
      mkdirSync(join(path, name));
    mkdirSync(join(path, '.snapshots/data/monday@1700000000000000@1048576'), { recursive: true });
    mkdirSync(join(path, '.snapshots/data/.unfinished-2'));
    const tools = new MadeUpTools({
      repquota: '#1000000,ok,ok,4,0,1024,,1,0,0,\n#0,ok,ok,4,0,0,,1,0,0,\n',
      lsattr: '1000000 -----P--------- /x\n',
    });
    const found = await driverOn([mount], tools).lockers();
    expect(found.map(({ locker }) => locker)).toEqual(['data', 'plain']);
    expect(found[0]).toEqual({
      locker: 'data',
      size: 1048576n,
      used: 4096n,
      snapshots: [{ name: 'monday', createdUsec: 1700000000000000n, size: 1048576n, used: 4096n }],
    });
  });
});
