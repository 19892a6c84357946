import { pathInstance, unitNameFits } from './unit-name.ts';

/** One locker in one container. */
export interface Attachment {
  readonly locker: string;
  /** Where the host mounts the locker. */
  readonly source: string;
  /** Where the container's wormhole has it. */
  readonly target: string;
  readonly readOnly: boolean;
  /** The host itself cannot write to it. */
  readonly readOnlyOnHost: boolean;
}

/** Where lockers are mounted read-only, to be bound from there. */
const readOnlyDirectory = '/run/lockerd/read-only';

/**
 * Where the host has a locker read-only. mount(8) binds first and makes the new mount read-only
 * then, and a container sees the first step of what is mounted in its wormhole and not the second.
 * What is bound from a read-only mount is read-only from its first moment on.
 */
export function readOnlyPath(locker: string): string {
  return `${readOnlyDirectory}/${locker}`;
}

/**
 * Where the host makes the mount points in a container's wormhole. The wormhole shows the same file
 * system read-only, for the host as well, so that no container can write there.
 */
export function slotsPath(container: string): string {
  return `/run/lockerd/slots/${container}`;
}

/** What an attachment is bound from. */
export function bindSource(a: Attachment): string {
  return a.readOnly ? readOnlyPath(a.locker) : a.source;
}

/** Options= of an attachment's mount unit; the map is that of X-mount.idmap= in mount(8). */
export function bindOptions(a: Attachment, idmap?: string): string {
  return [
    'bind',
    ...(a.readOnly ? ['ro'] : []),
    ...(idmap === undefined ? [] : [`X-mount.idmap=${idmap}`]),
  ].join(',');
}

/**
 * Services that keep a privileged guest from making the locker read-only for all others. The
 * container starts without them if need be.
 */
export function guardUnits(a: Attachment): string[] {
  return (a.readOnlyOnHost ? [] : [pathInstance('lockerd-pin', a.source)]).filter(unitNameFits);
}
