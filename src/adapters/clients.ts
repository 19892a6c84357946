import type { BusConnection } from '../bus/connection.ts';
import type { ClientsPort } from '../core/ports.ts';

/** Callers, as the bus daemon knows them: it took the credentials from the kernel. */
export class BusClients implements ClientsPort {
  readonly #bus: BusConnection;

  constructor(bus: BusConnection) {
    this.#bus = bus;
  }

  async uidOf(sender: string): Promise<number> {
    const [uid] = await this.#bus.call({
      destination: 'org.freedesktop.DBus',
      path: '/org/freedesktop/DBus',
      interface: 'org.freedesktop.DBus',
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
