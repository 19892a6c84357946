/** Callers as the core knows them. */

import { LockerdError } from '../model/errors.ts';

/** The sender of one call. */
export interface Caller {
  /** Unique bus name. */
  readonly sender: string;
  readonly uid: number;
  /** The message says that somebody may be asked for a password. */
  readonly interactive: boolean;
  /** Fires when the caller leaves the bus. */
  readonly left: AbortSignal;
}

/** The caller is not there to get the answer. */
export class CallerLeft extends LockerdError {
  constructor() {
    super('Cancelled', 'the caller has left');
  }
}
