import { expect, test } from 'vitest';
import { commands, inline } from '../package/install-chapter.ts';

test('the tier package runs each command of the chapter "Install"', () => {
  expect(commands.length).toBeGreaterThanOrEqual(4);
  // It runs each of these as well: whoever adds one adds it there.
  expect([...new Set(inline)].sort()).toEqual([
    'lockerctl import',
    'lockerctl import --apply',
    'lxc-stop -n web && systemctl start lxc@web',
    'systemctl disable lxc@web',
    'systemctl enable',
    'systemctl is-enabled lxc@web',
    'systemctl start lxc-autostart.target',
  ]);
});
