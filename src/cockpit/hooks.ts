/** What components read of the host. */

import { createContext, useContext, useEffect, useState, useSyncExternalStore } from 'react';
import type { Host, Snapshot } from './host.ts';
import type { Notices } from './notices.ts';
import { memoryOf, sightOf, type Sight } from './objects.ts';
import { interfaces } from '../api/names.ts';
import { managerPath } from '../api/paths.ts';
import { isObject, unwrap } from './values.ts';

export interface Services {
  readonly host: Host;
  readonly notices: Notices;
}

export const ServicesContext = createContext<Services | undefined>(undefined);

export function useServices(): Services {
  const services = useContext(ServicesContext);
  if (services === undefined) throw new Error('no services');
  return services;
}

export function useSnapshot(): Snapshot {
  const { host } = useServices();
  return useSyncExternalStore(host.subscribe, host.snapshot);
}

/** Asks again and again while somebody sees the page. A question that fails leaves the last answer. */
export function usePolled<T>(ask: () => Promise<T>, everyMs: number, key: string): T | undefined {
  const [answer, setAnswer] = useState<T>();
  useEffect(() => {
    let timer: number | undefined;
    let isOver = false;
    const look = async (): Promise<void> => {
      window.clearTimeout(timer);
      if (cockpit.hidden || document.hidden) return;
      const found = await ask().catch(() => undefined);
      if (isOver) return;
      if (found !== undefined) setAnswer(found);
      window.clearTimeout(timer);
      timer = window.setTimeout(() => void look(), everyMs);
    };
    const onVisible = (): void => void look();
    cockpit.addEventListener('visibilitychange', onVisible);
    document.addEventListener('visibilitychange', onVisible);
    void look();
    return () => {
      isOver = true;
      window.clearTimeout(timer);
      cockpit.removeEventListener('visibilitychange', onVisible);
      document.removeEventListener('visibilitychange', onVisible);
    };
    // The question is made anew at each drawing; its key says when it is another one.
  }, [key, everyMs]);
  return answer;
}

const allFiguresEveryMs = 4000;
const sightsEveryMs = 15_000;

/**
 * The memory that each container has, by path.
 * @param isAnyUp without one that runs, nobody is asked
 */
export function useAllMemory(isAnyUp: boolean): ReadonlyMap<string, number> {
  const { host } = useServices();
  const ask = async (): Promise<ReadonlyMap<string, number>> => {
    const objects = isAnyUp ? await host.managedObjects() : {};
    const found = Object.entries(objects).flatMap(([path, object]) => {
      const memory = memoryOf(object[interfaces.container]);
      return memory === undefined ? [] : [[path, memory] as const];
    });
    return new Map(found);
  };
  return usePolled(ask, allFiguresEveryMs, `all ${isAnyUp}`) ?? new Map<string, number>();
}

/** What is seen of the guests by name. @param key changes when others run */
export function useSights(names: readonly string[], key: string): ReadonlyMap<string, Sight> {
  const { host } = useServices();
  const ask = async (): Promise<ReadonlyMap<string, Sight>> => {
    const args = [names];
    const [answer] = await host.call(
      managerPath,
      interfaces.manager,
      'DescribeContainers',
      args,
      'as',
    );
    const found = isObject(answer) ? Object.entries(answer) : [];
    return new Map(found.map(([name, seen]) => [name, sightOf(unwrap(seen))]));
  };
  return usePolled(ask, sightsEveryMs, key) ?? new Map<string, Sight>();
}

/** What the user may do with an object, by action; undefined until polkit has answered. */
export function usePermissions(path: string | undefined): ReadonlyMap<string, string> | undefined {
  const { host } = useServices();
  const { permissionsEpoch, connection } = useSnapshot();
  const [answer, setAnswer] = useState<ReadonlyMap<string, string>>();
  useEffect(() => {
    let isOver = false;
    if (path !== undefined && connection === 'ready') {
      host.permissions(path).then(
        (permissions) => {
          if (!isOver) setAnswer(permissions);
        },
        // An object that has gone has no permissions.
        () => undefined,
      );
    }
    return () => {
      isOver = true;
    };
  }, [host, path, permissionsEpoch, connection]);
  return answer;
}

const readLocation = (): string => cockpit.location.path.join('/');

function subscribeToLocation(listener: () => void): () => void {
  cockpit.addEventListener('locationchanged', listener);
  return () => {
    cockpit.removeEventListener('locationchanged', listener);
  };
}

/** The parts of the path behind `#/`. */
export function useRoute(): readonly string[] {
  useSyncExternalStore(subscribeToLocation, readLocation);
  return cockpit.location.path;
}
