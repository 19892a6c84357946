/**
 * The public interface org.lockerd1 in names: what the service calls things and its clients look
 * for. Nothing here decides or talks to anybody. See org.lockerd1.xml.
 */

import { errorCodes, type ErrorCode } from '../model/errors.ts';

export const serviceName = 'org.lockerd1';

/** Where the root side listens to the service and to root: about containers, and about stores. */
export const helperSocket = '/run/lockerd/helper.sock';
export const storesSocket = '/run/lockerd/stores.sock';

/**
 * A figure of type `t` that is not known: of a container that does not run, or that the kernel does
 * not count.
 */
export const unknownFigure = 2n ** 64n - 1n;

/** A user id that is not known. */
export const unknownId = 2 ** 32 - 1;

export const interfaces = {
  manager: 'org.lockerd1.Manager',
  container: 'org.lockerd1.Container',
  locker: 'org.lockerd1.Locker',
  job: 'org.lockerd1.Job',
} as const;

/** Codes that D-Bus itself has a name for. */
const namedByDBus: ReadonlySet<ErrorCode> = new Set([
  'AccessDenied',
  'InteractiveAuthorizationRequired',
  'InvalidArgs',
  'LimitsExceeded',
]);

/** Names of errors on the bus by what can be wrong with a request. */
export const errorNames = Object.fromEntries(
  errorCodes.map((code) => [
    code,
    `${namedByDBus.has(code) ? 'org.freedesktop.DBus' : 'org.lockerd1'}.Error.${code}`,
  ]),
) as Readonly<Record<ErrorCode, string>>;
