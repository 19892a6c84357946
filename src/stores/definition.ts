/**
 * How a locker is defined: a mount unit with a section that systemd leaves alone, or a line of fstab(5) with
 * options that mount(8) leaves alone. Either says which store the locker is from, who made it, and by which
 * change, which tells a killed change that it had come to its end.
 */

import { encodeField, parseFstabLine } from '../model/fstab.ts';
import { pathInstance } from '../model/unit-name.ts';
import { unitText, unitWord } from '../model/unit-syntax.ts';
import type { MountSource } from './driver.ts';

/** What a definition says besides how the locker is mounted. */
export interface Origin {
  readonly store: string;
  /** User id of who had it made. */
  readonly creator: number;
  /** Id of the change that made it. */
  readonly change: string;
  /** Absent where it is not encrypted. */
  readonly encrypt?: string;
}

export interface Definition extends Origin {
  readonly locker: string;
  readonly mountPoint: string;
  readonly source: MountSource;
  /** Those of the store's settings. */
  readonly options: readonly string[];
}

function allOptions({ source, options }: Definition): string[] {
  return [...new Set([...source.options, ...options])];
}

/** The check before a mount, which systemd adds by itself only for lines of fstab. */
function checkOf({ what, type }: MountSource): string {
  if (type !== 'ext4') return '';
  const check = pathInstance('systemd-fsck', what);
  // As it is: systemd keeps the backslashes of unit names where there are no quotes.
  return `Requires=${check}\nAfter=${check}\n`;
}

/**
 * Text of the mount unit of a locker. Without the default dependencies the boot does not wait for a locker
 * that is lost; a container that needs it still does, as it would not with the option "nofail".
 */
export function unitOf(definition: Definition): string {
  const { locker, mountPoint, source, store, creator, change, encrypt } = definition;
  const needs = source.needs.map((path) => `RequiresMountsFor=${unitWord(path)}\n`).join('');
  return `# Made by lockerd; see lockerd(7). "lockerctl forget-locker" removes it, and no data.
[Unit]
Description=${unitText(`Locker "${locker}"`)}
Documentation=man:lockerd(7)
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target
After=local-fs-pre.target
${checkOf(source)}${needs}
[Mount]
What=${unitText(source.what)}
Where=${unitText(mountPoint)}
Type=${unitText(source.type)}
Options=${unitText(allOptions(definition).join(','))}

[Install]
WantedBy=local-fs.target

[X-Lockerd]
Store=${store}
Creator=${creator}
Change=${change}
${encrypt === undefined ? '' : `Encrypt=${encrypt}\n`}`;
}

const optionPrefix = 'x-lockerd.';

/** Line of fstab(5) of a locker, with its newline. */
export function fstabLineOf(definition: Definition): string {
  const { mountPoint, source, store, creator, change, encrypt } = definition;
  const ours = Object.entries({ store, creator, change, encrypt }).flatMap(([key, value]) =>
    value === undefined ? [] : [`${optionPrefix}${key}=${value}`],
  );
  const needs = source.needs.map((path) => `x-systemd.requires-mounts-for=${path}`);
  // A boot goes on without it.
  const options = ['nofail', ...allOptions(definition), ...needs, ...ours].join(',');
  const fields = [source.what, mountPoint, source.type, options].map(encodeField);
  // A bind mount is not checked at boot, and a file system of its own after the root directory's.
  return `${fields.join(' ')} 0 ${source.type === 'none' ? 0 : 2}\n`;
}

function originOf(values: ReadonlyMap<string, string>): Origin | undefined {
  const store = values.get('store') ?? '';
  const creator = values.get('creator') ?? '';
  if (store === '' || !/^[0-9]{1,10}$/.test(creator)) return undefined;
  const encrypt = values.get('encrypt');
  return {
    store,
    creator: Number(creator),
    change: values.get('change') ?? '',
    ...(encrypt === undefined ? {} : { encrypt }),
  };
}

/** What the section [X-Lockerd] of a mount unit says; undefined for a unit that lockerd has not made. */
export function parseUnitOrigin(text: string): Origin | undefined {
  const values = new Map<string, string>();
  let isOurs = false;
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line.startsWith('[')) isOurs = line === '[X-Lockerd]';
    const equals = line.indexOf('=');
    if (!isOurs || equals < 0 || /^[#;]/.test(line)) continue;
    values.set(line.slice(0, equals).trim().toLowerCase(), line.slice(equals + 1).trim());
  }
  return originOf(values);
}

/** The same of the options of a line of fstab(5). */
export function parseFstabOrigin(options: readonly string[]): Origin | undefined {
  const ours = options.filter((option) => option.startsWith(optionPrefix));
  return originOf(
    new Map(
      ours.map((option) => {
        const [key = '', value = ''] = option.slice(optionPrefix.length).split('=', 2);
        return [key, value];
      }),
    ),
  );
}

/** The text of fstab with a line more. What stands there stays byte by byte. */
export function addToFstab(text: string, line: string): string {
  return text === '' || text.endsWith('\n') ? text + line : `${text}\n${line}`;
}

/** The text of fstab without the lines that mount something at a path; all others stay byte by byte. */
export function removeFromFstab(text: string, isMountPoint: (target: string) => boolean): string {
  return text
    .split(/(?<=\n)/)
    .filter((line) => {
      const entry = parseFstabLine(line.replace(/\n$/, ''), 0);
      return entry === undefined || !isMountPoint(entry.target);
    })
    .join('');
}
