/**
 * Reads the `[X-Lockerd]` sections of generated drop-ins: facts about containers and the host for the
 * service, which systemd ignores. Words are quoted as unitWord() in unit-syntax.ts quotes them.
 */

import { containerUnit } from './unit-name.ts';

/** The drop-in with the facts of the host. The generator writes it last. */
export const hostFactsFile = 'lockerd.service.d/60-host.conf';

export interface ContainerFactsRead {
  readonly name: string;
  /** `lxc@INSTANCE.service` */
  readonly unit: string;
  readonly configFile: string;
  /** What will happen at the next boot. */
  readonly autostart: boolean;
  /** Who decided that, in words that callers see; see host/boot-policy.ts. */
  readonly autostartReasons: readonly string[];
  /** A container that starts at boot and brings this one, where the reason is `needed`. */
  readonly neededBy: readonly string[];
  readonly groups: readonly string[];
  /** File, line, reason and remedy, one a line; empty for a sound container. */
  readonly problem: string;
  /** The host's path of the wormhole; undefined where the container has none. */
  readonly wormhole: string | undefined;
  readonly lockers: readonly {
    readonly name: string;
    readonly readOnly: boolean;
    readonly strict: boolean;
  }[];
  /** What init reboots on, as a signal number. */
  readonly rebootSignal: number;
  /** Bounds of the automatic balloon, in bytes; undefined if its memory is not moved. */
  readonly autoballoon: { readonly floor: bigint; readonly ceiling: bigint } | undefined;
}

export interface HostFactsRead {
  /** `path` is where the host mounts it. */
  readonly lockers: readonly { readonly name: string; readonly path: string }[];
  readonly lockerDirectory: string;
  readonly wormholeDirectory: string;
  /** Without polkit, uid 0 may do everything (a setting of the admin's). */
  readonly rootNeedsNoAuthority: boolean;
}

/** Decodes the words of a value that unitWord() wrote; undefined for a value that it never writes. */
export function decodeWords(value: string): string[] | undefined {
  const word = /[ \t]*(?:"((?:[^"\\]|\\["\\])*)"|([^\s"\\]+))(?:[ \t]|$)/y;
  const text = value.trimEnd();
  const words: string[] = [];
  while (word.lastIndex < text.length) {
    const [, quoted, plain] = word.exec(text) ?? [];
    const raw = quoted === undefined ? plain : quoted.replaceAll(/\\(["\\])/g, '$1');
    // A lone "%" would have started a specifier.
    if (raw === undefined || raw.replaceAll('%%', '').includes('%')) return undefined;
    words.push(raw.replaceAll('%%', '%'));
  }
  return words;
}

/** The lines `KEY=VALUE` of the `[X-Lockerd]` sections, in order. */
function factsOf(text: string): (readonly [string, string])[] {
  const facts: (readonly [string, string])[] = [];
  let isOurs = false;
  for (const line of text.split('\n')) {
    if (line.startsWith('[')) isOurs = line === '[X-Lockerd]';
    const at = line.indexOf('=');
    if (isOurs && at > 0 && !line.startsWith('#')) {
      facts.push([line.slice(0, at), line.slice(at + 1)]);
    }
  }
  return facts;
}

const SIGINT = 2;

function rangeOf([floor = '', ceiling = '']: readonly string[]): ContainerFactsRead['autoballoon'] {
  if (![floor, ceiling].every((bytes) => /^[0-9]{1,20}$/.test(bytes))) return undefined;
  return { floor: BigInt(floor), ceiling: BigInt(ceiling) };
}

/** The facts of one container; undefined if the text names none. */
export function decodeContainer(text: string): ContainerFactsRead | undefined {
  const facts = factsOf(text);
  const all = (key: string): string[][] =>
    facts
      .filter(([name]) => name === key)
      .map(([, value]) => decodeWords(value))
      .filter((words) => words !== undefined);
  const one = (key: string): string | undefined => all(key)[0]?.[0];
  const name = one('Container');
  if (name === undefined) return undefined;
  const rebootSignal = Number(one('RebootSignal'));
  return {
    name,
    unit: containerUnit(name),
    configFile: one('ConfigFile') ?? '',
    autostart: one('Autostart') === 'yes',
    autostartReasons: all('AutostartReason').flatMap((words) => words.slice(0, 1)),
    neededBy: all('AutostartReason').flatMap(([reason, ...by]) => (reason === 'needed' ? by : [])),
    groups: all('Group').flatMap((words) => words.slice(0, 1)),
    problem: all('Problem')
      .flatMap((words) => words.slice(0, 1))
      .join('\n'),
    wormhole: one('Wormhole'),
    lockers: all('Locker').map(([locker = '', mode, strictness]) => ({
      name: locker,
      readOnly: mode === 'ro',
      strict: strictness === 'strict',
    })),
    rebootSignal: rebootSignal >= 1 && rebootSignal <= 64 ? rebootSignal : SIGINT,
    autoballoon: rangeOf(all('Autoballoon')[0] ?? []),
  };
}

/** The facts of the host; facts that the text lacks have the generator's defaults. */
export function decodeHost(text: string): HostFactsRead {
  const facts = factsOf(text).map(([key, value]) => [key, decodeWords(value) ?? []] as const);
  const one = (key: string): string | undefined =>
    facts.find(([name, words]) => name === key && words.length > 0)?.[1][0];
  return {
    lockers: facts
      .filter(([key, words]) => key === 'Locker' && words.length === 2)
      .map(([, [name = '', path = '']]) => ({ name, path })),
    lockerDirectory: one('LockerDirectory') ?? '/lockers',
    wormholeDirectory: one('WormholeDirectory') ?? '/var/locker-mappings',
    rootNeedsNoAuthority: one('RootWithoutPolkit') === 'yes',
  };
}
