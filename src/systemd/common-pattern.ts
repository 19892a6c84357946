/** A pattern that all of the names match. */
export function commonPattern(names: readonly string[]): string {
  const [first = ''] = names;
  let start = first.length;
  let end = first.length;
  for (const name of names) {
    while (!name.startsWith(first.slice(0, start))) start--;
    while (!name.endsWith(first.slice(first.length - end))) end--;
  }
  // In none of the names may the two overlap.
  end = Math.min(end, Math.min(...names.map(({ length }) => length)) - start);
  return `${first.slice(0, start)}*${first.slice(first.length - end)}`;
}
