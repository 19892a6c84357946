/** The definition that a change gives a locker: what it says, how it is mounted, how it is taken away again. */

import { mountUnit } from '../model/unit-name.ts';
import type { Definition } from '../stores/definition.ts';
import type { Driver } from '../stores/driver.ts';
import type { Layer } from '../stores/layer.ts';
import { layerFor } from '../stores/layers.ts';
import type { AdoptChange, MakeChange } from './changes.ts';
import { endChange } from './changes.ts';
import type { LockerContext } from './locker-context.ts';
import { mountLocker, unmountLocker } from './locker-context.ts';
import {
  enable,
  fileOf,
  removeMountPoint,
  removeUnfinished,
  undefine,
} from './locker-definitions.ts';
import { viewLockers } from './locker-view.ts';

/** Ends with a locker that was not defined before. */
type DefiningChange = MakeChange | AdoptChange;

interface Named {
  readonly locker: string;
  readonly mountPoint: string;
  /** User id of who had it made. */
  readonly creator: number;
  /** Id of the change. */
  readonly change: string;
  /** Undefined where it is not encrypted. */
  readonly encrypt: string | undefined;
}

/** What will be defined. */
export function definitionFor(driver: Driver, layer: Layer, named: Named): Definition {
  const { encrypt, ...rest } = named;
  return {
    ...rest,
    source: driver.source(named.locker, layer),
    options: driver.settings.options,
    store: driver.settings.name,
    ...(encrypt === undefined ? {} : { encrypt }),
  };
}

/** The layer that a change's definition asks for. */
export function layerOf(change: DefiningChange, { tools }: LockerContext): Layer {
  const { encrypt = 'no', locker } = change.definition;
  const uuid = change.verb === 'adopt' ? undefined : change.uuid;
  return layerFor(encrypt, { locker, tools, uuid });
}

/** Whether the definition that a change was to write is there. */
export function isDefined({ definition, id }: DefiningChange): boolean {
  return viewLockers().lockers.get(definition.locker)?.origin?.change === id;
}

/** Mounts a locker that is defined, now and at each boot. Can be repeated. */
export async function mountDefined(
  context: LockerContext,
  { mountPoint }: Pick<Definition, 'mountPoint'>,
): Promise<void> {
  enable({ mountPoint });
  await context.systemd.reload();
  await mountLocker(context, mountPoint);
}

/**
 * Takes away what a change has defined, and what opens its volume; the data is not touched. Can be repeated.
 * @param undoRest undoes what else the change has done, before its record goes
 */
export async function withdraw<T>(
  context: LockerContext,
  change: DefiningChange,
  undoRest: (layer: Layer) => Promise<T>,
): Promise<T> {
  const { definition, store } = change;
  const { locker: name, mountPoint } = definition;
  const { systemd, tools } = context;
  const unit = mountUnit(mountPoint);
  if (isDefined(change)) {
    await unmountLocker(tools, { name, mountPoint });
    const file = fileOf(definition, store.definition);
    await tools.alone(() => undefine({ name, mountPoint, unit, file }));
    await systemd.reload();
  }
  const layer = layerOf(change, context);
  await layer.close();
  await tools.alone(async () => {
    removeUnfinished(definition);
    await layer.forget();
  });
  const rest = await undoRest(layer);
  removeMountPoint(mountPoint);
  endChange(change);
  await systemd.resetFailed(unit);
  return rest;
}
