/**
 * Valid names, as the D-Bus specification defines them. Names are ASCII, so characters are bytes.
 */

/** Section "Valid Object Paths". */
export function isObjectPath(text: string): boolean {
  return /^\/(?:[A-Za-z0-9_]+(?:\/[A-Za-z0-9_]+)*)?$/.test(text);
}

/** Section "Interface names"; error names have the same form. */
export function isInterfaceName(text: string): boolean {
  return text.length <= 255 && /^[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+$/.test(text);
}

/** Section "Member names". */
export function isMemberName(text: string): boolean {
  return text.length <= 255 && /^[A-Za-z_][A-Za-z0-9_]*$/.test(text);
}

/** Section "Bus names": unique ones (`:1.42`) and well-known ones. */
export function isBusName(text: string): boolean {
  return (
    text.length <= 255 &&
    /^(?::[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+|[A-Za-z_-][A-Za-z0-9_-]*(?:\.[A-Za-z_-][A-Za-z0-9_-]*)+)$/.test(
      text,
    )
  );
}

/** The bus itself: section "Message Bus Specification". */
export const busDriver = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
} as const;
