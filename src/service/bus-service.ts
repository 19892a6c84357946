import { interfaces } from '../api/names.ts';
import type { ServiceConnection } from '../bus/connection.ts';
import type { ObjectTree } from '../bus/object-tree.ts';
import { serve } from '../bus/serve.ts';
import type { Clock } from '../core/clock.ts';
import { Core, type CorePorts } from '../core/core.ts';
import type { Job } from '../core/jobs.ts';
import type { Limits } from '../core/user-quota.ts';
import type { ClientsPort, MemoryFigures, MemoryPort } from '../core/ports.ts';
import type { HostEvent } from '../core/host-objects.ts';
import { asBusError } from './bus-errors.ts';
import { Callers } from './callers.ts';
import { containerTable } from './container-interface.ts';
import type { ServiceContext } from './requests.ts';
import { errorOf, jobTable } from './job-interface.ts';
import { lockerTable } from './locker-interface.ts';
import { managerTable } from './manager-interface.ts';
import { containerPath, jobPath, lockerPath, managerPath } from '../api/paths.ts';
import { Published } from './published.ts';

export interface ServiceOptions {
  readonly connection: ServiceConnection;
  readonly ports: CorePorts & { readonly clients: ClientsPort };
  readonly clock: Clock;
  readonly version: string;
  readonly limits?: Limits;
}

/** The four memory properties are asked for one after the other, and mean one moment. */
const figuresFreshMs = 100;

/**
 * Puts the core on a bus: settles when its objects answer. The service's name is still to be
 * requested.
 */
export async function startService(options: ServiceOptions): Promise<Core> {
  const { connection, ports, clock, version, limits } = options;
  const core = new Core(ports, clock, limits);
  await core.start();
  const callers = new Callers(ports.clients);
  const context: ServiceContext = {
    core,
    callers,
    version,
    figures: readFigures(ports.memory, clock),
  };
  const manager = managerTable(context);
  const tree = await serve(connection, {
    objects: {},
    objectManager: managerPath,
    userOf: (sender) => callers.uidOf(sender),
    left: (sender) => {
      callers.forget(sender);
    },
    admit: (uid, cost) => {
      try {
        core.quota.takeCall(uid, cost);
      } catch (error) {
        throw asBusError(error);
      }
      return (difference) => {
        core.quota.settleCall(uid, difference);
      };
    },
  });
  const published = new Published(tree, managerPath, manager);
  new Publisher(core, tree, context).start();
  ports.authority.onStateChanged(() => {
    published.update();
  });
  ports.authority.onPermissionsChanged(() => {
    tree.signal(managerPath, interfaces.manager, 'PermissionsChanged', []);
  });
  return core;
}

/** Keeps the objects on the bus as the core's are. */
class Publisher {
  readonly #core: Core;
  readonly #tree: ObjectTree;
  readonly #tables;
  readonly #objects = new Map<string, Published>();

  constructor(core: Core, tree: ObjectTree, context: ServiceContext) {
    this.#core = core;
    this.#tree = tree;
    this.#tables = {
      container: containerTable(context),
      locker: lockerTable(context),
      job: jobTable(context),
    };
  }

  start(): void {
    const { host, jobs } = this.#core;
    for (const { name } of host.lockers) this.#add(lockerPath(name), 'locker');
    for (const { name } of host.containers) this.#add(containerPath(name), 'container');
    host.changed.add((event) => {
      this.#onHost(event);
    });
    jobs.added.add((job) => {
      this.#add(jobPath(job.id), 'job');
      this.#signal('JobNew', [job.id, jobPath(job.id), job.verb, job.container]);
      this.#updateContainerOf(job);
    });
    jobs.changed.add(({ id }) => {
      this.#objects.get(jobPath(id))?.update();
    });
    jobs.ended.add((job) => {
      this.#updateContainerOf(job);
      const { id, verb, container, result } = job;
      const [errorName] = errorOf(job);
      this.#signal('JobRemoved', [id, jobPath(id), verb, container, result, errorName]);
    });
    jobs.removed.add(({ id }) => {
      this.#remove(jobPath(id));
    });
  }

  #onHost({ kind, type, name }: HostEvent): void {
    const path = type === 'container' ? containerPath(name) : lockerPath(name);
    switch (kind) {
      case 'added':
        this.#add(path, type);
        break;
      case 'changed':
        this.#objects.get(path)?.update();
        break;
      case 'removed':
        this.#remove(path);
        break;
    }
  }

  #add(path: string, kind: 'container' | 'locker' | 'job'): void {
    this.#objects.set(path, new Published(this.#tree, path, this.#tables[kind]));
  }

  #remove(path: string): void {
    this.#objects.get(path)?.remove();
    this.#objects.delete(path);
  }

  #updateContainerOf({ container }: Job): void {
    this.#objects.get(containerPath(container))?.update();
  }

  #signal(member: string, values: readonly unknown[]): void {
    this.#tree.signal(managerPath, interfaces.manager, member, values);
  }
}

function readFigures(
  memory: MemoryPort,
  clock: Clock,
): (group: string) => Promise<MemoryFigures | undefined> {
  const fresh = new Map<string, Promise<MemoryFigures | undefined>>();
  return (group) => {
    const known = fresh.get(group);
    if (known) return known;
    // A control group that has just gone has no figures.
    const read = memory.read(group).catch(() => undefined);
    fresh.set(group, read);
    clock.after(figuresFreshMs, () => fresh.delete(group));
    return read;
  };
}
