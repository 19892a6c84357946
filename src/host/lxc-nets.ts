/** The host's network interfaces that a container asks for: `lxc.net.*`, `lxc.network.*` before. */
import type { NetInterface } from '../model/lxc-config.ts';
import { isNetSubKey, readUnsigned, splitNetKey } from '../model/lxc-keys.ts';
import type { Located } from '../model/problem.ts';
import { printable } from '../model/unit-syntax.ts';
import type { LxcAssignment } from './grammar.ts';
import { isLonger } from './lxc-length.ts';
import type { Notes } from './lxc-problems.ts';
import { badValue } from './lxc-problems.ts';

const NET_TYPES = ['veth', 'macvlan', 'ipvlan', 'vlan', 'phys', 'empty', 'none'];
/** Linux's limit in bytes, without the closing NUL: IFNAMSIZ. */
const LINK_BYTES = 15;

interface Net {
  type?: Located<string>;
  link?: Located<string>;
}

/** The interfaces of one container while its files are read. */
export interface Nets {
  readonly byIndex: Map<number, Net>;
  /** The interface that `lxc.network.*` lines without a number belong to. */
  old: number | undefined;
  highest: number;
}

export function noNets(): Nets {
  return { byIndex: new Map(), old: undefined, highest: -1 };
}

/** The interfaces by number. */
export function sortedNets({ byIndex }: Nets): NetInterface[] {
  const sorted: NetInterface[] = [];
  for (const [index, net] of byIndex) sorted.push({ index, ...net });
  return sorted.length > 1 ? sorted.sort((a, b) => a.index - b.index) : sorted;
}

export function setNet(
  nets: Nets,
  notes: Notes,
  file: string,
  { line, key, value }: LxcAssignment,
): void {
  if (key === 'lxc.net') {
    if (value === '') nets.byIndex.clear();
    else {
      const remedy = 'write lxc.net = to remove all interfaces, or lxc.net.0.type = veth';
      notes.report(badValue({ file, line, key, value }, remedy));
    }
    return;
  }
  const digits = key.slice('lxc.net.'.length);
  if (value === '' && /^[0-9][^.]*$/.test(digits)) {
    // Only here LXC reads the number as C writes it: 0x1 and 01 are both interface 1.
    const index = readUnsigned(digits);
    if (index === undefined) notes.reportUnknown({ file, line, key });
    else nets.byIndex.delete(index);
    return;
  }
  const net = splitNetKey(key);
  if (net === undefined || (net.sub !== undefined && !isNetSubKey(net.sub))) {
    notes.reportUnknown({ file, line, key });
  } else if (net.sub === undefined) {
    const remedy = `write ${key}.type = ${value === '' ? 'veth' : printable(value.slice(0, 80))}`;
    notes.report(badValue({ file, line, key, value }, remedy));
  } else setNetField(nets, notes, file, { line, key, value }, net.index, net.sub);
}

function setNetField(
  nets: Nets,
  notes: Notes,
  file: string,
  { line, key, value }: LxcAssignment,
  index: number,
  sub: string,
): void {
  let net = nets.byIndex.get(index);
  if (net === undefined) {
    if (value === '') {
      notes.report({
        file,
        line,
        reason: `${printable(key)} clears something of an interface that is not defined yet`,
        remedy: 'remove the line',
      });
      return;
    }
    net = {};
    nets.byIndex.set(index, net);
    nets.highest = Math.max(nets.highest, index);
  }
  if (sub === 'type') {
    // LXC wipes the whole interface when its type is set, even when it is set to the same type.
    delete net.type;
    delete net.link;
    if (NET_TYPES.includes(value)) net.type = { value, file, line };
    else if (value !== '') {
      const remedy = `write one of ${NET_TYPES.join(', ')}`;
      notes.report(badValue({ file, line, key, value }, remedy));
    }
  } else if (sub === 'link') {
    if (value === '') delete net.link;
    else if (value.endsWith('+') && net.type?.value === 'phys') {
      // A pattern for the host's interfaces of the moment: no name that could be waited for.
    } else net.link = { value: cutLink(notes, file, line, key, value), file, line };
  }
}

/** LXC logs a name that is too long, cuts it and goes on (network_ifname() in confile_utils.c). */
function cutLink(notes: Notes, file: string, line: number, key: string, value: string): string {
  if (!isLonger(value, LINK_BYTES)) return value;
  let name = '';
  for (const char of value) {
    if (isLonger(name + char, LINK_BYTES)) break;
    name += char;
  }
  notes.warnings.push({
    file,
    line,
    reason: `${printable(key)} is longer than ${LINK_BYTES} bytes, so LXC takes "${printable(name)}"`,
    remedy: 'write the name of a network interface',
  });
  return name;
}

/** LXC 1.x numbers interfaces by their `type` lines; 2.x also knows `lxc.network.N.type`. */
export function setOldNet(nets: Nets, notes: Notes, file: string, line: LxcAssignment): void {
  const { key, value } = line;
  if (key === 'lxc.network') {
    nets.byIndex.clear();
    nets.old = undefined;
    nets.highest = -1;
    return;
  }
  const sub = key.slice('lxc.network.'.length);
  const numbered = splitNetKey(`lxc.net.${sub}`);
  if (numbered !== undefined) {
    if (numbered.sub === undefined) nets.byIndex.delete(numbered.index);
    else if (value !== '' || nets.byIndex.has(numbered.index)) {
      setNetField(nets, notes, file, line, numbered.index, numbered.sub);
    }
    return;
  }
  if (sub === 'type' && value !== '') {
    nets.old = nets.highest + 1;
  }
  if (nets.old !== undefined && (value !== '' || nets.byIndex.has(nets.old))) {
    setNetField(nets, notes, file, line, nets.old, sub);
  }
}
