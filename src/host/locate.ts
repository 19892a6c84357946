import { lstatSync, readlinkSync } from 'node:fs';
import { codeOf } from '../model/errno.ts';

/** As many as the kernel follows (path_resolution(7)). */
const maxLinks = 40;

/**
 * Follows the symbolic links of a path by hand.
 * @param targetOf where the link at a clean path leads, undefined for no link; `rest` has what
 *   follows, the next part last
 */
export function followLinks(
  path: string,
  targetOf: (here: string, rest: readonly string[]) => string | undefined,
): string {
  const rest = path.split('/').reverse();
  const done: string[] = [];
  let links = 0;
  for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    done.push(part);
    const target = targetOf(`/${done.join('/')}`, rest);
    if (target === undefined) continue;
    if (++links > maxLinks) throw Object.assign(new Error('links'), { code: 'ELOOP' });
    if (target.startsWith('/')) done.length = 0;
    else done.pop();
    rest.push(...target.split('/').reverse());
  }
  return `/${done.join('/')}`;
}

/**
 * Finds where a path of the host lies for us. Below a root directory every component is followed
 * by hand, because the kernel would follow an absolute link out of it.
 */
export function locate(root: string, path: string): string {
  if (root === '') return path;
  const found = followLinks(path, (here, rest) => {
    try {
      return lstatSync(root + here).isSymbolicLink() ? readlinkSync(root + here) : undefined;
    } catch (error) {
      // Whatever is wrong with the path shows when it is opened, unless ".." is still to come.
      if (codeOf(error) !== 'ENOENT' || rest.includes('..')) throw error;
      return undefined;
    }
  });
  return root + found;
}

/**
 * The same for a directory entry itself: links on the way are followed, the last part is not, so
 * that lstat(2) and readlink(2) can ask about it.
 */
export function locateEntry(root: string, path: string): string {
  if (root === '') return path;
  const slash = path.lastIndexOf('/');
  return `${locate(root, path.slice(0, slash))}${path.slice(slash)}`;
}
