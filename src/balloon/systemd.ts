import type { BusConnection } from '../bus/connection.ts';
import type { VariantMap } from '../bus/values.ts';
import { Variant } from '../bus/values.ts';

const destination = 'org.freedesktop.systemd1';
const managerPath = '/org/freedesktop/systemd1';

/** systemd runs the generators and realizes control groups in between. */
const callTimeoutMs = 90_000;

/** The properties of a unit that a balloon sets; bytes, or 2^64-1. */
export interface Limits {
  readonly MemoryMax?: bigint;
  readonly MemorySwapMax?: bigint;
}

export interface UnitMemory {
  readonly activeState: string;
  readonly controlGroup: string;
  readonly dropIns: readonly string[];
  readonly memoryMax: bigint;
  readonly memorySwapMax: bigint;
}

/** systemd as a balloon needs it. */
export interface Systemd {
  unit(name: string): Promise<UnitMemory>;
  /** What "systemctl set-property" does, with --runtime or without. */
  setLimits(unit: string, limits: Limits, runtime: boolean): Promise<void>;
  /** Reads all unit files again. */
  reload(): Promise<void>;
}

/** systemd over D-Bus, org.freedesktop.systemd1(5). */
export class BusSystemd implements Systemd {
  readonly #bus: Pick<BusConnection, 'call'>;

  constructor(bus: Pick<BusConnection, 'call'>) {
    this.#bus = bus;
  }

  async #manager(
    member: string,
    signature: string,
    body: readonly unknown[],
  ): Promise<readonly unknown[]> {
    return this.#bus.call({
      destination,
      path: managerPath,
      interface: `${destination}.Manager`,
      member,
      signature,
      body,
      timeoutMs: callTimeoutMs,
    });
  }

  async #properties(path: string, kind: 'Unit' | 'Service'): Promise<VariantMap> {
    const [properties] = await this.#bus.call({
      destination,
      path,
      interface: 'org.freedesktop.DBus.Properties',
      member: 'GetAll',
      signature: 's',
      body: [`${destination}.${kind}`],
      timeoutMs: callTimeoutMs,
    });
    return properties as VariantMap;
  }

  async unit(name: string): Promise<UnitMemory> {
    const [path] = await this.#manager('LoadUnit', 's', [name]);
    const [unit, service] = await Promise.all([
      this.#properties(path as string, 'Unit'),
      this.#properties(path as string, 'Service'),
    ]);
    return {
      activeState: unit['ActiveState']?.value as string,
      dropIns: unit['DropInPaths']?.value as string[],
      controlGroup: service['ControlGroup']?.value as string,
      memoryMax: service['MemoryMax']?.value as bigint,
      memorySwapMax: service['MemorySwapMax']?.value as bigint,
    };
  }

  async setLimits(unit: string, limits: Limits, runtime: boolean): Promise<void> {
    const properties = Object.entries(limits).map(([name, bytes]) => [
      name,
      new Variant('t', bytes),
    ]);
    await this.#manager('SetUnitProperties', 'sba(sv)', [unit, runtime, properties]);
  }

  async reload(): Promise<void> {
    await this.#bus.call({
      destination,
      path: managerPath,
      interface: `${destination}.Manager`,
      member: 'Reload',
      timeoutMs: callTimeoutMs,
    });
  }
}
