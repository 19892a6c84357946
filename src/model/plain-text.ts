/**
 * The looks that nearly all names and paths pass. A run takes some forty of them for each container:
 * regular expressions here, for Node, and C in build/quickjs/plain-text.c for the compiled generator,
 * which the build puts in the place of this module.
 */

/** Words without characters that are special to systemd's word splitting. */
const plainWord = /^[0-9A-Za-z_@+,.:/-][0-9A-Za-z_@+,.:/=-]*$/;

export function isPlainWord(text: string): boolean {
  return plainWord.test(text);
}

/** Printable ASCII, nothing special, no blank at an end. */
const plainLine = /^[!-$&-[\]-~](?:[ -$&-[\]-~]*[!-$&-[\]-~])?$/;

/** Whether a text needs no quoting as the rest of a line. */
export function isPlainLine(text: string): boolean {
  return plainLine.test(text);
}

/** Names that need no escaping in the instance of a unit. */
const plainInstance = /^[0-9A-Za-z:_.@-]*$/;

export function isPlainInstance(name: string): boolean {
  return plainInstance.test(name);
}

/** Paths whose only characters to escape are dashes. */
const plainPath = /^(?:\/[0-9A-Za-z:_-][0-9A-Za-z:_.-]*)+$/;

/** Such a path as systemd-escape(1) writes it; undefined for any other. */
export function escapePlainPath(path: string): string | undefined {
  return plainPath.test(path)
    ? path.slice(1).replaceAll('-', '\\x2d').replaceAll('/', '-')
    : undefined;
}
