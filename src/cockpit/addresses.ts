/** Addresses of guests in a few words. */

import { isLinkLocal } from '../model/link-local.ts';
import type { Sight } from './objects.ts';

/** Those that others can reach, if there are any. */
export function addressText(sight: Sight | undefined): string {
  if (sight === undefined) return '';
  if (sight.sharesNetwork) return 'of the host';
  const wide = sight.addresses.filter((address) => !isLinkLocal(address));
  return (wide.length > 0 ? wide : sight.addresses).join(', ');
}
