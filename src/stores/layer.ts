/**
 * What lies between a volume and its file system: nothing, or something like encryption. The drivers of
 * volumes go through one of these for whatever they do with a file system.
 */

export interface Layer {
  /** As `encrypt` of a request and Encrypt= in [X-Lockerd] have it; undefined where nothing is there. */
  readonly encrypt?: string;

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
}

/** The file system is on the volume itself. */
export const noLayer: Layer = {
  make: () => Promise.resolve(),
  open: (device) => Promise.resolve(device),
  grow: () => Promise.resolve(),
  renew: () => Promise.resolve(),
  close: () => Promise.resolve(),
  source: (device) => device,
  define: () => Promise.resolve(),
  forget: () => Promise.resolve(),
};
