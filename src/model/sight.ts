/** What can be seen of the host's files, in values. */

/** What the guest's file tree says about its init; unknown where it cannot be read yet. */
export type GuestInit = 'systemd' | 'other' | 'unknown';

export interface WatchedPath {
  readonly path: string;
  /** `DEVICE:INODE` in decimal, or `-` where nothing is there. */
  readonly identity: string;
}
