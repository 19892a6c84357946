/** What concerns the host and no container in particular. */
import { hostFactsFile } from '../model/facts.ts';
import { defaultLxcpath } from '../model/path.ts';
import { netDeviceUnit } from '../model/unit-name.ts';
import { fitsRestOfLine, fitsUnitFile, unitText, unitWord } from '../model/unit-syntax.ts';
import { compareText } from './container.ts';
import type { Fact, PlanContext, Planned } from './plan-views.ts';
import { bootTarget, command, hookDirectory, planLink } from './plan-views.ts';

export function planBridge(name: string, timeout: string): Planned {
  return {
    kind: 'file',
    path: `${netDeviceUnit(name)}.d/60-lockerd.conf`,
    template: 'bridge',
    view: { interface: name, timeout },
  };
}

/** The second look at boot, after local file systems are mounted. */
export function planRescan(context: PlanContext): Planned[] {
  return [
    {
      kind: 'file',
      path: 'lockerd-rescan.service.d/60-paths.conf',
      template: 'rescan',
      view: {
        unit: [
          ...(context.lateMounts.length === 0 ? [] : [`Wants=${lateService}`]),
          ...context.watchedMounts.map((unit) => `After=${unit}`),
        ],
        execStart: command(
          `${hookDirectory}/rescan`,
          context.watched.map(({ path, identity }) => `${identity}=${path}`),
        ),
      },
    },
    planLink(`${bootTarget}.wants`, 'lockerd-rescan.service', 'lockerd-rescan.service'),
  ];
}

const lateService = 'lockerd-late.service';

/** What finds containers on file systems that are mounted after the second look. */
export function planLate({ lateMounts }: PlanContext): Planned[] {
  if (lateMounts.length === 0) return [];
  const execStart = command(`${hookDirectory}/late-containers`, lateMounts);
  return [
    {
      kind: 'file',
      path: `${lateService}.d/60-paths.conf`,
      template: 'late',
      view: { execStart },
    },
  ];
}

/** Where the path unit watches, if that is not where the packaged one does. */
export function planWatch({ lxcpath }: PlanContext): Planned[] {
  if (lxcpath === defaultLxcpath || !fitsRestOfLine(lxcpath)) return [];
  return [
    {
      kind: 'file',
      path: 'lockerd-containers.path.d/60-lxcpath.conf',
      template: 'containers',
      view: { lxcpath: unitText(lxcpath) },
    },
  ];
}

/** What lxc-start says at each start and nobody needs to read; for all containers. */
export function planJournal({ filtersLog }: PlanContext): Planned[] {
  if (!filtersLog) return [];
  return [{ kind: 'file', path: 'lxc@.service.d/60-journal.conf', template: 'journal', view: {} }];
}

/** What concerns no container in particular, beside the unit of the service that reads it. */
export function planHost({ host, lockers }: PlanContext): Planned {
  const facts: Fact[] = [
    { key: 'LockerDirectory', value: unitWord(host.lockerDirectory) },
    { key: 'WormholeDirectory', value: unitWord(host.wormholeDirectory) },
    { key: 'RootWithoutPolkit', value: host.rootWithoutPolkit ? 'yes' : 'no' },
  ];
  for (const name of [...lockers.keys()].sort(compareText)) {
    const path = lockers.get(name)?.path ?? '';
    if (!fitsUnitFile(path)) continue;
    facts.push({ key: 'Locker', value: `${unitWord(name)} ${unitWord(path)}` });
  }
  return {
    kind: 'file',
    path: hostFactsFile,
    template: 'host',
    view: { facts },
  };
}
