/** The interface org.lockerd1.Manager, whole and in the order of org.lockerd1.xml. */

import { interfaces } from '../api/names.ts';
import { method, type Interface } from '../bus/interface-table.ts';
import { busError, DBusError } from '../bus/values.ts';
import { LockerdError } from '../model/errors.ts';
import type { PermissionObject } from '../core/permissions.ts';
import { quoted } from '../core/quoted.ts';
import { answering } from './bus-errors.ts';
import { byName, type ContainerMethods } from './container-methods.ts';
import { describeContainersMethod } from './describe.ts';
import type { LockerMethods } from './locker-methods.ts';
import { forCaller, type ServiceContext } from './service-context.ts';
import { containerPath, jobPath, lockerPath, parsePath } from '../api/paths.ts';

/** What a client can count on beyond the interface itself. */
const features = [
  ...['autostart', 'balloon', 'describe', 'freeze', 'limits', 'lockers', 'persist', 'request-id'],
  'stores',
];

/** org.lockerd1.Manager, of /org/lockerd1. */
// eslint-disable-next-line max-lines-per-function -- The table of the interface, which is read as a whole.
export function managerInterface(
  context: ServiceContext,
  methods: ContainerMethods,
  lockers: LockerMethods,
): Interface {
  const { core } = context;
  const { host, jobs } = core;
  return {
    name: interfaces.manager,
    methods: {
      StartContainer: byName(methods.start),
      StopContainer: byName(methods.stop),
      RebootContainer: byName(methods.reboot),
      FreezeContainer: byName(methods.freeze),
      ThawContainer: byName(methods.thaw),
      Balloon: byName(methods.balloon),
      SetLimits: byName(methods['set-limits']),
      MountLocker: byName(methods['mount-locker']),
      UnmountLocker: byName(methods['unmount-locker']),
      SetAutostart: byName(methods['set-autostart']),
      CreateLocker: lockers['create-locker'](),
      GrowLocker: lockers['grow-locker'](),
      RenameLocker: lockers['rename-locker'](),
      SnapshotLocker: lockers['snapshot-locker'](),
      ListSnapshots: lockers['list-snapshots'](),
      RestoreLocker: lockers['restore-locker'](),
      ForgetLocker: lockers['forget-locker'](),
      AdoptLocker: lockers['adopt-locker'](),
      LookAtLockers: lockers.look(),
      ListStores: lockers['list-stores'],
      ListContainers: method({
        in: [],
        out: [['containers', 'a(sso)']],
        handler: () => [
          host.containers.map(({ name, state }) => [name, state, containerPath(name)]),
        ],
      }),
      ListLockers: method({
        in: [],
        out: [['lockers', 'a(sso)']],
        handler: () => [
          host.lockers.map(({ name, isMounted }) => [
            name,
            isMounted ? 'mounted' : 'unmounted',
            lockerPath(name),
          ]),
        ],
      }),
      ListJobs: method({
        in: [],
        out: [['jobs', 'a(usso)']],
        handler: () => [
          jobs.unfinished.map(({ id, verb, container }) => [id, verb, container, jobPath(id)]),
        ],
      }),
      GetContainer: method({
        in: [['name', 's']],
        out: [['container', 'o']],
        handler: (_, [name]) =>
          answering(() => {
            if (host.container(name)) return [containerPath(name)];
            throw new LockerdError('NoSuchContainer', `there is no container ${quoted(name)}`);
          }),
      }),
      GetLocker: method({
        in: [['name', 's']],
        out: [['locker', 'o']],
        handler: (_, [name]) =>
          answering(() => {
            if (host.locker(name)) return [lockerPath(name)];
            throw new LockerdError('NoSuchLocker', `there is no locker ${quoted(name)}`);
          }),
      }),
      DescribeContainers: describeContainersMethod(context),
      GetPermissions: method({
        in: [['object', 'o']],
        out: [['permissions', 'a{ss}']],
        handler: (call, [path]) =>
          forCaller(context.callers, call, async (caller) => {
            const answers = await core.permissions(caller, objectAt(context, path));
            return [Object.fromEntries(answers)];
          }),
      }),
    },
    properties: {
      Version: { signature: 's', emits: 'const', get: () => context.version },
      Features: { signature: 'as', emits: 'const', get: () => features },
      Authority: { signature: 's', emits: 'true', get: () => core.authorityState },
      Limits: { signature: 'a{su}', emits: 'const', get: () => core.quota.limits },
    },
    signals: {
      JobNew: [
        ['id', 'u'],
        ['job', 'o'],
        ['verb', 's'],
        ['container', 's'],
      ],
      JobRemoved: [
        ['id', 'u'],
        ['job', 'o'],
        ['verb', 's'],
        ['container', 's'],
        ['result', 's'],
        ['error_name', 's'],
      ],
      PermissionsChanged: [],
    },
  };
}

function objectAt({ core }: ServiceContext, path: string): PermissionObject {
  const parsed = parsePath(path);
  switch (parsed?.kind) {
    case 'manager':
      return parsed;
    case 'container': {
      const container = core.host.container(parsed.name);
      if (container) return { kind: 'container', container };
      break;
    }
    case 'locker': {
      const locker = core.host.locker(parsed.name);
      if (locker) return { kind: 'locker', locker };
      break;
    }
    case 'job': {
      const job = core.jobs.get(parsed.id);
      if (job) return { kind: 'job', job };
      break;
    }
    case undefined:
      break;
  }
  throw new DBusError(busError.unknownObject, `there is no object ${quoted(path)}`);
}
