/** Interfaces of the host that containers are linked to, and the hardware addresses of their own. */
import { splitNetKey } from '../model/lxc-keys.ts';
import { shellWord } from '../model/shell-quote.ts';
import { printable } from '../model/unit-syntax.ts';
import type { ConfigLine } from '../host/config-lines.ts';
import type { CheckedContainer, Subject } from './subject.ts';

export function checkNetwork(subject: Subject, container: CheckedContainer): void {
  checkLinks(subject, container);
  checkAddresses(subject, container);
}

/** Made by lxc-net.service. */
const lxcNetBridge = 'lxcbr0';

function checkLinks({ host, facts, findings }: Subject, container: CheckedContainer): void {
  // Without the kernel's own list nobody knows what is up.
  if (!host.isThere('/sys/class/net')) return;
  const { name, unit, facts: own } = container;
  for (const { link } of own.config.nets) {
    if (link === undefined || !unit.bridges.includes(link.value)) continue;
    if (host.isThere(`/sys/class/net/${link.value}`)) continue;
    const shown = printable(link.value);
    if (link.value === lxcNetBridge) {
      findings.add(
        'bridge-down',
        name,
        link,
        `the host has no interface ${shown} now`,
        'run: systemctl status lxc-net; USE_LXC_BRIDGE in /etc/default/lxc-net decides',
      );
    } else if (facts.host.namesInterface?.(link.value) === true) {
      const remedy = `run: ip link show ${shellWord(link.value)}`;
      findings.add('bridge-down', name, link, `the host has no interface ${shown} now`, remedy);
    } else {
      const what = `the host has no interface ${shown}, and no configuration of its network names it`;
      const remedy = 'set the bridge up on the host, or correct the link';
      findings.add('bridge-missing', name, link, what, remedy);
    }
  }
}

/** Types of interface whose other end is in the guest, with an address that LXC makes up. */
const ownAddressTypes = ['veth', 'macvlan'];

/** The line that sets each interface's address; the type wipes what stood before it. */
function addressesOf(lines: readonly ConfigLine[]): ReadonlyMap<number, ConfigLine> {
  const found = new Map<number, ConfigLine>();
  for (const line of lines) {
    const net = splitNetKey(line.key);
    if (net?.sub === 'type' || (net?.sub === 'hwaddr' && line.value === '')) {
      found.delete(net.index);
    } else if (net?.sub === 'hwaddr') found.set(net.index, line);
  }
  return found;
}

/** LXC puts a random digit for each x. */
function isFixed(address: string): boolean {
  return !/x/i.test(address);
}

function checkAddresses({ findings }: Subject, container: CheckedContainer): void {
  const { name, facts } = container;
  const addresses = addressesOf(container.lines);
  for (const { index, type } of facts.config.nets) {
    if (type === undefined || !ownAddressTypes.includes(type.value)) continue;
    const line = addresses.get(index);
    if (line !== undefined && isFixed(line.value)) continue;
    findings.add(
      'hwaddr-random',
      name,
      line ?? type,
      `the interface ${index} has no hardware address of its own`,
      `write lxc.net.${index}.hwaddr = ${proposedAddress(name, index)}`,
    );
  }
}

/** Addresses that more than one container has. */
export function checkTwins({ containers, findings }: Subject): void {
  const byAddress = new Map<string, { readonly name: string; readonly line: ConfigLine }[]>();
  for (const { name, lines } of containers) {
    for (const line of addressesOf(lines).values()) {
      if (!isFixed(line.value)) continue;
      const address = line.value.toLowerCase();
      byAddress.set(address, [...(byAddress.get(address) ?? []), { name, line }]);
    }
  }
  for (const [address, users] of byAddress) {
    for (const { name, line } of users) {
      const twin = users.find((other) => other.name !== name);
      if (twin === undefined) continue;
      const shown = printable(twin.name.slice(0, 80));
      const what = `container "${shown}" has the hardware address ${printable(address)} too`;
      findings.add('hwaddr-double', name, line, what, 'give one of the two another address');
    }
  }
}

/** An address of the range that LXC itself takes from, the same for the same name. */
function proposedAddress(name: string, index: number): string {
  let hash = 2_166_136_261;
  for (const char of `${name} ${index}`) {
    hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 16_777_619) >>> 0;
  }
  const bytes = [hash >>> 16, hash >>> 8, hash].map((part) =>
    (part & 0xff).toString(16).padStart(2, '0'),
  );
  return ['00', '16', '3e', ...bytes].join(':');
}
