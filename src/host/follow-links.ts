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
