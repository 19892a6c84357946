/**
 * Rules for the lines of an old configuration: keys of LXC 0.9 to 2, limits of cgroup v1, hooks and
 * mounts that today's LXC does not need, comments behind values. All other lines stay as they are.
 */
import type { LxcAssignment } from '../host/grammar.ts';
import { splitLxcText } from '../host/grammar.ts';
import { isClassicHook } from '../host/lockers.ts';
import { cgroup2Line, isCgroup1Key } from '../model/cgroup1-keys.ts';
import { parseFstabLine } from '../model/fstab.ts';
import { matchKey } from '../model/lxc-keys.ts';
import { cleanAbsolutePath } from '../model/path.ts';
import type { LineEdit } from './changes.ts';
import { linesOfText } from './changes.ts';

/** What the rules have to know of the host and of the lines before. */
export interface ConvertContext {
  /** The host has controllers of cgroup v1, and an LXC that takes their keys. */
  readonly keepsCgroup1: boolean;
  readonly isThere: (path: string) => boolean;
  /** The interface that `lxc.network.*` lines belong to; counted on through includes. */
  net: number;
  /** Called for each file or directory that is included, in its place among the lines. */
  readonly include?: (written: string) => void;
}

export interface Converted {
  readonly edits: readonly LineEdit[];
  /** Arguments of classic hooks, which name lockers. */
  readonly hookArguments: readonly string[];
}

/** New lines in the place of one, and why. */
interface Result {
  readonly after: readonly (readonly [key: string, value: string])[];
  readonly reason: string;
}

/** Converts the text of one configuration file. */
export function convertConfig(text: string, context: ConvertContext): Converted {
  return new Conversion(text, context).run();
}

/** Values that may have a "#" of their own. */
const mayHaveHash = /^lxc\.(?:environment|hook\.|init|execute)/;

/** Directories that whoever made them has to make again after each boot. */
const belowVolatile = /^\/(?:(?:var\/)?run|tmp|dev\/shm)\/./;

class Conversion {
  readonly #context: ConvertContext;
  readonly #raw: readonly string[];
  readonly #lines: readonly LxcAssignment[];
  readonly #edits: LineEdit[] = [];
  readonly #hookArguments: string[] = [];
  /** Lines that were written for cgroup v2, each of them once. */
  readonly #written = new Set<string>();

  constructor(text: string, context: ConvertContext) {
    this.#context = context;
    this.#raw = linesOfText(text);
    this.#lines = splitLxcText(text).lines.filter((line) => 'key' in line);
  }

  run(): Converted {
    for (const line of this.#lines) this.#convert(line);
    return { edits: this.#edits, hookArguments: this.#hookArguments };
  }

  #convert({ line, key, value: whole }: LxcAssignment): void {
    const [value, comment] = mayHaveHash.test(key) ? [whole, ''] : splitComment(whole);
    if (key === 'lxc.include' && value !== '') this.#context.include?.(value);
    const result = this.#resultOf(key, value);
    if (result === undefined && comment === '') return;
    const raw = this.#raw[line - 1] ?? '';
    // A lone carriage return ends a line for LXC alone; nobody has such files on purpose.
    if (raw.slice(0, -1).includes('\r')) return;
    const indent = /^[ \t]*/.exec(raw)?.[0] ?? '';
    const end = raw.endsWith('\r') ? '\r' : '';
    const after = (result?.after ?? [[key, value] as const]).map(
      ([nextKey, nextValue]) => rewritten(raw, key, value, nextKey, nextValue) + end,
    );
    const reasons = [
      ...(result === undefined ? [] : [result.reason]),
      ...(comment === '' ? [] : ['LXC takes a "#" behind a value for a part of it']),
    ];
    this.#edits.push({
      line,
      after: [...(comment === '' ? [] : [`${indent}${comment}${end}`]), ...after],
      reason: reasons.join('; '),
    });
  }

  #lookup(key: string): string | undefined {
    const found = this.#lines.filter((line) => line.key === key).at(-1);
    return found === undefined ? undefined : splitComment(found.value)[0];
  }

  #resultOf(key: string, value: string): Result | undefined {
    if (key === 'lxc.network' || key.startsWith('lxc.network.')) return this.#network(key, value);
    if (key === 'lxc.rootfs') return this.#rootfs(value);
    if (isCgroup1Key(key)) return this.#cgroup(key, value);
    if (key === 'lxc.mount.entry') return mountEntry(value);
    if (key === 'lxc.include') return this.#include(value);
    if (key.startsWith('lxc.hook.') && isClassicHook(value)) return this.#classicHook(value);
    const match = matchKey(key);
    if (match.kind !== 'legacy') return undefined;
    const gone = match.now === 'lxc.console.path' ? this.#whyNoConsole(value) : undefined;
    if (gone !== undefined) return removed(`${gone}; "lxc-console" needs no such file`);
    if (match.now === undefined) return removed(`LXC 3 and later have no ${key}`);
    return renamed(key, match.now, value);
  }

  /** LXC starts no container whose console it cannot open. */
  #whyNoConsole(value: string): string | undefined {
    const directory = value.slice(0, value.lastIndexOf('/'));
    if (!value.startsWith('/')) return undefined;
    if (!this.#context.isThere(directory)) return `${directory} is gone`;
    return belowVolatile.test(directory) ? `${directory} is gone after a boot` : undefined;
  }

  #network(key: string, value: string): Result {
    const [, number, sub = ''] = /^lxc\.network(?:\.(\d+))?(?:\.(.*))?$/.exec(key) ?? [];
    // Each type begins the next interface, unless they have numbers already.
    if (number === undefined && sub === 'type') this.#context.net++;
    const index = number ?? String(Math.max(this.#context.net, 0));
    if (sub === '')
      return renamed(key, number === undefined ? 'lxc.net' : `lxc.net.${index}`, value);
    const now = /^ipv[46]$/.test(sub) ? `${sub}.address` : sub;
    return renamed(key, `lxc.net.${index}.${now}`, value);
  }

  /** LXC opens a bare device only where it is a volume of LVM, and mounts any for "lvm:". */
  #rootfs(value: string): Result {
    const backend = this.#lookup('lxc.rootfs.backend')?.split(/[, ]/)[0] ?? '';
    const isBare = !/^\w+:/.test(value);
    const prefix = !isBare
      ? ''
      : backend !== '' && backend !== 'best'
        ? `${backend}:`
        : value.startsWith('/dev/')
          ? 'lvm:'
          : '';
    return renamed('lxc.rootfs', 'lxc.rootfs.path', prefix + value);
  }

  #cgroup(key: string, value: string): Result | undefined {
    if (key === 'lxc.cgroup.use') return removed('LXC uses all controllers that the host has');
    if (this.#context.keepsCgroup1) return undefined;
    if (key === 'lxc.cgroup')
      return { after: [['lxc.cgroup2', value]], reason: 'LXC 7 refuses lxc.cgroup' };
    const now = cgroup2Line(key, value, (other) => this.#lookup(other));
    if (now === undefined) {
      return removed(`cgroup v2 has no limit that says the same as ${key}, and LXC 7 refuses it`);
    }
    // What two lines say together stands in each of their lines.
    if (this.#written.has(now) && now.startsWith('lxc.cgroup2.cpu.max')) {
      return removed('a line before says the same');
    }
    this.#written.add(now);
    const equals = now.indexOf('=');
    const converted = [now.slice(0, equals).trim(), now.slice(equals + 1).trim()] as const;
    return { after: [converted], reason: `cgroup v2 has this for ${key}, which LXC 7 refuses` };
  }

  /** The files of distributions come with templates that the host may not have any more. */
  #include(value: string): Result | undefined {
    const packaged = '/usr/share/lxc/config';
    const [, flavour = 'common'] =
      /^\/usr\/share\/lxc\/config\/[\w.-]+\.(common|userns)\.conf$/.exec(value) ?? [];
    const general = `${packaged}/${flavour}.conf`;
    if (!value.startsWith(`${packaged}/`) || this.#context.isThere(value)) return undefined;
    if (!this.#context.isThere(general)) return undefined;
    const reason = `the installed LXC has no ${value}, and refuses the configuration`;
    const isTwice = this.#lines.some(
      (line) => line.key === 'lxc.include' && line.value === general,
    );
    return isTwice ? removed(reason) : { after: [['lxc.include', general]], reason };
  }

  #classicHook(value: string): Result {
    this.#hookArguments.push(...value.split(/[ \t]+/).slice(1));
    return removed('lockerd attaches lockers; with this hook the container would get none from it');
  }
}

function removed(reason: string): Result {
  return { after: [], reason };
}

function renamed(key: string, now: string, value: string): Result {
  return { after: [[now, value]], reason: `since LXC 3, ${key} is ${now}` };
}

/** A value and the comment behind it. */
function splitComment(value: string): [value: string, comment: string] {
  const at = value.search(/[ \t]#/);
  return at < 0 ? [value, ''] : [value.slice(0, at).trimEnd(), value.slice(at).trim()];
}

/** The line with another key and value; columns and quotes stay where they can. */
function rewritten(raw: string, key: string, value: string, now: string, next: string): string {
  const equals = raw.indexOf('=', raw.indexOf(key) + key.length);
  const before = raw.slice(0, equals);
  const indent = before.slice(0, before.indexOf(key));
  const blanks = before.slice(indent.length + key.length);
  // Who wrote columns gets columns.
  const column = blanks.length > 1 ? key.length + blanks.length - 1 : 0;
  const head = `${indent}${now.padEnd(column)}${blanks.slice(-1)}=`;
  const rest = raw.slice(equals + 1).replace(/\r$/, '');
  if (value === next && splitComment(rest)[1] === '') return head + rest;
  const blank = /^[ \t]*/.exec(rest)?.[0] ?? '';
  return `${head}${next === '' ? '' : blank || ' '}${next}`;
}

/** LXC has a /dev of its own in the guest, in which nothing is before it puts it there. */
function mountEntry(value: string): Result | undefined {
  const entry = parseFstabLine(value, 0);
  const target = cleanAbsolutePath(`/${entry?.target ?? ''}`) ?? '';
  if (entry === undefined || !target.startsWith('/dev/')) return undefined;
  if (entry.type === 'devpts') return removed('LXC mounts devpts itself; see lxc.pty.max');
  if (entry.options.some((option) => option === 'optional' || option.startsWith('create='))) {
    return undefined;
  }
  const isFile = entry.options.includes('bind') && /^\/dev\/(?!shm$|mqueue$)/.test(entry.source);
  const fields = value.split(/[ \t]+/);
  const options = `${fields[3] ?? 'defaults'},create=${isFile ? 'file' : 'dir'}`;
  const [source = '', written = '', type = 'none', , ...rest] = fields;
  const next = [source, written, type, options, ...(rest.length === 0 ? ['0', '0'] : rest)].join(
    ' ',
  );
  return {
    after: [['lxc.mount.entry', next]],
    reason: "LXC makes the guest's /dev anew, so the mount point has to be created",
  };
}
