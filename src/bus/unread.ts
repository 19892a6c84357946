/** How much of what was sent to a connection the bus still keeps, because it is not read. */

import type { BusConnection } from './connection.ts';
import { busDriver } from './valid-names.ts';
import { busError, DBusError, type VariantMap } from './values.ts';

const statistics = 'org.freedesktop.DBus.Debug.Stats';

/** What dbus-broker tells of each connection: its name, its credentials, its figures. */
const brokerFigures = 'org.bus1.DBus.Debug.Stats.PeerAccounting';
type BrokerFigures = readonly [name: string, unknown, figures: Readonly<Record<string, unknown>>];

/** dbus-broker tells of all connections at once, which takes both sides some milliseconds. */
const betweenAnswersMs = 200;

/**
 * Asks the bus, whose policy must allow it. dbus-daemon tells of one connection. dbus-broker has that
 * call, too, but answers that it is not implemented; what it tells of all connections is asked for once
 * for all questions that wait.
 */
export class UnreadBytes {
  readonly #connection: Pick<BusConnection, 'call'>;
  #tellsOfAllOnly = false;
  #all: Promise<ReadonlyMap<string, number>> | undefined;
  #earliestMs = 0;

  constructor(connection: Pick<BusConnection, 'call'>) {
    this.#connection = connection;
  }

  /** 0 where the connection is gone, or the bus does not tell. */
  async of(name: string): Promise<number> {
    try {
      if (!this.#tellsOfAllOnly) return await this.#ofOne(name);
    } catch (error) {
      // dbus-daemon says this of a connection that is gone.
      if (error instanceof DBusError && error.errorName === busError.nameHasNoOwner) return 0;
    }
    try {
      return (await this.#ofAll()).get(name) ?? 0;
    } catch {
      return 0;
    }
  }

  async #ofOne(name: string): Promise<number> {
    const [figures] = await this.#ask('GetConnectionStats', 's', [name]);
    return bytesOf((figures as VariantMap)['OutgoingBytes']?.value);
  }

  #ofAll(): Promise<ReadonlyMap<string, number>> {
    this.#all ??= this.#untilDue().then(() => {
      // What asks from now on must not get an answer from before.
      this.#all = undefined;
      return this.#readAll();
    });
    return this.#all;
  }

  async #untilDue(): Promise<void> {
    const waitMs = this.#earliestMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
  }

  async #readAll(): Promise<ReadonlyMap<string, number>> {
    this.#earliestMs = performance.now() + betweenAnswersMs;
    const [figures] = await this.#ask('GetStats');
    const peers = (figures as VariantMap)[brokerFigures]?.value as BrokerFigures[] | undefined;
    if (peers === undefined) return new Map();
    this.#tellsOfAllOnly = true;
    return new Map(peers.map(([name, , own]) => [name, bytesOf(own['OutgoingBytes'])]));
  }

  #ask(member: string, signature = '', body: readonly string[] = []): Promise<readonly unknown[]> {
    const { destination, path } = busDriver;
    return this.#connection.call({
      destination,
      path,
      interface: statistics,
      member,
      signature,
      body,
    });
  }
}

function bytesOf(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}
