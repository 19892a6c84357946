import { cleanAbsolutePath } from '../model/path.ts';

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

/** Where the link at a clean path leads, undefined for no link; see {@link followLinks}. */
type TargetOf = (here: string, rest: readonly string[]) => string | undefined;

/** Follows many paths, whose directories are the same ones over and over. */
export class LinkFollower {
  private readonly targetOf: TargetOf;
  private readonly directories = new Map<string, string>();

  constructor(targetOf: TargetOf) {
    this.targetOf = targetOf;
  }

  follow(path: string): string {
    const known = this.directories.get(path);
    if (known !== undefined) return known;
    const slash = path.lastIndexOf('/');
    if (slash < 0 || cleanAbsolutePath(path) !== path || path === '/') {
      return followLinks(path, this.targetOf);
    }
    const parent = slash === 0 ? '/' : this.directory(path.slice(0, slash));
    const here = parent === '/' ? path.slice(slash) : parent + path.slice(slash);
    const target = this.targetOf(here, []);
    // What follows the link counts it once more, and goes on to where it leads.
    return target === undefined ? here : followLinks(here, this.targetOf);
  }

  /** The same for a directory, which is remembered. */
  directory(path: string): string {
    let real = this.directories.get(path);
    if (real === undefined) {
      real = this.follow(path);
      this.directories.set(path, real);
    }
    return real;
  }
}
