/**
 * The configuration keys of LXC, and how LXC reads its numbers. matchKey() follows LXC's own lookup,
 * splitNetKey() and isNetSubKey() do the same for interfaces, and nearestKey() suggests a key for a typing
 * error.
 */

/** Keys that LXC 4, 5, 6 or 7 look up by their whole name (config_jump_table in confile.c). */
const KEYS: ReadonlySet<string> = new Set(
  (
    'lxc.arch lxc.apparmor.allow_incomplete lxc.apparmor.allow_nesting lxc.apparmor.profile ' +
    'lxc.apparmor.raw lxc.autodev lxc.autodev.tmpfs.size lxc.cap.drop lxc.cap.keep lxc.cgroup.dir ' +
    'lxc.cgroup.dir.container lxc.cgroup.dir.container.inner lxc.cgroup.dir.monitor ' +
    'lxc.cgroup.dir.monitor.pivot lxc.cgroup.relative lxc.console.buffer.size lxc.console.logfile ' +
    'lxc.console.path lxc.console.rotate lxc.console.size lxc.environment lxc.environment.hooks ' +
    'lxc.environment.runtime lxc.ephemeral lxc.execute.cmd lxc.group lxc.hook.autodev ' +
    'lxc.hook.clone lxc.hook.destroy lxc.hook.mount lxc.hook.post-stop lxc.hook.pre-mount ' +
    'lxc.hook.pre-start lxc.hook.start lxc.hook.start-host lxc.hook.stop lxc.hook.version lxc.idmap ' +
    'lxc.include lxc.init.cmd lxc.init.cwd lxc.init.gid lxc.init.groups lxc.init.uid ' +
    'lxc.keyring.session lxc.log.file lxc.log.level lxc.log.syslog lxc.monitor.signal.pdeath ' +
    'lxc.monitor.unshare lxc.mount.auto lxc.mount.entry lxc.mount.fstab lxc.namespace.clone ' +
    'lxc.namespace.keep lxc.namespace.share.cgroup lxc.namespace.share.ipc lxc.namespace.share.mnt ' +
    'lxc.namespace.share.net lxc.namespace.share.pid lxc.namespace.share.time ' +
    'lxc.namespace.share.user lxc.namespace.share.uts lxc.no_new_privs lxc.pty.max ' +
    'lxc.rootfs.managed lxc.rootfs.mount lxc.rootfs.options lxc.rootfs.path lxc.sched.core ' +
    'lxc.seccomp.allow_nesting lxc.seccomp.notify.cookie lxc.seccomp.notify.proxy ' +
    'lxc.seccomp.profile lxc.selinux.context lxc.selinux.context.keyring lxc.signal.halt ' +
    'lxc.signal.reboot lxc.signal.stop lxc.start.auto lxc.start.delay lxc.start.order ' +
    'lxc.time.offset.boot lxc.time.offset.monotonic lxc.tty.dir lxc.tty.max lxc.uts.name'
  ).split(' '),
);

/** Keys that take any name after a further dot: cgroup files, limits, sysctls. */
const FAMILIES: readonly string[] = [
  'lxc.cgroup2',
  'lxc.cgroup',
  'lxc.prlimit',
  'lxc.sysctl',
  'lxc.proc',
];

/** What may follow `lxc.net.N.` (config_jump_table_net in confile.c). */
const NET_KEYS: ReadonlySet<string> = new Set(
  (
    'flags hwaddr ipv4.address ipv4.gateway ipv6.address ipv6.gateway link l2proxy macvlan.mode ' +
    'ipvlan.mode ipvlan.isolation mtu name script.down script.up type vlan.id veth.mode ' +
    'veth.n_rxqueues veth.n_txqueues veth.pair veth.ipv4.route veth.ipv6.route veth.vlan.id ' +
    'veth.vlan.tagged.id'
  ).split(' '),
);

/**
 * Keys of LXC 1.x and 2.x with the name lxc-update-config(1) gives them, or null where it deletes
 * the line. `lxc.network` and `lxc.limit` also stand for all the keys below them.
 */
const LEGACY: ReadonlyMap<string, string | null> = new Map([
  ['lxc.aa_allow_incomplete', 'lxc.apparmor.allow_incomplete'],
  ['lxc.aa_profile', 'lxc.apparmor.profile'],
  ['lxc.console', 'lxc.console.path'],
  ['lxc.devttydir', 'lxc.tty.dir'],
  ['lxc.haltsignal', 'lxc.signal.halt'],
  ['lxc.id_map', 'lxc.idmap'],
  ['lxc.init_cmd', 'lxc.init.cmd'],
  ['lxc.init_gid', 'lxc.init.gid'],
  ['lxc.init_uid', 'lxc.init.uid'],
  ['lxc.kmsg', null],
  ['lxc.limit', 'lxc.prlimit'],
  ['lxc.logfile', 'lxc.log.file'],
  ['lxc.loglevel', 'lxc.log.level'],
  ['lxc.mount', 'lxc.mount.fstab'],
  ['lxc.network', 'lxc.net'],
  ['lxc.pivotdir', null],
  ['lxc.pts', 'lxc.pty.max'],
  ['lxc.rebootsignal', 'lxc.signal.reboot'],
  ['lxc.rootfs', 'lxc.rootfs.path'],
  ['lxc.rootfs.backend', null],
  ['lxc.se_context', 'lxc.selinux.context'],
  ['lxc.seccomp', 'lxc.seccomp.profile'],
  ['lxc.stopsignal', 'lxc.signal.stop'],
  ['lxc.syslog', 'lxc.log.syslog'],
  ['lxc.tty', 'lxc.tty.max'],
  ['lxc.utsname', 'lxc.uts.name'],
]);

const NET = 'lxc.net.';

/** How LXC treats a key; `mute` keys exist but only clear the keys below them. */
type KeyMatch =
  | { readonly kind: 'known' | 'mute' | 'unknown' }
  /** `now` is the current name; undefined if the key was removed without a successor. */
  | { readonly kind: 'legacy'; readonly now?: string };

/**
 * Looks a key up as lxc_get_config() in LXC's confile.c does. Keys of interfaces, `lxc.net` and
 * below, are not for this function: see splitNetKey() and isNetSubKey().
 */
export function matchKey(key: string): KeyMatch {
  if (KEYS.has(key)) return { kind: 'known' };
  if (key === 'lxc.hook') return { kind: 'mute' };
  for (const family of FAMILIES) {
    if (key === family) return { kind: 'mute' };
    if (key.startsWith(`${family}.`))
      return { kind: key.length > family.length + 1 ? 'known' : 'mute' };
  }
  return matchLegacy(key) ?? { kind: 'unknown' };
}

/** Whether LXC knows `sub` as the part after `lxc.net.N.`. */
export function isNetSubKey(sub: string): boolean {
  return NET_KEYS.has(sub);
}

/** The known key that an unknown key most likely stands for; undefined if none is close. */
export function nearestKey(key: string): string | undefined {
  const net = splitNetKey(key);
  if (net?.sub === undefined) return nearest(key, KEYS);
  const sub = nearest(net.sub, NET_KEYS);
  return sub === undefined ? undefined : `lxc.net.${net.index}.${sub}`;
}

/**
 * Splits `lxc.net.N.SUB`; undefined for any other key. N is decimal and below 2^31 - 1, as
 * get_network_config_ops() in confile.c requires.
 */
export function splitNetKey(key: string): { index: number; sub: string | undefined } | undefined {
  if (!key.startsWith(NET)) return undefined;
  // Each container has several such keys, and a regular expression would take ten times as long.
  let end = NET.length;
  let index = 0;
  for (let code = key.charCodeAt(end); code >= 0x30 && code <= 0x39; code = key.charCodeAt(end)) {
    index = index * 10 + code - 0x30;
    end++;
  }
  if (end === NET.length || index >= 0x7fffffff) return undefined;
  if (end === key.length) return { index, sub: undefined };
  return key[end] === '.' ? { index, sub: key.slice(end + 1) } : undefined;
}

/**
 * Parses an unsigned 32-bit number as lxc_safe_uint() in LXC's string_utils.c does: C notation with 0x
 * for hexadecimal and 0 for octal, after optional blanks and a plus sign. Undefined if LXC refuses it.
 */
export function readUnsigned(text: string): number | undefined {
  const number = readC(text);
  if (number === undefined || number.negative || number.size > 0xffffffff) return undefined;
  return number.size;
}

/** Parses a signed 32-bit number as lxc_safe_int() does; undefined if LXC refuses it. */
export function readInteger(text: string): number | undefined {
  const number = readC(text);
  if (number === undefined || number.size > (number.negative ? 0x80000000 : 0x7fffffff)) {
    return undefined;
  }
  // Adding 0 keeps "-0" from becoming a negative zero.
  return number.negative ? -number.size + 0 : number.size;
}

/** Parses what strtol() accepts with base 0, except 0b1 of newer C libraries, which nobody uses here. */
function readC(text: string): { negative: boolean; size: number } | undefined {
  // Most numbers are a digit, and a container has several.
  if (text.length === 1 && text >= '0' && text <= '9')
    return { negative: false, size: Number(text) };
  const parts = /^[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)$/.exec(text);
  const digits = parts?.[2];
  if (parts === null || digits === undefined) return undefined;
  const octal = /^0[0-9]/.test(digits);
  if (octal && /[89]/.test(digits)) return undefined;
  return {
    negative: parts[1] === '-',
    size: octal ? Number.parseInt(digits, 8) : Number(digits),
  };
}

function matchLegacy(key: string): KeyMatch | undefined {
  const now = LEGACY.get(key);
  if (now !== undefined) return { kind: 'legacy', ...(now === null ? {} : { now }) };
  if (key.startsWith('lxc.limit.')) {
    return { kind: 'legacy', now: `lxc.prlimit.${key.slice('lxc.limit.'.length)}` };
  }
  if (!key.startsWith('lxc.network.')) return undefined;
  const sub = key.slice('lxc.network.'.length).replace(/^[0-9]+\./, '');
  return { kind: 'legacy', now: `lxc.net.N.${/^ipv[46]$/.test(sub) ? `${sub}.address` : sub}` };
}

function nearest(name: string, known: ReadonlySet<string>): string | undefined {
  // A longer name is no typing error, and the cost grows with the product of both lengths.
  if (name.length > 48) return undefined;
  let best: string | undefined;
  let least = name.length < 8 ? 2 : 3;
  for (const candidate of known) {
    const distance = editDistance(name, candidate, least);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

/** Insertions, deletions and substitutions between two words; the result is not exact from `limit` on. */
function editDistance(from: string, to: string, limit: number): number {
  if (Math.abs(from.length - to.length) >= limit) return limit;
  let row = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const change = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? limit;
}
