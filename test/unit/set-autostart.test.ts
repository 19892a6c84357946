import { describe, expect, test } from 'vitest';
import { planAutostart } from '../../src/helper/set-autostart.ts';
import type { BootView, ContainerView } from '../../src/helper/view.ts';

const policy = { enabled: true, groups: ['onboot', ''], allGroups: false, ignoreAuto: false };

/** A container of which nothing says that it starts. */
const plain: BootView = {
  policy,
  config: { startAuto: false, groups: [] },
  links: { wantedBy: [], isMasked: false },
  runlevelLinks: [],
  isTemplateMasked: false,
};

interface Situation {
  readonly boot?: Partial<BootView>;
  /** The setting, of the container or of the host. */
  readonly autostart?: boolean;
  readonly problems?: readonly string[];
  readonly managedBy?: 'pacemaker';
}

function view({ boot, autostart, problems = [], managedBy }: Situation): ContainerView {
  const merged = {
    ready: 'running',
    ...(autostart === undefined ? {} : { autostart }),
    ...(managedBy === undefined ? {} : { managedBy }),
  };
  return {
    name: 'my web',
    unit: 'lxc@my\\x20web.service',
    own: { problems, merged },
    boot: () => ({ ...plain, ...boot }),
  } as unknown as ContainerView;
}

const auto = { config: { startAuto: true, groups: [] } };
const wantedBy = (...units: string[]) => ({ links: { wantedBy: units, isMasked: false } });
const masked = { links: { wantedBy: [], isMasked: true } };

describe('the setting is written where it decides', () => {
  test.each<[string, boolean, Situation, boolean]>([
    ['a container that nothing starts is enabled', true, {}, true],
    ['one that starts by lxc.start.auto stays as it is', true, { boot: auto }, false],
    ['one whose settings say no is enabled', true, { boot: auto, autostart: false }, true],
    ['one whose settings say yes stays as it is', true, { autostart: true }, false],
    [
      'one that lxc.service leaves alone is enabled',
      true,
      { boot: { ...auto, policy: { ...policy, enabled: false, isServiceOff: true } } },
      true,
    ],
    [
      'one that is enabled with systemctl stays as it is',
      true,
      { boot: wantedBy('multi-user.target') },
      false,
    ],
    [
      'also what says no beside a link says yes then',
      true,
      { boot: { runlevelLinks: ['/etc/rc3.d/S20lxc.my web'] }, autostart: false },
      true,
    ],
    ['one that only another unit wants is enabled', true, { boot: wantedBy('x.service') }, true],
    ['a container that nothing starts stays as it is', false, {}, false],
    ['one with lxc.start.auto is disabled', false, { boot: auto }, true],
    ['one whose settings say yes is disabled', false, { autostart: true }, true],
    ['one whose settings say no stays as it is', false, { boot: auto, autostart: false }, false],
    ['what a mask hides is disabled', false, { boot: { ...masked, ...auto } }, true],
    [
      'one that lxc.service leaves alone stays as it is',
      false,
      { boot: { ...auto, policy: { ...policy, enabled: false } } },
      false,
    ],
  ])('%s', (_, wanted, situation, isWritten) => {
    expect(planAutostart(view(situation), wanted)).toMatchObject({ isWritten });
  });
});

describe('who else decides is named, with the remedy', () => {
  test.each<[string, boolean, Situation, RegExp]>([
    ['a mask', true, { boot: masked }, /is masked; run: systemctl unmask 'lxc@my\\x20web'$/],
    [
      'a mask of all',
      true,
      { boot: { ...masked, isTemplateMasked: true }, autostart: true },
      /lxc@\.service is masked; run: systemctl unmask lxc@\.service$/,
    ],
    [
      'an enabled unit',
      false,
      { boot: { ...wantedBy('multi-user.target'), ...auto } },
      /enabled in multi-user\.target; run: systemctl disable 'lxc@my\\x20web'$/,
    ],
    [
      'an init script',
      false,
      { boot: { runlevelLinks: ['/etc/rc3.d/S20lxc.my web'] }, autostart: false },
      /S20lxc\.my web starts its init script; run: rm '\/etc\/rc3\.d\/S20lxc\.my web'$/,
    ],
    [
      'both',
      false,
      { boot: { ...wantedBy('graphical.target'), runlevelLinks: ['/etc/rc3.d/S20lxc.my web'] } },
      /rm '\/etc.*web'; and .* systemctl disable/,
    ],
    [
      'a cluster',
      true,
      { boot: { ...auto, ...wantedBy('multi-user.target') }, managedBy: 'pacemaker' },
      /would not start at boot: Pacemaker alone starts it; run: crm resource start lxc-my\.20web, or: pcs resource enable lxc-my\.20web$/,
    ],
    [
      'mistakes in the settings',
      false,
      { problems: ['/etc/lockerd/containers/web.conf:3: unknown key "x"; see lockerd.conf(5)'] },
      /^nothing was changed: \/etc\/lockerd\/containers\/web\.conf:3: unknown key "x"/,
    ],
  ])('%s', (_, wanted, situation, message) => {
    expect(() => planAutostart(view(situation), wanted)).toThrow(
      expect.objectContaining({
        code: 'Failed',
        message: expect.stringMatching(message) as string,
      }),
    );
  });

  test('a unit of which nobody knows whether the boot starts it is a warning', () => {
    const { isWritten, warnings } = planAutostart(
      view({ boot: { ...auto, ...wantedBy('backup.service') } }),
      false,
    );
    expect(isWritten).toBe(true);
    expect(warnings).toEqual([
      'container "my web" starts whenever backup.service does, which wants it; ' +
        "to change that: systemctl disable 'lxc@my\\x20web'",
    ]);
  });
});
