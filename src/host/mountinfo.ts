/** One mount of a mount namespace; see proc(5), "mountinfo". */
export interface Mount {
  readonly id: number;
  readonly parent: number;
  /** `MAJOR:MINOR` of the file system. */
  readonly device: string;
  /** What of the file system is mounted. */
  readonly root: string;
  /** Below the root directory of the process whose mountinfo it is. */
  readonly mountPoint: string;
  readonly readOnly: boolean;
  /** Those of the mount, such as `nosuid`; none of the file system. */
  readonly options: readonly string[];
  readonly type: string;
  /** What is mounted, in the words of its file system: a device's path, for most. */
  readonly source: string;
  /** Those of the file system, such as `prjquota`. */
  readonly superOptions: readonly string[];
}

function unescape(field: string): string {
  if (!field.includes('\\')) return field;
  // The kernel escapes bytes, all of them ASCII.
  return field.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** Parses /proc/PID/mountinfo; lines that are none are left out. */
export function parseMountinfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    const [id, parent, device, root, mountPoint, options] = fields;
    const separator = fields.indexOf('-', 6);
    if (options === undefined || separator < 0) continue;
    const superOptions = fields[separator + 3] ?? '';
    mounts.push({
      id: Number(id),
      parent: Number(parent),
      device: device ?? '',
      root: unescape(root ?? ''),
      mountPoint: unescape(mountPoint ?? ''),
      options: options.split(','),
      readOnly: [options, superOptions].some((list) => list.split(',').includes('ro')),
      type: unescape(fields[separator + 1] ?? ''),
      source: unescape(fields[separator + 2] ?? ''),
      superOptions: superOptions.split(','),
    });
  }
  return mounts;
}

/** The mount that is seen at a path: the last one where several lie on each other. */
export function mountAt(mounts: readonly Mount[], path: string): Mount | undefined {
  const here = mounts.filter(({ mountPoint, type }) => mountPoint === path && type !== 'autofs');
  const covered = new Set(here.map(({ parent }) => parent));
  return here.find(({ id }) => !covered.has(id));
}

/** What tells a mount from all others: its number alone may have belonged to one that is gone. */
export function mountKey({ id, mountPoint }: Mount): string {
  return `${id} ${mountPoint}`;
}

/** Whether two mounts show the same directory of the same file system. */
export function isSameTree(a: Mount, b: Mount): boolean {
  return a.device === b.device && a.root === b.root;
}
