/** What isNewName() accepts, in words. */
export const newNameForm =
  'up to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit';

/** Whether stores, new lockers and snapshots can have a name. What stands already keeps any name. */
export function isNewName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/.test(name);
}

/** Whether a section of lockerd.conf is a store's; the second part is its name. */
export function isStoreSection(section: string): boolean {
  return /^store(?:[ \t]|$)/.test(section);
}
