/**
 * The addresses of a network namespace, from what the kernel shows of it below /proc/PID/net. Nobody
 * enters the namespace, no program runs, and the only words of the guest in there are names of
 * interfaces, in which the kernel allows neither blanks nor slashes.
 */

import { endianness } from 'node:os';
import { isLinkLocal } from '../model/link-local.ts';

/** An address that the guest has. */
export interface GuestAddress {
  /** Empty where the kernel does not show to which interface an IPv4 address belongs. */
  readonly interface: string;
  /** `10.0.3.5`, `2001:db8::5`. */
  readonly address: string;
}

/** A network that an interface is in, as numbers. */
interface Network {
  readonly interface: string;
  readonly address: number;
  readonly mask: number;
}

function swapped(number: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes.readUInt32BE();
}

/** The kernel prints what it has in memory, in the order of the network, as a number. */
function fromNetworkOrder(hex: string): number {
  const number = Number.parseInt(hex, 16);
  return endianness() === 'LE' ? swapped(number) : number;
}

/** Networks without a gateway of /proc/PID/net/route, the smallest first. */
function networksOf(route: string): Network[] {
  const networks: Network[] = [];
  for (const line of route.split('\n').slice(1)) {
    const [name = '', destination = '', gateway = '', , , , , mask = ''] = line.split(/\s+/);
    if (![destination, gateway, mask].every((word) => /^[0-9A-F]{8}$/.test(word))) continue;
    if (gateway !== '00000000' || mask === '00000000') continue;
    networks.push({
      interface: name,
      address: fromNetworkOrder(destination),
      mask: fromNetworkOrder(mask),
    });
  }
  return networks.sort((a, b) => b.mask - a.mask);
}

function numberOf(address: string): number {
  return address.split('.').reduce((number, byte) => number * 256 + Number(byte), 0);
}

/** Addresses of /proc/PID/net/fib_trie, each once, with the interfaces that the routes tell. */
function ipv4Of(fibTrie: string, route: string): GuestAddress[] {
  const networks = networksOf(route);
  const found = new Set<string>();
  let address = '';
  for (const line of fibTrie.split('\n')) {
    const [, leaf] = /^\s*\|-- ([0-9]{1,3}(?:\.[0-9]{1,3}){3})\s*$/.exec(line) ?? [];
    if (leaf !== undefined) address = leaf;
    else if (address !== '' && /^\s*\/32 host LOCAL\s*$/.test(line)) found.add(address);
  }
  return [...found]
    .filter((text) => !text.startsWith('127.'))
    .map((text) => {
      const number = numberOf(text);
      // JavaScript's bits have a sign, and so have both sides.
      const isIn = ({ address: base, mask }: Network): boolean => (number & mask) === (base & mask);
      return { interface: networks.find(isIn)?.interface ?? '', address: text };
    });
}

const loopbackScope = 0x10;

/** Addresses of /proc/PID/net/if_inet6. */
function ipv6Of(ifInet6: string): GuestAddress[] {
  return ifInet6.split('\n').flatMap((line) => {
    const words = /^([0-9a-f]{32}) [0-9a-f]+ [0-9a-f]+ ([0-9a-f]+) [0-9a-f]+\s+(\S+)$/.exec(line);
    const [, hex = '', scope = '', name = ''] = words ?? [];
    if (words === null || Number.parseInt(scope, 16) === loopbackScope) return [];
    const groups = hex.match(/.{4}/g) ?? [];
    // A URL has the shortest form.
    const address = new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
    return [{ interface: name, address }];
  });
}

/**
 * The addresses, without those of the loopback; those that are good for the own link only come last.
 * The arguments are the texts of the files of the same names.
 */
export function guestAddresses(fibTrie: string, route: string, ifInet6: string): GuestAddress[] {
  const all = [...ipv4Of(fibTrie, route), ...ipv6Of(ifInet6)];
  const isWide = ({ address }: GuestAddress): boolean => !isLinkLocal(address);
  return [...all.filter(isWide), ...all.filter((one) => !isWide(one))];
}
