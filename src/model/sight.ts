/** Values for what can be seen of the host's files. */

/** The guest's init according to its file tree; unknown while the tree cannot be read. */
export type GuestInit = 'systemd' | 'other' | 'unknown';

export interface WatchedPath {
  readonly path: string;
  /** `DEVICE:INODE` in decimal, or `-` if the path does not exist. */
  readonly identity: string;
}
