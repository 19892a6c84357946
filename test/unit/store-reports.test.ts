import { expect, test } from 'vitest';
import { parseQuotaGroups } from '../../src/stores/btrfs.ts';
import { parseProjects } from '../../src/stores/directory.ts';
import { parseGroup, parseVolumes } from '../../src/stores/lvm-report.ts';

// As LVM 2.03.31 of Debian 13 writes it.
const volume = {
  lv_name: 'locker-a1',
  lv_uuid: 'OnwLJ9-93kd-juI5-o1Ij-Wbt2-ZQBj-OYWDXk',
  lv_size: '201326592',
  origin: '',
  origin_size: '',
  lv_tags: 'lockerd.change=6ebe43713ed62ef4,lockerd.locker',
  data_percent: '',
  lv_time: '1796050516',
  pool_lv: '',
  lv_active: 'active',
  lv_snapshot_invalid: 'unknown',
};

function lvs(...rows: object[]): string {
  return JSON.stringify({ report: [{ lv: rows }], log: [] });
}

test('volumes, copies and what LVM does not know of them', () => {
  const copy = {
    ...volume,
    lv_name: 'lockersnap-1',
    lv_size: '67108864',
    origin: 'locker-a1',
    origin_size: '201326592',
    data_percent: '0.06',
    lv_snapshot_invalid: 'snapshot invalid',
  };
  const [first, second] = parseVolumes(lvs(volume, copy));
  expect(first).toEqual({
    name: 'locker-a1',
    uuid: volume.lv_uuid,
    size: 201326592n,
    origin: '',
    tags: ['lockerd.change=6ebe43713ed62ef4', 'lockerd.locker'],
    createdSec: 1796050516n,
    pool: '',
    isActive: true,
    isInvalid: false,
  });
  expect(second).toMatchObject({
    size: 67108864n,
    originSize: 201326592n,
    origin: 'locker-a1',
    dataPercent: 0.06,
    isInvalid: true,
  });
});

test('a report that is none is an error and no empty list', () => {
  for (const text of ['', '{}', '{"report":[]}', '{"report":[{"lv":{}}]}']) {
    expect(() => parseVolumes(text), text).toThrow();
  }
  expect(() => parseVolumes(lvs({ ...volume, lv_size: '1.5g' }))).toThrow('lv_size');
  expect(() => parseVolumes(lvs({ ...volume, lv_tags: undefined }))).toThrow('lv_tags');
});

test('a volume group', () => {
  const vg = { vg_size: '4290772992', vg_free: '3208642560', vg_extent_size: '4194304' };
  const text = JSON.stringify({ report: [{ vg: [vg] }], log: [] });
  expect(parseGroup(text)).toEqual({ size: 4290772992n, free: 3208642560n, extent: 4194304n });
  expect(parseGroup('{"report":[{"vg":[]}]}')).toBeUndefined();
});

test('quota groups of btrfs, with a path behind them or not', () => {
  const text = `Qgroupid    Referenced    Exclusive Max referenced   Path
--------    ----------    --------- --------------   ----
0/5              16384        16384           none   <toplevel>
0/256           163840        16384      104857600   a b
1/0                  0            0           none   <0 member qgroups>
`;
  expect(Object.fromEntries(parseQuotaGroups(text))).toEqual({
    5: { referenced: 16384n, exclusive: 16384n },
    256: { referenced: 163840n, exclusive: 16384n, limit: 104857600n },
  });
});

test('projects, whose numbers are in kibibytes', () => {
  const text = `Project,BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed
#0,ok,ok,20,0,0,,2
#1000000,ok,ok,4,0,102400,,1
`;
  expect(Object.fromEntries(parseProjects(text))).toEqual({
    0: { used: 20480n },
    1000000: { used: 4096n, limit: 104857600n },
  });
});
