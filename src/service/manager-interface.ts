import { interfaces } from '../api/names.ts';
import { method, type Interface } from '../bus/interface-table.ts';
import { busError, DBusError } from '../bus/values.ts';
import { LockerdError } from '../model/errors.ts';
import type { PermissionObject } from '../core/permissions.ts';
import { quoted } from '../core/quoted.ts';
import { optionsOf } from '../core/container-request.ts';
import { answering } from './bus-errors.ts';
import {
  jobArgument,
  optionsArgument,
  forCaller,
  onlyOptions,
  requestJob,
  type Options,
  type ServiceContext,
} from './requests.ts';
import { containerPath, jobPath, lockerPath, parsePath } from '../api/paths.ts';

/** What a client can count on beyond the interface itself. */
const features = ['balloon', 'freeze', 'lockers', 'persist', 'request-id'];

/** org.lockerd1.Manager, of /org/lockerd1. */
export function managerTable(context: ServiceContext): Interface {
  const { core } = context;
  const { host, jobs } = core;
  const plain = (verb: 'start' | 'stop' | 'reboot' | 'freeze' | 'thaw') =>
    method({
      in: [['container', 's'], optionsArgument],
      out: [jobArgument],
      checkEntry: onlyOptions(optionsOf[verb]),
      handler: (call, [container, options]) =>
        requestJob(context, call, { verb, container }, options as Options),
    });
  const withLocker = (verb: 'mount-locker' | 'unmount-locker') =>
    method({
      in: [['container', 's'], ['locker', 's'], optionsArgument],
      out: [jobArgument],
      checkEntry: onlyOptions(optionsOf[verb]),
      handler: (call, [container, locker, options]) =>
        requestJob(context, call, { verb, container, locker }, options as Options),
    });
  return {
    name: interfaces.manager,
    methods: {
      StartContainer: plain('start'),
      StopContainer: plain('stop'),
      RebootContainer: plain('reboot'),
      FreezeContainer: plain('freeze'),
      ThawContainer: plain('thaw'),
      Balloon: method({
        in: [['container', 's'], ['limit_bytes', 't'], optionsArgument],
        out: [jobArgument],
        checkEntry: onlyOptions(optionsOf.balloon),
        handler: (call, [container, limit, options]) =>
          requestJob(context, call, { verb: 'balloon', container, limit }, options as Options),
      }),
      MountLocker: withLocker('mount-locker'),
      UnmountLocker: withLocker('unmount-locker'),
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
      GetPermissions: method({
        in: [['object', 'o']],
        out: [['permissions', 'a{ss}']],
        handler: (call, [path]) =>
          forCaller(context, call, async (caller) => {
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
