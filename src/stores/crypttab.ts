/**
 * Lines of crypttab(5) for encrypted lockers. Each stands below a comment that makes it ours: what an admin
 * has written stays byte by byte, and is never taken for one of these.
 */

/** What opens an encrypted device. */
export interface CrypttabEntry {
  /** Below /dev/mapper. */
  readonly name: string;
  readonly device: string;
  /** File with the key, or `none`: the passphrase is asked for. */
  readonly key: string;
}

/** Opened with the mount and not by the boot itself, which does not wait for it. */
const options = 'luks,noauto,nofail';

function mark(name: string): string {
  return `# ${name}: made by lockerd, see lockerd(7); "lockerctl forget-locker" removes it.\n`;
}

function linesOf(text: string): string[] {
  return text.split(/(?<=\n)/);
}

function nameOf(line: string): string | undefined {
  const [name = ''] = line.trim().split(/[ \t]+/);
  return name === '' || name.startsWith('#') ? undefined : name;
}

/** Whether a text of crypttab has a line for a name, whoever wrote it. */
export function isInCrypttab(text: string, name: string): boolean {
  return linesOf(text).some((line) => nameOf(line) === name);
}

/** The text with an entry more. */
export function addToCrypttab(text: string, { name, device, key }: CrypttabEntry): string {
  const before = text === '' || text.endsWith('\n') ? text : `${text}\n`;
  return `${before}${mark(name)}${name} ${device} ${key} ${options}\n`;
}

/** The text without the entry of this name that addToCrypttab() has added. */
export function removeFromCrypttab(text: string, name: string): string {
  const lines = linesOf(text);
  return lines
    .filter((line, index) => {
      const isOurs = nameOf(line) === name && lines[index - 1] === mark(name);
      return !isOurs && line !== mark(name);
    })
    .join('');
}
