/** Ids of a guest as the host has them. */

import { LockerdError } from '../model/errors.ts';

/**
 * The id on the host of a user (`u`) or group (`g`) of a container's guest. Throws InvalidArgs for one that the
 * guest does not have.
 * @param idmaps values of lxc.idmap, such as `u 0 100000 65536`; none for a guest with the host's ids
 */
export function hostIdOf(
  container: string,
  idmaps: readonly string[],
  kind: 'u' | 'g',
  id: number,
): number {
  if (idmaps.length === 0) return id;
  for (const idmap of idmaps) {
    const [kinds = '', ...numbers] = idmap.trim().split(/\s+/);
    const [guest = Number.NaN, host = Number.NaN, count = 0] = numbers.map(Number);
    if (kinds !== kind && kinds !== 'b') continue;
    if (id >= guest && id < guest + count) return host + (id - guest);
  }
  const what = kind === 'u' ? 'user' : 'group';
  throw new LockerdError(
    'InvalidArgs',
    `the guest of container "${container}" has no ${what} ${id}; see lxc.idmap in its configuration`,
  );
}
