/**
 * Names of units: systemd's escaping of paths and instances, and the names of the units that the project
 * uses for containers, groups, mounts and devices.
 */

import { escapePlainPath, isPlainInstance } from './plain-text.ts';
import { utf8Bytes } from './utf8.ts';

/** systemd's UNIT_NAME_MAX counts the terminating NUL, so a name may have 255 bytes. */
const unitNameMaxBytes = 255;

function hexEscape(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, '0')}`;
}

function escapeBytes(text: string, keep: (byte: number, index: number) => boolean): string {
  return utf8Bytes(text)
    .map((byte, index) => (keep(byte, index) ? String.fromCharCode(byte) : hexEscape(byte)))
    .join('');
}

function isAlphanumeric(byte: number): boolean {
  return (
    (byte >= 0x30 && byte <= 0x39) ||
    (byte >= 0x41 && byte <= 0x5a) ||
    (byte >= 0x61 && byte <= 0x7a)
  );
}

function isOneOf(byte: number, chars: string): boolean {
  return byte < 0x80 && chars.includes(String.fromCharCode(byte));
}

/**
 * Escapes a container or group name for use as a unit instance. Only bytes that a unit name cannot
 * contain are escaped, as `\xNN` per UTF-8 byte. So `web-1` stays as the admin types it, and
 * `systemctl start 'lxc@my web'`, which escapes the blank in the same way, finds its unit. The
 * backslash is escaped too, which keeps the mapping reversible.
 */
export function escapeInstance(name: string): string {
  return isPlainInstance(name)
    ? name
    : escapeBytes(name, (byte) => isAlphanumeric(byte) || isOneOf(byte, ':_.@-'));
}

/** Escapes an absolute path as `systemd-escape --path` does; `/` itself becomes `-`. */
export function escapePath(path: string): string {
  return escapePlainPath(path) ?? escapeParts(path);
}

function escapeParts(path: string): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.length === 0) return '-';
  return parts
    .map((part, partIndex) =>
      escapeBytes(
        part,
        (byte, index) =>
          isAlphanumeric(byte) ||
          isOneOf(byte, ':_') ||
          // A leading dot would make the unit a hidden file.
          (byte === 0x2e && !(partIndex === 0 && index === 0)),
      ),
    )
    .join('-');
}

/** The path that escapePath() encodes as this name; undefined if there is none. */
export function unescapePath(escaped: string): string | undefined {
  try {
    const path = escaped
      .replaceAll('%', '%25')
      .replaceAll('-', '/')
      .replaceAll(/\\x([0-9a-f]{2})/g, '%$1');
    const decoded = `/${decodeURIComponent(path)}`;
    return escapePath(decoded) === escaped ? decoded : undefined;
  } catch {
    // The bytes are not valid UTF-8.
    return undefined;
  }
}

/** The unit of a container: `lxc@NAME.service`. */
export function containerUnit(name: string): string {
  return `lxc@${escapeInstance(name)}.service`;
}

/** The target that groups the containers of one lxc.group. */
export function groupTarget(group: string): string {
  return `lxc-group@${escapeInstance(group)}.target`;
}

/** The unit that waits for lxc.start.delay after a container has started. */
export function delayUnit(name: string): string {
  return `lxc-delay@${escapeInstance(name)}.service`;
}

export function mountUnit(mountPoint: string): string {
  return `${escapePath(mountPoint)}.mount`;
}

/** The instance of a template unit for a path, which the template gets as `%f`. */
export function pathInstance(template: string, path: string): string {
  return `${template}@${escapePath(path)}.service`;
}

export function deviceUnit(devicePath: string): string {
  return `${escapePath(devicePath)}.device`;
}

/** The device unit of a network interface (systemd.device(5), SYSTEMD_ALIAS= of udev's rules). */
export function netDeviceUnit(interfaceName: string): string {
  return deviceUnit(`/sys/subsystem/net/devices/${interfaceName}`);
}

/**
 * Whether systemd can have a unit of this escaped name. Its drop-in directory has two more characters,
 * so it is the first to exceed the file system's limit of 255 bytes.
 */
export function unitNameFits(unit: string): boolean {
  return unit.length + '.d'.length <= unitNameMaxBytes;
}
