/**
 * Cleans an absolute path lexically: no empty and no `.` parts, no trailing slash. Returns undefined
 * for a relative path and for one with `..`, whose meaning depends on symbolic links and which systemd
 * refuses in RequiresMountsFor=.
 */
export function cleanAbsolutePath(path: string): string | undefined {
  if (!path.startsWith('/')) return undefined;
  // Most paths are clean, and there are many.
  if (!path.includes('//') && !path.includes('/.') && !path.endsWith('/')) return path;
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  return parts.includes('..') ? undefined : `/${parts.join('/')}`;
}

/** Removes the slashes at the end of a path; the root directory becomes the empty string. */
export function withoutTrailingSlashes(path: string): string {
  let end = path.length;
  while (end > 0 && path[end - 1] === '/') end--;
  return path.slice(0, end);
}

/** Whether a path is the directory itself or lies below it; both must be clean. */
export function isAtOrBelow(path: string, directory: string): boolean {
  if (directory === '/' || path === directory) return true;
  return path.startsWith(directory) && path[directory.length] === '/';
}

export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

/** File systems of the kernel: their paths are there before any unit starts. */
export const kernelPaths: readonly string[] = ['/proc', '/sys', '/dev'];

/** Whether a clean path is one of the kernel's. */
export function isOfKernel(path: string): boolean {
  // All of them begin so, and few other paths do.
  const second = path[1];
  if (second !== 'p' && second !== 's' && second !== 'd') return false;
  return kernelPaths.some((directory) => isAtOrBelow(path, directory));
}

/** Directories that systemd itself is run from, which are there before any unit starts as well. */
export const systemPaths: readonly string[] = ['', '/usr'].flatMap((directory) =>
  ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'].map((name) => `${directory}/${name}`),
);

/** PATH_MAX of the kernel, without the NUL. */
export const pathMax = 4095;

/** Where containers live unless lxc.lxcpath says otherwise; units/system watches it. */
export const defaultLxcpath = '/var/lib/lxc';

/** What a host remembers of moves between hosts, and what holds a unit meanwhile; see lockerctl-move(8). */
export const movesDirectory = '/var/lib/lockerd/moves';
