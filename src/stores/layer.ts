/**
 * What lies between a volume and its file system: nothing, or something like encryption. The drivers of
 * volumes go through one of these for whatever they do with a file system.
 */

export interface Layer {
  /** As `encrypt` of a request and Encrypt= in [X-Lockerd] have it; undefined where nothing is there. */
  readonly encrypt?: string;

  /** Throws LockerExists where something of the host has the name that it would take. */
  check(): void;

  /** Prepares a new volume. What was on it is lost. */
  make(device: string, signal?: AbortSignal): Promise<void>;

  /** Makes the device of the file system available, where it is not, and returns its path. */
  open(device: string): Promise<string>;

  /** Lets the layer take all of a volume that has grown; it is open. */
  grow(device: string): Promise<void>;

  /** Gives a copy of another volume an identity of its own. It is not open. */
  renew(device: string): Promise<void>;

  /** Undoes open(), if nobody uses the file system; does nothing where it is not open. */
  close(): Promise<void>;

  /** Device that the locker's mount names. */
  source(device: string): string;

  /** Writes what the boot needs to open it, before the definition of the mount is written. Can be repeated. */
  define(device: string): Promise<void>;

  /** Removes what define() wrote, after the definition of the mount is gone. Can be repeated. */
  forget(): Promise<void>;

  /** Removes for good what opens a volume that is about to be destroyed, if the volume is there. Can be repeated. */
  discard(device: string): Promise<void>;

  /** What a forgotten volume is opened with, in words; undefined where it needs nothing. */
  secret(device: string): Promise<string | undefined>;
}

/** The file system is on the volume itself. */
export const noLayer: Layer = {
  check: () => undefined,
  make: () => Promise.resolve(),
  open: (device) => Promise.resolve(device),
  grow: () => Promise.resolve(),
  renew: () => Promise.resolve(),
  close: () => Promise.resolve(),
  source: (device) => device,
  define: () => Promise.resolve(),
  forget: () => Promise.resolve(),
  discard: () => Promise.resolve(),
  secret: () => Promise.resolve(undefined),
};
