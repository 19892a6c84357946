import { lstatSync, readlinkSync } from 'node:fs';
import { codeOf } from '../model/errno.ts';

/** As many as the kernel follows (path_resolution(7)). */
const MAX_LINKS = 40;

/**
 * Finds where a path of the host lies for us. Below a root directory every component is followed
 * by hand, because the kernel would follow an absolute link out of it.
 */
export function locate(root: string, path: string): string {
  if (root === '') return path;
  const todo = path.split('/').reverse();
  const done: string[] = [];
  let links = 0;
  for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    done.push(part);
    const here = `${root}/${done.join('/')}`;
    let target: string;
    try {
      if (!lstatSync(here).isSymbolicLink()) continue;
      if (++links > MAX_LINKS) throw Object.assign(new Error('links'), { code: 'ELOOP' });
      target = readlinkSync(here);
    } catch (error) {
      // Whatever is wrong with the path shows when it is opened, unless ".." is still to come.
      if (codeOf(error) !== 'ENOENT' || todo.includes('..')) throw error;
      return `${root}/${[...done, ...todo.reverse()].join('/')}`;
    }
    if (target.startsWith('/')) done.length = 0;
    else done.pop();
    todo.push(...target.split('/').reverse());
  }
  return `${root}/${done.join('/')}`;
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
