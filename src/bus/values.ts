/** Values and errors as the bus carries them. */

import { Variant as LibraryVariant } from 'dbus-next/lib/variant.js';

/** A value that carries its own type: one complete type and a value of that type. */
export interface Variant {
  readonly signature: string;
  readonly value: unknown;
}

/** `new Variant('s', 'web')`; the class is dbus-next's, its value is `unknown` here. */
export const Variant: new (signature: string, value: unknown) => Variant = LibraryVariant;

/** An `a{sv}`: decoded ones have no prototype, those to encode may be plain objects. */
export type VariantMap = Record<string, Variant>;

/** An `a{sv}` of what is known: members without a value are left out. */
export function knownVariants(
  members: readonly (readonly [key: string, signature: string, value: unknown])[],
): VariantMap {
  return Object.fromEntries(
    members.flatMap(([key, signature, value]) =>
      value === undefined ? [] : [[key, new Variant(signature, value)]],
    ),
  );
}

/**
 * An error as the bus carries it: a name and a text for people. Thrown by calls that were answered
 * with an error, and by our own method handlers to answer one.
 */
export class DBusError extends Error {
  readonly errorName: string;

  constructor(errorName: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'DBusError';
    this.errorName = errorName;
  }
}

/** The error names of the D-Bus specification and the reference implementation that we use. */
export const busError = {
  accessDenied: 'org.freedesktop.DBus.Error.AccessDenied',
  disconnected: 'org.freedesktop.DBus.Error.Disconnected',
  failed: 'org.freedesktop.DBus.Error.Failed',
  inconsistentMessage: 'org.freedesktop.DBus.Error.InconsistentMessage',
  invalidArgs: 'org.freedesktop.DBus.Error.InvalidArgs',
  nameHasNoOwner: 'org.freedesktop.DBus.Error.NameHasNoOwner',
  limitsExceeded: 'org.freedesktop.DBus.Error.LimitsExceeded',
  noReply: 'org.freedesktop.DBus.Error.NoReply',
  /** Also of dbus-daemon, for a service that was not up in time. */
  timedOut: 'org.freedesktop.DBus.Error.TimedOut',
  propertyReadOnly: 'org.freedesktop.DBus.Error.PropertyReadOnly',
  unknownInterface: 'org.freedesktop.DBus.Error.UnknownInterface',
  unknownMethod: 'org.freedesktop.DBus.Error.UnknownMethod',
  unknownObject: 'org.freedesktop.DBus.Error.UnknownObject',
  unknownProperty: 'org.freedesktop.DBus.Error.UnknownProperty',
} as const;
