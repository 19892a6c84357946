/** The mount units of lockers: wormholes, attachments, and where read-only ones are bound from. */
import {
  bindOptions,
  bindSource,
  guardUnits,
  readOnlyPath,
  slotsDirectory,
  volumeUnit,
} from '../model/attachment.ts';
import { containerUnit, mountUnit, unitNameFits } from '../model/unit-name.ts';
import { unitText, unitWord } from '../model/unit-syntax.ts';
import type { Attachment, Lockers } from '../host/lockers.ts';
import { whyNoMountUnit } from '../host/lockers.ts';
import type { Container } from './container.ts';
import type { PlanContext, Planned } from './plan-views.ts';

/** Attaches lockers that come while their containers run. */
export const returnUnit = 'lockerd-return.service';

/** The mount that all wormholes are directories of; the packaged unit of the slots makes these. */
export function planWormholes(
  containers: readonly Container[],
  { host: { wormholeDirectory } }: PlanContext,
): Planned[] {
  if (containers.every(({ wormhole }) => wormhole === undefined)) return [];
  return [
    {
      kind: 'file',
      path: mountUnit(wormholeDirectory),
      template: 'wormholes',
      view: { slots: slotsDirectory, where: unitText(wormholeDirectory) },
    },
  ];
}

export function planAttachments(c: Container): Planned[] {
  const { wormhole } = c;
  if (wormhole === undefined || c.problems.length > 0) return [];
  return wormhole.attachments.map((a: Attachment): Planned => ({
    kind: 'file',
    path: mountUnit(a.target),
    template: 'attachment',
    view: {
      configFile: unitText(c.configFile),
      unit: containerUnit(c.name),
      description: unitText(`Locker "${a.locker}" in LXC container "${c.name}"`),
      what: unitText(bindSource(a)),
      where: unitText(a.target),
      options: bindOptions(a, wormhole.idmap),
      mount: mountUnit(bindSource(a)),
      guards: guardUnits(a),
    },
  }));
}

/** Whether the container gets a locker whenever that is mounted. */
export function hasReturning({ problems, wormhole }: Container): boolean {
  return problems.length === 0 && wormhole?.attachments.some(({ auto }) => auto === true) === true;
}

/** What hooks/return-lockers has to know: lockers that come, and the attachments to start then. */
export function planReturning(containers: readonly Container[]): Planned[] {
  const lockers = containers
    .filter(hasReturning)
    .flatMap(({ name, wormhole }) =>
      (wormhole?.attachments ?? [])
        .filter(({ auto }) => auto === true)
        .map((a) => [mountUnit(a.source), containerUnit(name), mountUnit(a.target)].join(' ')),
    );
  if (lockers.length === 0) return [];
  const path = `${returnUnit}.d/60-lockers.conf`;
  return [{ kind: 'file', path, template: 'returning', view: { lockers } }];
}

/** What hooks/note-volume has to know: the mounts of lockers on encrypted volumes. */
export function planVolumes(lockers: Lockers): Planned[] {
  const mounts = new Map<string, string[]>();
  for (const { path, volume } of lockers.values()) {
    if (volume === undefined || whyNoMountUnit(path) !== undefined) continue;
    const unit = volumeUnit(volume);
    if (unitNameFits(unit)) mounts.set(unit, [...(mounts.get(unit) ?? []), mountUnit(path)]);
  }
  return [...mounts].map(([unit, units]): Planned => {
    const view = { mounts: units, environment: unitWord(`LOCKERD_MOUNTS=${units.join(' ')}`) };
    return { kind: 'file', path: `${unit}.d/60-lockers.conf`, template: 'volume', view };
  });
}

/**
 * Where read-only attachments are bound from; systemd loads the unit of a locker only while there
 * is one. Each locker has it, as it may be attached read-only at any time.
 */
export function planReadOnly(
  lockers: Lockers,
  containers: readonly Container[],
  emit: (planned: Planned) => void,
): void {
  for (const { name, path } of lockers.values()) planReadOnlyOf(name, path, emit);
  const late = new Map<string, string>();
  for (const { wormhole } of containers) {
    for (const { locker, source } of wormhole?.attachments ?? []) {
      if (!lockers.has(locker)) late.set(locker, source);
    }
  }
  for (const [name, path] of late) planReadOnlyOf(name, path, emit);
}

function planReadOnlyOf(name: string, path: string, emit: (planned: Planned) => void): void {
  const where = readOnlyPath(name);
  if (whyNoMountUnit(where) !== undefined || whyNoMountUnit(path) !== undefined) return;
  const description = unitText(`Locker "${name}", read-only`);
  emit({
    kind: 'file',
    path: mountUnit(where),
    template: 'readOnly',
    view: { description, mount: mountUnit(path), what: unitText(path), where: unitText(where) },
  });
}
