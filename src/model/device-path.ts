const tagDirectories: Readonly<Record<string, string>> = {
  UUID: 'by-uuid',
  LABEL: 'by-label',
  PARTUUID: 'by-partuuid',
  PARTLABEL: 'by-partlabel',
};

/** The device of a line of fstab; undefined for a network or a directory. */
export function devicePath(source: string): string | undefined {
  if (source.startsWith('/dev/')) return source;
  const [, tag = '', value = ''] = /^([A-Z]+)="?([^"]*)"?$/.exec(source) ?? [];
  const directory = Object.hasOwn(tagDirectories, tag) ? tagDirectories[tag] : undefined;
  // udev escapes what is no plain character.
  if (directory === undefined || !/^[\w.-]+$/.test(value)) return undefined;
  return `/dev/disk/${directory}/${value}`;
}

/** A logical volume of LVM. */
export interface LogicalVolume {
  readonly group: string;
  readonly volume: string;
}

/** What udev has directories for below /dev; a volume group has one as well. */
const notGroups = [
  ...['block', 'bsg', 'bus', 'char', 'cpu', 'disk', 'drbd', 'dri', 'fd', 'input', 'mapper', 'md'],
  ...['mqueue', 'net', 'pts', 'shm', 'snd', 'vfio', 'zvol'],
];

/**
 * The logical volume that a path below /dev is by its name: `/dev/GROUP/VOLUME`, or `/dev/mapper/GROUP-VOLUME`
 * where a dash in either name stands twice. Undefined for any other.
 */
export function logicalVolume(path: string): LogicalVolume | undefined {
  const [, group = '', volume = ''] = /^\/dev\/([\w+.-]+)\/([\w+.-]+)$/.exec(path) ?? [];
  if (volume === '') return undefined;
  if (group !== 'mapper') return notGroups.includes(group) ? undefined : { group, volume };
  const parts: readonly string[] = volume.match(/--|-|[^-]+/g) ?? [];
  const at = parts.indexOf('-');
  const [first, second] = [parts.slice(0, at), parts.slice(at + 1)];
  if (at < 1 || second.length === 0 || second.includes('-')) return undefined;
  const name = (of: readonly string[]): string => of.join('').replaceAll('--', '-');
  return { group: name(first), volume: name(second) };
}
