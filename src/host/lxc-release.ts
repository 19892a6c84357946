/** Which LXC is installed, found without running it. */
import type { HostReader } from './read.ts';

/** What the parser has to know of the installed LXC. */
export interface LxcRelease {
  /** Such as `6.0`. */
  readonly name: string;
  /** Whether it takes `lxc.cgroup.*`, the limits of cgroup v1. */
  readonly takesCgroup1: boolean;
  /** It may have keys that this program does not know. */
  readonly isNewer: boolean;
}

/** The newest LXC whose keys are in model/lxc-keys.ts. */
const newestKnown = { major: 7, minor: 0 };
/** What has a smaller number in the library is no version of LXC. */
const oldest = 3;
/** The first one without cgroup v1. */
const withoutCgroup1 = 7;

/** The library has little more than one MiB. */
const libraryMaxBytes = 16 * 1024 * 1024;

function releaseOf(major: number, minor: number, name: string): LxcRelease {
  const { major: known, minor: last } = newestKnown;
  return {
    name,
    takesCgroup1: major < withoutCgroup1,
    isNewer: major > known || (major === known && minor > last),
  };
}

/** The version that stands in the library, for lxc_get_version(); pure. Bytes are characters. */
export function releaseInLibrary(bytes: string): LxcRelease | undefined {
  const texts = bytes.matchAll(/\0(\d{1,2})\.(\d{1,3})\.\d{1,3}(-devel)?(?=\0)/g);
  const found = [...texts].filter(([, major]) => Number(major) >= oldest);
  const names = new Set(found.map(([text]) => text));
  const [, major, minor, devel] = found[0] ?? [];
  if (names.size !== 1 || major === undefined || minor === undefined) return undefined;
  const release = releaseOf(Number(major), Number(minor), `${major}.${minor}`);
  const isNewest = Number(major) === newestKnown.major;
  return devel !== undefined && isNewest ? { ...release, isNewer: true } : release;
}

/**
 * The release that belongs to the file name of the library; pure. Its numbers are not LXC's:
 * 1.8.0 came with LXC 6, 1.9.0 with LXC 7.0, and the second number grows.
 */
export function releaseOfLibrary(file: string): LxcRelease | undefined {
  const [, number] = /(?:^|\/)liblxc\.so\.1\.(\d{1,4})\.\d+$/.exec(file) ?? [];
  if (number === undefined) return undefined;
  const abi = Number(number);
  if (abi > 9) return releaseOf(newestKnown.major, newestKnown.minor + 1, 'after 7.0');
  return abi === 9 ? releaseOf(7, 0, '7.0') : releaseOf(abi === 8 ? 6 : 5, 0, 'before 7.0');
}

/** Looks when first asked; undefined where nobody can tell. */
export function lxcRelease(host: HostReader): () => LxcRelease | undefined {
  let found: { readonly release: LxcRelease | undefined } | undefined;
  return () => {
    found ??= { release: findRelease(host) };
    return found.release;
  };
}

function findRelease(host: HostReader): LxcRelease | undefined {
  const releases = host
    .libraryDirectories()
    .map((directory) => releaseAt(host, `${directory}/liblxc.so.1`))
    .filter((release) => release !== undefined);
  // Of two libraries nobody knows which one is used.
  const isOne = new Set(releases.map(({ name }) => name)).size === 1;
  return isOne ? releases[0] : undefined;
}

function releaseAt(host: HostReader, path: string): LxcRelease | undefined {
  const named = releaseOfLibrary(host.linkTarget(path) ?? '');
  // The name is read in no time, and of an old release it tells enough.
  if (named?.takesCgroup1 === true) return named;
  const bytes = host.bytes(path, libraryMaxBytes);
  return (bytes === undefined ? undefined : releaseInLibrary(bytes)) ?? named;
}
