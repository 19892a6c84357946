/** Two virtual hosts on one wire, of which the first logs in to the second as root. */

import { addresses, introduce } from '../machines/ssh-pair.ts';
import { bootVm, type VirtualHost } from './vm.ts';

/** Both are of one saved state, so that each has to get an address of its own. */
async function address(vm: VirtualHost, own: string): Promise<void> {
  const hardware = `52:54:00:00:00:0${own.at(-1) ?? ''}`;
  await vm.shell(`
    card=$(basename "$(dirname /sys/class/net/*/device)")
    ip link set "$card" down && ip link set "$card" address ${hardware} up
    ip address replace ${own}/24 dev "$card"`);
}

export class WiredPair implements AsyncDisposable {
  readonly source: VirtualHost;
  readonly target: VirtualHost;

  private constructor(source: VirtualHost, target: VirtualHost) {
    this.source = source;
    this.target = target;
  }

  /** Boots both at once. */
  static async boot(): Promise<WiredPair> {
    const boot = (name: string): Promise<VirtualHost> => bootVm({ name, isNetworked: true });
    const source = await boot('source');
    const target = await boot('target').catch(async (error: unknown) => {
      await source.close();
      throw error;
    });
    const pair = new WiredPair(source, target);
    try {
      await pair.configure();
      await introduce(source, target);
      return pair;
    } catch (error) {
      await pair[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Joins the hosts by a wire, again after one of them has booted. */
  async configure(): Promise<void> {
    this.plug();
    await Promise.all([
      address(this.source, addresses.source),
      address(this.target, addresses.target),
    ]);
  }

  /** Frames come through from now on. */
  plug(): void {
    this.source.sendTo(this.target);
    this.target.sendTo(this.source);
  }

  /** Frames are lost, and neither end is told, as where a switch between them fails. */
  unplug(): void {
    this.source.unplug();
    this.target.unplug();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.source.close(), this.target.close()]);
  }
}
