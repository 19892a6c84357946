/** Which user is behind a call. */

import type { Call } from '../bus/interface-table.ts';
import { DBusError } from '../bus/values.ts';
import type { Caller } from '../core/caller.ts';
import type { ClientsPort } from '../core/ports.ts';

/**
 * The users behind the calls. A unique bus name is never given twice, so that what is known of one
 * stays true; it is known until its owner leaves, so that the bus bounds how many there are.
 */
export class Callers {
  readonly #clients: ClientsPort;
  readonly #uids = new Map<string, Promise<number>>();

  constructor(clients: ClientsPort) {
    this.#clients = clients;
  }

  async of({ sender, interactive, signal }: Call): Promise<Caller> {
    return { sender, uid: await this.uidOf(sender), interactive, left: signal };
  }

  async uidOf(sender: string): Promise<number> {
    const known = this.#uids.get(sender);
    if (known) return known;
    const asked = this.#clients.uidOf(sender);
    this.#uids.set(sender, asked);
    try {
      return await asked;
    } catch (error) {
      this.#uids.delete(sender);
      throw new DBusError(
        'org.freedesktop.DBus.Error.AccessDenied',
        'the bus does not say who you are',
        { cause: error },
      );
    }
  }

  /** None that has called is on the bus. */
  get isEmpty(): boolean {
    return this.#uids.size === 0;
  }

  /** The connection has left the bus. */
  forget(sender: string): void {
    this.#uids.delete(sender);
  }
}
