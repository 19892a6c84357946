/** Callers, as the bus daemon knows them: it took their credentials from the kernel. */

import type { BusConnection } from '../bus/connection.ts';
import { busDriver } from '../bus/valid-names.ts';
import type { ClientsPort } from '../core/ports.ts';

export class BusClients implements ClientsPort {
  readonly #bus: BusConnection;

  constructor(bus: BusConnection) {
    this.#bus = bus;
  }

  async uidOf(sender: string): Promise<number> {
    const [uid] = await this.#bus.call({
      ...busDriver,
      member: 'GetConnectionUnixUser',
      signature: 's',
      body: [sender],
    });
    if (typeof uid !== 'number' || !Number.isInteger(uid) || uid < 0) {
      throw new Error('the bus daemon gave no uid');
    }
    return uid;
  }
}
