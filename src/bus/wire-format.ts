/** What reading and writing of values share: the D-Bus specification, section "Marshaling". */

import type { Type } from './signature.ts';

/** Section "Marshaling": an array holds at most 64 MiB. */
export const maximumArrayBytes = 2 ** 26;

/** Of containers in one another, those in variants included: as libdbus has it. */
export const maximumDepth = 64;

/** The type of an array's elements. */
export function elementOf({ children: [element] }: Type): Type {
  if (element === undefined) throw new Error('not an array');
  return element;
}

/** The types of a dict entry's key and value. */
export function typesOf({ children: [key, value] }: Type): [Type, Type] {
  if (key === undefined || value === undefined) throw new Error('not a dict entry');
  return [key, value];
}
