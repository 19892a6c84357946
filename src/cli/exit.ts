/** How lockerctl ends: exit statuses, errors and hints. */

import { errorNames, serviceName } from '../api/names.ts';
import { busError, DBusError } from '../bus/values.ts';

/** Exit statuses, those of systemctl(1) and of the LSB for init scripts. */
export const exitStatus = {
  ok: 0,
  failure: 1,
  /** Wrong usage. */
  usage: 2,
  /** "status": a container does not run. */
  notRunning: 3,
  /** "status": no such container, or nobody knows whether it runs. */
  unknown: 4,
  /** Any other command: not permitted. */
  notPermitted: 4,
  /** Any other command: no such container, locker, snapshot, store or job. */
  noSuchObject: 5,
  /** "check": warnings, but no errors. */
  warnings: 6,
  /** A start: the container does not run yet, and starts by itself when it can. */
  startsLater: 7,
} as const;

/** What ends a command, said in one line, with how the program ends. */
export class CommandError extends Error {
  readonly status: number;
  /** What to do about it; a line of its own. */
  readonly hint: string | undefined;

  constructor(message: string, status: number, hint?: string, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
    this.hint = hint;
  }
}

/** Wrong arguments. */
export class UsageError extends CommandError {
  constructor(message: string, hint = 'See "lockerctl --help" or lockerctl(1).') {
    super(message, exitStatus.usage, hint);
  }
}

const freedesktop = 'org.freedesktop.DBus.Error.';
interface Reaction {
  readonly status: number;
  /** Takes the place of a text that may not say what it is about. */
  readonly message?: string;
  readonly hint?: string;
}

const reactions = new Map<string, Reaction>(
  Object.entries({
    [errorNames.AccessDenied]: {
      status: exitStatus.notPermitted,
      hint: 'polkit rules decide who may do what; "lockerctl permissions NAME" shows what you may.',
    },
    [errorNames.InteractiveAuthorizationRequired]: {
      status: exitStatus.notPermitted,
      hint: 'It takes a password: call it on a terminal, without --no-ask-password.',
    },
    [errorNames.AuthorizationDismissed]: { status: exitStatus.notPermitted },
    [errorNames.AuthorityUnavailable]: {
      status: exitStatus.notPermitted,
      hint: 'See "systemctl status polkit".',
    },
    [errorNames.NoSuchContainer]: { status: exitStatus.noSuchObject },
    [errorNames.NoSuchLocker]: { status: exitStatus.noSuchObject },
    [errorNames.NoSuchSnapshot]: { status: exitStatus.noSuchObject },
    [errorNames.NoSuchStore]: {
      status: exitStatus.noSuchObject,
      hint: '"lockerctl stores" shows the stores.',
    },
    [busError.unknownObject]: { status: exitStatus.noSuchObject },
    [errorNames.StartsLater]: {
      status: exitStatus.startsLater,
      hint: 'To end the waiting: "lockerctl stop NAME".',
    },
    [errorNames.InvalidArgs]: { status: exitStatus.usage },
    [`${freedesktop}ServiceUnknown`]: {
      status: exitStatus.failure,
      message: `the bus has no service ${serviceName}`,
      hint: 'lockerd is not on the bus and cannot be started; see "systemctl status lockerd".',
    },
    [busError.nameHasNoOwner]: {
      status: exitStatus.failure,
      hint: 'lockerd is not on the bus; see "systemctl status lockerd".',
    },
  }),
);

/** How the program ends and what it advises for an error by its name on the bus. */
export function reactionTo(errorName: string): Reaction {
  // What the bus says of a service that it could not start has many names.
  if (errorName.startsWith(`${freedesktop}Spawn.`)) {
    return { status: exitStatus.failure, hint: 'See "systemctl status lockerd".' };
  }
  return reactions.get(errorName) ?? { status: exitStatus.failure };
}

/** Makes an error of this program of whatever was thrown. */
export function asCommandError(error: unknown): CommandError {
  if (error instanceof CommandError) return error;
  if (error instanceof DBusError) {
    const { status, hint, message } = reactionTo(error.errorName);
    // A text of its own is not mandatory on the bus.
    const text = message ?? (error.message || error.errorName);
    return new CommandError(text, status, hint, { cause: error });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new CommandError(message, exitStatus.failure, undefined, { cause: error });
}
