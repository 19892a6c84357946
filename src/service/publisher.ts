/** Keeps the objects on the bus as the core's are, and announces what changes. */

import { interfaces } from '../api/names.ts';
import { containerPath, jobPath, lockerPath, managerPath } from '../api/paths.ts';
import type { Interface } from '../bus/interface-table.ts';
import type { ObjectTree } from '../bus/object-tree.ts';
import type { Core } from '../core/core.ts';
import type { HostEvent } from '../core/host-objects.ts';
import type { Job } from '../core/job-queue.ts';
import { containerInterface } from './container-interface.ts';
import { containerMethods } from './container-methods.ts';
import { errorOf, jobInterface } from './job-interface.ts';
import { lockerInterface } from './locker-interface.ts';
import { lockerMethods } from './locker-methods.ts';
import { managerInterface } from './manager-interface.ts';
import type { ServiceContext } from './service-context.ts';

export class Publisher {
  readonly #core: Core;
  readonly #tree: ObjectTree;
  readonly #interfaces;
  readonly #manager: PublishedObject;
  readonly #objects = new Map<string, PublishedObject>();

  constructor(core: Core, tree: ObjectTree, context: ServiceContext) {
    this.#core = core;
    this.#tree = tree;
    const methods = containerMethods(context);
    const lockers = lockerMethods(context);
    this.#interfaces = {
      container: containerInterface(context, methods),
      locker: lockerInterface(context, lockers),
      job: jobInterface(context),
    };
    const manager = managerInterface(context, methods, lockers);
    this.#manager = new PublishedObject(tree, managerPath, manager);
  }

  start(): void {
    const { host, jobs, lockers } = this.#core;
    for (const { name } of host.lockers) this.#add(lockerPath(name), 'locker');
    for (const { name } of host.containers) this.#add(containerPath(name), 'container');
    host.changed.add((event) => {
      this.#onHost(event);
    });
    lockers.looks.changed.add((name) => {
      this.#objects.get(lockerPath(name))?.update();
    });
    jobs.added.add((job) => {
      this.#add(jobPath(job.id), 'job');
      this.#signal('JobNew', [job.id, jobPath(job.id), job.verb, job.container]);
      this.#updateSubjectOf(job);
    });
    jobs.changed.add(({ id }) => {
      this.#objects.get(jobPath(id))?.update();
    });
    jobs.ended.add((job) => {
      this.#updateSubjectOf(job);
      const { id, verb, container, result } = job;
      const [errorName] = errorOf(job);
      this.#signal('JobRemoved', [id, jobPath(id), verb, container, result, errorName]);
    });
    jobs.removed.add(({ id }) => {
      this.#remove(jobPath(id));
    });
  }

  updateManager(): void {
    this.#manager.update();
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
    this.#objects.set(path, new PublishedObject(this.#tree, path, this.#interfaces[kind]));
  }

  #remove(path: string): void {
    this.#objects.get(path)?.remove();
    this.#objects.delete(path);
  }

  #updateSubjectOf({ container, locker }: Job): void {
    const path = container === '' ? lockerPath(locker) : containerPath(container);
    this.#objects.get(path)?.update();
  }

  #signal(member: string, values: readonly unknown[]): void {
    this.#tree.signal(managerPath, interfaces.manager, member, values);
  }
}

/** Text that differs where values differ. */
function imageOf(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'bigint' ? `${part}n` : part,
  );
}

/** An object on the bus. PropertiesChanged announces each property whose value differs. */
class PublishedObject {
  readonly #tree: ObjectTree;
  readonly #path: string;
  readonly #table: Interface;
  readonly #announced = new Map<string, string>();

  constructor(tree: ObjectTree, path: string, table: Interface) {
    this.#tree = tree;
    this.#path = path;
    this.#table = table;
    this.#takeChanges();
    tree.add(path, [table]);
  }

  #takeChanges(): string[] {
    const changed: string[] = [];
    for (const [name, { emits, get }] of Object.entries(this.#table.properties ?? {})) {
      if (emits !== 'true') continue;
      const image = imageOf(get(this.#path));
      if (this.#announced.get(name) === image) continue;
      this.#announced.set(name, image);
      changed.push(name);
    }
    return changed;
  }

  /** Sends one PropertiesChanged with all that is new, or none. */
  update(): void {
    const changed = this.#takeChanges();
    if (changed.length > 0) this.#tree.changed(this.#path, this.#table.name, changed);
  }

  remove(): void {
    this.#tree.remove(this.#path);
  }
}
