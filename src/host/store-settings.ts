/**
 * Settings of stores, from which new lockers come: the sections `[store NAME]` of lockerd.conf. They are
 * read apart from all other settings, because neither a boot nor a container needs them, and a mistake in one
 * of them is nobody else's.
 */

import { parseBytes } from '../model/byte-size.ts';
import { isNewName, isStoreSection, newNameForm } from '../model/new-name.ts';
import { cleanAbsolutePath } from '../model/path.ts';
import type { Located, Problem } from '../model/problem.ts';
import { fitsRestOfLine, printable } from '../model/unit-syntax.ts';
import type { SettingsFile } from './settings.ts';

export const storeTypes = ['lvm', 'lvm-thin', 'btrfs', 'directory'] as const;
export type StoreType = (typeof storeTypes)[number];

export const volumeFileSystems = ['ext4', 'xfs'] as const;
export type VolumeFileSystem = (typeof volumeFileSystems)[number];

interface Common {
  readonly name: string;
  /** Options of the mounts, such as `nosuid`, each once. */
  readonly options: readonly string[];
  /** Bytes that one locker may have at the most; undefined: as many as there are. */
  readonly maxSize?: bigint;
  /** What a locker is defined by: a mount unit or a line of fstab(5). */
  readonly definition: 'unit' | 'fstab';
}

/** Logical volumes with file systems of their own. */
export interface VolumeStore extends Common {
  readonly type: 'lvm' | 'lvm-thin';
  readonly volumeGroup: string;
  /** Of `lvm-thin` alone. */
  readonly thinPool?: string;
  readonly fileSystem: VolumeFileSystem;
}

/** Subvolumes or directories of one mounted file system. */
export interface TreeStore extends Common {
  readonly type: 'btrfs' | 'directory';
  readonly path: string;
}

export type StoreSettings = VolumeStore | TreeStore;

export interface Stores {
  readonly stores: ReadonlyMap<string, StoreSettings>;
  /** By the store's name: why there is no such store although the settings have it. */
  readonly broken: ReadonlyMap<string, Problem>;
  readonly problems: readonly Problem[];
}

/** Options of a mount that can neither weaken the host nor name a file or a device. */
const harmlessOptions = new Set(
  (
    'nosuid suid nodev dev noexec exec noatime relatime strictatime lazytime nodiratime sync dirsync ro rw ' +
    'discard nodiscard barrier nobarrier user_xattr acl noacl grpid nogrpid bsdgroups sysvgroups prjquota ' +
    'pquota inode64 largeio swalloc wsync ssd nossd autodefrag noautodefrag datacow nodatacow ' +
    'errors=remount-ro errors=continue compress=zlib compress=lzo compress=zstd compress=no ' +
    'data=ordered data=journal data=writeback'
  ).split(' '),
);

function optionsOf(value: string): string[] {
  return value.split(',').map((option) => option.trim());
}

function isHarmless(option: string): boolean {
  return harmlessOptions.has(option) || /^commit=[1-9][0-9]{0,3}$/.test(option);
}

/** As lvm(8) takes them, as far as no program takes them for an option. */
function isVolumeName(value: string): boolean {
  return /^[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}$/.test(value) && !/^\.{1,2}$/.test(value);
}

function isStorePath(value: string): boolean {
  const path = cleanAbsolutePath(value);
  // A comma or a colon would end the path in an option of a mount.
  return path !== undefined && path !== '/' && fitsRestOfLine(path) && !/[\s"'\\,:%$]/.test(path);
}

interface StoreKey {
  readonly accepts: (value: string) => boolean;
  readonly form: string;
  readonly types: readonly StoreType[];
}

const volumes: readonly StoreType[] = ['lvm', 'lvm-thin'];
const trees: readonly StoreType[] = ['btrfs', 'directory'];

function isIn(list: readonly string[]): (value: string) => boolean {
  return (value) => list.includes(value);
}

/** Every key of a store's section; lockerd.conf(5) describes the same ones, a test compares. */
export const storeKeys: Readonly<Record<string, StoreKey>> = {
  type: {
    accepts: isIn(storeTypes),
    form: '"lvm", "lvm-thin", "btrfs" or "directory"',
    types: storeTypes,
  },
  'volume-group': { accepts: isVolumeName, form: 'the name of a volume group', types: volumes },
  'thin-pool': {
    accepts: isVolumeName,
    form: 'the name of a thin pool in the volume group',
    types: ['lvm-thin'],
  },
  path: {
    accepts: isStorePath,
    form: 'an absolute path without "..", blanks, commas, colons and quotes',
    types: trees,
  },
  filesystem: { accepts: isIn(volumeFileSystems), form: '"ext4" or "xfs"', types: volumes },
  options: {
    accepts: (value) => optionsOf(value).every(isHarmless),
    form: 'options of mount(8) with commas between them, none but those that lockerd.conf(5) lists',
    types: storeTypes,
  },
  'max-size': {
    accepts: (value) => (parseBytes(value) ?? 0n) > 0n,
    form: 'a size such as "500G"',
    types: storeTypes,
  },
  definition: { accepts: isIn(['unit', 'fstab']), form: '"unit" or "fstab"', types: storeTypes },
};

interface Section {
  /** As it stands between the brackets, without "store". */
  readonly name: string;
  readonly file: string;
  readonly line: number;
  readonly values: Map<string, Located<string>>;
  /** Keys without a value. */
  readonly bare: Located<string>[];
}

/**
 * The sections of stores in one file. They are read line by line, as ini's own parser takes a dot in a
 * section's name for a section within a section and has no line numbers.
 */
function sectionsOf({ path, text }: SettingsFile): Section[] {
  const sections: Section[] = [];
  let current: Section | undefined;
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    const at = { file: path, line: index + 1 };
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue;
    const title = /^\[(.*)\]$/.exec(line)?.[1]?.trim();
    if (title !== undefined) {
      current = undefined;
      if (!isStoreSection(title)) continue;
      current = { name: title.slice('store'.length).trim(), ...at, values: new Map(), bare: [] };
      sections.push(current);
    } else if (current !== undefined) {
      const equals = line.indexOf('=');
      const key = (equals < 0 ? line : line.slice(0, equals)).trim();
      if (equals < 0) current.bare.push({ value: key, ...at });
      else current.values.set(key, { value: unquote(line.slice(equals + 1).trim()), ...at });
    }
  }
  return sections;
}

/** As ini reads a value in quotes. */
function unquote(value: string): string {
  const [, double, single] = /^(?:"(.*)"|'(.*)')$/.exec(value) ?? [];
  return double ?? single ?? value;
}

/** The first thing that is wrong in a section, as far as that can be seen without what it names. */
function problemOf({ name, file, line, values, bare }: Section): Problem | undefined {
  const see = 'see lockerd.conf(5)';
  if (!isNewName(name)) {
    return {
      file,
      line,
      reason: `"${printable(name)}" cannot name a store`,
      remedy: `write [store NAME], with ${newNameForm}`,
    };
  }
  const [empty] = bare;
  if (empty !== undefined) {
    const { value: key, ...at } = empty;
    return { ...at, reason: `"${printable(key)}" of store "${name}" has no value`, remedy: see };
  }
  const type = values.get('type');
  for (const [key, { value, ...at }] of values) {
    const rule = Object.hasOwn(storeKeys, key) ? storeKeys[key] : undefined;
    if (rule === undefined) {
      return { ...at, reason: `unknown key "${printable(key)}" of store "${name}"`, remedy: see };
    }
    if (!rule.accepts(value)) {
      const reason = `${key}="${printable(value)}" of store "${name}" is not valid`;
      return { ...at, reason, remedy: `write ${rule.form}` };
    }
    if (type !== undefined && !(rule.types as readonly string[]).includes(type.value)) {
      const reason = `store "${name}" of type ${printable(type.value)} has no "${key}"`;
      return { ...at, reason, remedy: see };
    }
  }
  const missing = neededKeys(type?.value).find((key) => !values.has(key));
  if (missing === undefined) return undefined;
  const form = storeKeys[missing]?.form ?? '';
  return {
    file,
    line,
    reason: `store "${name}" has no "${missing}"`,
    remedy: `write "${missing} = ", and ${form}`,
  };
}

function neededKeys(type: string | undefined): readonly string[] {
  switch (type) {
    case 'lvm':
      return ['volume-group'];
    case 'lvm-thin':
      return ['volume-group', 'thin-pool'];
    case 'btrfs':
    case 'directory':
      return ['path'];
    default:
      return ['type'];
  }
}

function storeOf({ name, values }: Section): StoreSettings {
  const text = (key: string): string => values.get(key)?.value ?? '';
  const maxSize = parseBytes(text('max-size'));
  const common: Common = {
    name,
    options: [...new Set(optionsOf(text('options') || 'nosuid,nodev'))],
    definition: text('definition') === 'fstab' ? 'fstab' : 'unit',
    ...(maxSize === undefined ? {} : { maxSize }),
  };
  const type = text('type') as StoreType;
  if (type === 'btrfs' || type === 'directory') {
    return { ...common, type, path: cleanAbsolutePath(text('path')) ?? '' };
  }
  return {
    ...common,
    type,
    volumeGroup: text('volume-group'),
    ...(type === 'lvm-thin' ? { thinPool: text('thin-pool') } : {}),
    fileSystem: text('filesystem') === 'xfs' ? 'xfs' : 'ext4',
  };
}

/** Stores of lockerd.conf and its drop-ins, in the order given; a later section adds to an earlier one. */
export function parseStores(files: readonly SettingsFile[]): Stores {
  const sections = new Map<string, Section>();
  for (const section of files.flatMap(sectionsOf)) {
    const known = sections.get(section.name);
    if (known === undefined) sections.set(section.name, section);
    for (const [key, value] of section.values) known?.values.set(key, value);
    known?.bare.push(...section.bare);
  }
  const stores = new Map<string, StoreSettings>();
  const broken = new Map<string, Problem>();
  for (const [name, section] of sections) {
    const problem = problemOf(section);
    if (problem === undefined) stores.set(name, storeOf(section));
    else broken.set(name, problem);
  }
  return { stores, broken, problems: [...broken.values()] };
}
