import { expect, test } from 'vitest';
import { betweenReloads } from '../../src/systemd/reload.ts';
import type { ListedUnit, ManagerListener } from '../../src/systemd/manager.ts';
import { busError, DBusError } from '../../src/bus/values.ts';
import { decodeContainer } from '../../src/model/facts.ts';

const facts = decodeContainer('[X-Lockerd]\nContainer=web\nAutoballoon=67108864 536870912\n');

test('definitions that are read while systemd reads its unit files are read again', async () => {
  if (facts === undefined) throw new Error('no container');
  const found = [[], [facts]];
  let listener: ManagerListener = {};
  const answers: (() => ListedUnit[])[] = [
    () => {
      throw new DBusError(busError.noReply, 'reloading');
    },
    () => {
      listener.reloaded?.(false);
      return [];
    },
    () => [],
  ];
  const definitions = betweenReloads(
    {
      read: () => Promise.resolve({ containers: found.shift() ?? [], lockers: [], problems: [] }),
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
  expect((await definitions.read()).containers.map(({ name }) => name)).toEqual(['web']);
  expect([found, answers]).toEqual([[], []]);
});
