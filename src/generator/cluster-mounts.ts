/** Mounts that a cluster makes for the containers that it runs, and nothing else of the host. */
import type { FstabEntry } from '../model/fstab.ts';
import { indexOf } from '../model/fstab-index.ts';
import { mountUnit, unitNameFits } from '../model/unit-name.ts';
import { fitsRestOfLine, unitText } from '../model/unit-syntax.ts';
import type { Container } from './container.ts';
import type { Planned } from './plan-views.ts';

/**
 * What fstab has with `noauto` for a container of a cluster: for its lockers, its root file system and
 * whatever else it needs. Each host has the line, and the cluster mounts it on one of them. What a boot
 * mounts on each host is not among them.
 * @returns outer mounts before inner ones, otherwise in the order of the table
 */
export function clusterMounts(
  { settings, requiredPaths, startPaths, wormhole }: Container,
  fstab: readonly FstabEntry[],
): readonly FstabEntry[] {
  if (settings.managedBy === undefined) return [];
  const lockers = (wormhole?.attachments ?? []).map(({ source }) => source);
  const depth = ({ target }: FstabEntry): number => target.split('/').length;
  return indexOf(fstab)
    .onTheWay(...requiredPaths, ...startPaths, ...lockers)
    .filter(({ options }) => options.includes('noauto'))
    .sort((a, b) => depth(a) - depth(b));
}

/**
 * Keeps systemd from mounting them, whoever asks: a start of the container, an attachment, an admin. The
 * cluster does not go by their units.
 */
export function planClusterMounts(
  containers: readonly Container[],
  fstab: readonly FstabEntry[],
): Planned[] {
  const targets = new Set(containers.flatMap((c) => clusterMounts(c, fstab)).map((m) => m.target));
  return [...targets]
    .filter((target) => fitsRestOfLine(target) && unitNameFits(mountUnit(target)))
    .map((target) => ({
      kind: 'file',
      path: `${mountUnit(target)}.d/60-lockerd.conf`,
      template: 'clusterMount',
      view: { where: unitText(target) },
    }));
}
