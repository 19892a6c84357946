/** What the helper says of a guest at which it has looked, checked member by member. */

import type { GuestLook } from '../core/ports.ts';
import { unlimited } from '../model/memory-limit.ts';

type Json = Readonly<Record<string, unknown>>;

function objectOf(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function flag(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined;
}

/** A number that fits into 64 bits, as digits. */
function bytes(value: unknown): bigint | undefined {
  if (typeof value !== 'string' || !/^\d{1,20}$/.test(value)) return undefined;
  const number = BigInt(value);
  return number <= unlimited ? number : undefined;
}

/** Only the members that are there. */
function present<T extends object>(members: { readonly [Key in keyof T]: T[Key] | undefined }): T {
  const entries = Object.entries(members).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as T;
}

function addressesOf(value: unknown): GuestLook['addresses'] {
  if (!Array.isArray(value)) return undefined;
  return value.map(objectOf).flatMap(({ interface: name, address }) => {
    if (typeof name !== 'string' || typeof address !== 'string') return [];
    return [{ interface: name, address }];
  });
}

/** Decodes one look; what is missing or of another kind is not known. */
export function guestLook(value: unknown): GuestLook {
  const seen = objectOf(value);
  const os = objectOf(seen['os']);
  const start = seen['startUsec'];
  return present<GuestLook>({
    addresses: addressesOf(seen['addresses']),
    hasMoreAddresses: flag(seen['hasMoreAddresses']),
    sharesNetwork: flag(seen['sharesNetwork']),
    hostName: text(seen['hostName']),
    os: present<NonNullable<GuestLook['os']>>({
      name: text(os['name']),
      id: text(os['id']),
      version: text(os['version']),
    }),
    isUnprivileged: flag(seen['isUnprivileged']),
    startUsec:
      typeof start === 'number' && Number.isSafeInteger(start) && start >= 0
        ? BigInt(start)
        : undefined,
    lowestLimit: bytes(seen['lowestLimit']),
  });
}
