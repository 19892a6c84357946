/** What somebody may have meant who made a typing error. */

import damerauLevenshtein from 'damerau-levenshtein';

/** How many steps of typing lie between two words; infinity where they are too different. */
function distance(word: string, name: string): number {
  const [typed, meant] = [word.toLowerCase(), name.toLowerCase()];
  if (typed === meant) return 0;
  // Somebody may have typed no more than the beginning.
  if (typed.length > 1 && meant.startsWith(typed)) return 1;
  const allowed = Math.min(3, Math.ceil(typed.length / 3));
  // An argument can be far longer than any name.
  if (Math.abs(typed.length - meant.length) > allowed) return Infinity;
  const { steps, similarity } = damerauLevenshtein(typed, meant);
  return steps <= allowed && similarity > 0.4 ? steps : Infinity;
}

/** The names that are nearest to a word; none where all are far away. */
function nearest(word: string, names: readonly string[]): string[] {
  const found = names.map((name) => ({ name, steps: distance(word, name) }));
  const least = Math.min(...found.map(({ steps }) => steps));
  return least === Infinity
    ? []
    : found.filter(({ steps }) => steps === least).map(({ name }) => name);
}

/** `Did you mean "a" or "b"?`; undefined where no name is near. */
export function didYouMean(word: string, names: readonly string[]): string | undefined {
  const quoted = nearest(word, names)
    .slice(0, 3)
    .map((name) => `"${name}"`);
  const last = quoted.pop();
  if (last === undefined) return undefined;
  return `Did you mean ${quoted.length > 0 ? `${quoted.join(', ')} or ` : ''}${last}?`;
}
