import { pathInstance, unitNameFits } from './unit-name.ts';

/** One locker in one container. */
export interface Attachment {
  readonly locker: string;
  /** Where the host mounts the locker. */
  readonly source: string;
  /** Its place in the container's wormhole. */
  readonly target: string;
  readonly readOnly: boolean;
  /** The host itself has mounted the locker read-only. */
  readonly readOnlyOnHost: boolean;
  /** The encrypted device that it is on, if that is closed when no container has it any more. */
  readonly volume?: string;
}

/** Directory of the read-only mounts of lockers, which serve as sources of bind mounts. */
const readOnlyDirectory = '/run/lockerd/read-only';

/**
 * Path of a locker's read-only mount on the host. mount(8) first binds and then makes the new mount
 * read-only, but only the first step propagates from the wormhole into a container. A bind of a
 * read-only mount is read-only from the start.
 */
export function readOnlyPath(locker: string): string {
  return `${readOnlyDirectory}/${locker}`;
}

/**
 * Where the host creates the mount points of all wormholes, a directory for each container. The directory
 * of wormholes is a read-only mount of the same file system, even on the host, so that no container can
 * write there.
 */
export const slotsDirectory = '/run/lockerd/slots';

/** Where the host creates the mount points of a container's wormhole. */
export function slotsPath(container: string): string {
  return `${slotsDirectory}/${container}`;
}

/** The path from which an attachment is bound. */
export function bindSource(a: Attachment): string {
  return a.readOnly ? readOnlyPath(a.locker) : a.source;
}

/**
 * Options= of an attachment's mount unit, whose type is `lockerd`: mount.lockerd(8) makes the mount point,
 * which systemd cannot. `idmap` has the form of X-mount.idmap= in mount(8).
 */
export function bindOptions(a: Attachment, idmap?: string): string {
  return [
    'locker',
    ...(a.readOnly ? ['ro'] : []),
    ...(idmap === undefined ? [] : [`idmap=${idmap}`]),
  ].join(',');
}

/**
 * The service that notes how an encrypted volume was found, and closes it when no container uses it any
 * more. Its instance is that of the unit which opens the volume, systemd-cryptsetup@.service.
 * @param device a path below /dev/mapper
 */
export function volumeUnit(device: string): string {
  return pathInstance('lxc-volume', device.slice('/dev/mapper'.length));
}

/**
 * Services that run as long as a container has the locker: one keeps a privileged guest from making it
 * read-only for everybody else. The container starts even if they fail.
 */
export function guardUnits(a: Attachment): string[] {
  const units = a.readOnlyOnHost ? [] : [pathInstance('lockerd-pin', a.source)];
  if (a.volume !== undefined) units.push(volumeUnit(a.volume));
  return units.filter(unitNameFits);
}
