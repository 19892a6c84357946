import { expect, test } from 'vitest';
import { settingsBetweenReloads } from '../../src/autoballoon/settings.ts';
import type { ListedUnit, ManagerListener } from '../../src/adapters/systemd-manager.ts';
import { busError, DBusError } from '../../src/bus/values.ts';
import { decodeContainer } from '../../src/model/facts.ts';

const facts = decodeContainer('[X-Lockerd]\nContainer=web\nAutoballoon=67108864 536870912\n');

test('settings that are read while systemd reads its unit files are read again', async () => {
  if (facts === undefined) throw new Error('no container');
  const found = [[], [facts]];
  let listener: ManagerListener = {};
  const answers: (() => ListedUnit[])[] = [
    () => {
      throw new DBusError(busError.noReply, 'reloading');
    },
    () => {
      listener.reloaded?.();
      return [];
    },
    () => [],
  ];
  const settings = settingsBetweenReloads(
    {
      read: () =>
        Promise.resolve({ containers: found.shift() ?? [], lockers: [], problems: [] } as never),
    },
    {
      listen: (one) => {
        listener = one;
        return () => undefined;
      },
      listLoaded: () =>
        new Promise((resolve) => {
          resolve(answers.shift()?.() ?? []);
        }),
    },
  );
  expect((await settings()).map(({ name }) => name)).toEqual(['web']);
  expect([found, answers]).toEqual([[], []]);
});
