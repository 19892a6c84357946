/** Changes what a configuration says of the container's own directory and name, for another place or name. */
import { randomInt } from 'node:crypto';

export interface Relocation {
  readonly from: { readonly name: string; readonly directory: string };
  readonly to: { readonly name: string; readonly directory: string };
}

/** What can stand before and behind a path in a value: of options, of lists of layers, of quotes. */
const before = `(^|[\\s:=,"'])`;
const behind = `(?=$|[\\s/:,"'])`;

function escapeRegExp(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

/** An address of the range that LXC takes for interfaces of containers. */
function newAddress(): string {
  const bytes = [0x00, 0x16, 0x3e, ...Array.from({ length: 3 }, () => randomInt(256))];
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** Puts the new directory in the place of the old one, wherever that stands as a path or at the beginning of one. */
export function relocatePaths(text: string, { from, to }: Relocation): string {
  if (from.directory === to.directory) return text;
  const old = new RegExp(`${before}${escapeRegExp(from.directory)}${behind}`, 'gm');
  return text.replaceAll(old, (_, prefix: string) => prefix + to.directory);
}

/**
 * The text of a configuration file for its new place. With another name, the guest gets that as its host name if it
 * had the old one, and interfaces get new addresses: the original may be in the same network.
 */
export function relocateConfig(text: string, relocation: Relocation): string {
  const { from, to } = relocation;
  const moved = relocatePaths(text, relocation);
  if (from.name === to.name) return moved;
  return moved
    .split('\n')
    .map((line) => {
      const [head = '', key = ''] = /^\s*(lxc\.[\w.]+)\s*=\s*/.exec(line) ?? [];
      const value = line.slice(head.length).trimEnd();
      if (key === 'lxc.uts.name' && value === from.name) return head + to.name;
      return /^lxc\.net\.\d+\.hwaddr$/.test(key) && value !== '' ? head + newAddress() : line;
    })
    .join('\n');
}
