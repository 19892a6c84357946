/** What an archive says of its container beside the files, and the members that tar(1) does not write. */
import { Fields } from '../move/fields.ts';
import { parseBelongings, type Belongings } from '../move/belongings.ts';
import { LockerdError } from '../model/errors.ts';

/** Changes whenever an older lockerd would not understand an archive. */
export const formatVersion = 1;

export const blockSize = 512;

/** The members, in their order. */
export const members = {
  manifest: 'lockerd-container.json',
  tree: 'container',
  checksum: 'lockerd-checksum',
} as const;

/** A configuration has up to 8 MiB with what it includes. */
export const manifestMaxBytes = 16 * 1024 * 1024;

export interface Manifest {
  readonly name: string;
  /** Version of the LXC that it ran with. */
  readonly lxc: string;
  /** Where its directory was; its configuration names paths below that. */
  readonly directory: string;
  /** The root file system, as a path in the directory. */
  readonly rootfs: string;
  /** The configuration with what it includes. */
  readonly config: string;
  readonly needs: readonly string[];
  readonly idmaps: readonly string[];
  readonly lockers: readonly string[];
  readonly autostart: boolean;
  /** The guest stood still and was not shut down: its files are as after a power failure. */
  readonly wasRunning: boolean;
  readonly belongings: Belongings;
}

export function formatManifest({ belongings, ...manifest }: Manifest): string {
  return `${JSON.stringify({ version: formatVersion, ...manifest, ...belongings }, null, 2)}\n`;
}

/** Reads the first member. Throws Failed for what is none. */
export function parseManifest(text: string): Manifest {
  const fields = Fields.parse(text);
  const version = fields.number('version');
  if (version !== formatVersion) {
    throw new LockerdError(
      'Failed',
      `its format is version ${version}, and this lockerd knows ${formatVersion}`,
    );
  }
  return {
    name: fields.text('name'),
    lxc: fields.text('lxc'),
    directory: fields.text('directory'),
    rootfs: fields.text('rootfs'),
    config: fields.text('config'),
    needs: fields.texts('needs'),
    idmaps: fields.texts('idmaps'),
    lockers: fields.texts('lockers'),
    autostart: fields.flag('autostart'),
    wasRunning: fields.flag('wasRunning'),
    belongings: parseBelongings(fields),
  };
}

/** A number as tar has it: octal, with a NUL behind it. */
function octal(value: number, bytes: number): string {
  return `${value.toString(8).padStart(bytes - 1, '0')}\0`;
}

/** The sum of a header's bytes, in which the sum itself counts as blanks. */
export function headerSum(header: Buffer): number {
  let sum = 8 * 0x20;
  for (let at = 0; at < blockSize; at++) {
    if (at < 148 || at >= 156) sum += header[at] ?? 0;
  }
  return sum;
}

/** A regular file of root's, with its header and its padding. */
export function memberOf(name: string, content: Buffer): Buffer {
  const header = Buffer.alloc(blockSize);
  header.write(name, 0, 'latin1');
  header.write(octal(0o600, 8), 100, 'latin1');
  header.write(octal(0, 8), 108, 'latin1');
  header.write(octal(0, 8), 116, 'latin1');
  header.write(octal(content.length, 12), 124, 'latin1');
  header.write(octal(Math.floor(Date.now() / 1000), 12), 136, 'latin1');
  header.write('0', 156, 'latin1');
  header.write('ustar\u000000', 257, 'latin1');
  header.write(octal(headerSum(header), 7), 148, 'latin1');
  header.write(' ', 155, 'latin1');
  const padding = Buffer.alloc((blockSize - (content.length % blockSize)) % blockSize);
  return Buffer.concat([header, content, padding]);
}
