/** Names that people give to new lockers, to their snapshots, and to stores. */

const rule = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

/** What such a name is made of, for messages. */
export const newNameRule =
  'a name of up to 63 letters and digits of ASCII, "_", "." and "-", of which the first is a letter or digit';

/** Whether a text can be the name of a new locker, of a snapshot or of a store. Lockers that are there may have others. */
export function isNewName(text: unknown): text is string {
  return typeof text === 'string' && rule.test(text);
}
