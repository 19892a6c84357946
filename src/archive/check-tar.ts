/**
 * Reads the bytes of an archive as they come, and refuses what no export has written: paths out of the tree, files
 * below links, members of other kinds, sizes that cannot be. What is not refused may be given to tar(1).
 *
 * Names are bytes; they are handled as Latin-1, of which each character is one byte.
 */
import { createHash } from 'node:crypto';
import { LockerdError } from '../model/errors.ts';
import { printable } from '../model/unit-syntax.ts';
import { blockSize, headerSum, manifestMaxBytes, members } from './format.ts';

/** Who wants to know what is in an archive. */
export interface ArchiveSink {
  /** The text of the first member. */
  readonly manifest: (text: string) => void;
  /** Bytes of the tree, headers included, once they have been checked as far as they have come. */
  readonly tree?: (bytes: Buffer) => void;
}

/** What one member becomes. */
interface Member {
  readonly kind: 'manifest' | 'pax' | 'tree' | 'checksum';
  readonly sizeBytes: number;
  /** What has come of a member that is read as a whole. */
  readonly parts: Buffer[];
}

const types = {
  file: '0',
  hardLink: '1',
  symbolicLink: '2',
  characterDevice: '3',
  blockDevice: '4',
  directory: '5',
  fifo: '6',
  pax: 'x',
} as const;

/** Records of POSIX headers that an export writes. */
const paxKeys =
  /^(?:path|linkpath|size|uid|gid|uname|gname|mtime|SCHILY\.acl\.(?:access|default)|SCHILY\.xattr\..{1,300}|GNU\.sparse\.(?:major|minor|name|realsize))$/s;

const paxMaxBytes = 4 * 1024 * 1024;
const pathMaxBytes = 4096;
const nameMaxBytes = 255;
/** Of which the names are kept; a host has fewer. */
const directoriesMax = 4_000_000;
const checksumBytes = 65;

function refuse(why: string): LockerdError {
  return new LockerdError('Failed', `the archive is refused: ${why}`);
}

/** A name as people can read it. */
function shown(path: string): string {
  return `"${printable(Buffer.from(path.slice(0, 200), 'latin1').toString('utf8'))}"`;
}

function textAt(header: Buffer, from: number, length: number): string {
  const text = header.toString('latin1', from, from + length);
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/** A size as tar has it. Throws Failed for one in a form that an export does not use. */
function parseSize(text: string): number {
  const digits = text.trim();
  if (!/^[0-7]{1,12}$/.test(digits)) throw refuse('a size is no number');
  return Number.parseInt(digits, 8);
}

function parseDecimalSize(text: string): number {
  const size = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(size)) throw refuse('a size is no number');
  return size;
}

/** Reads `LENGTH KEY=VALUE` records. */
export function parsePax(content: Buffer): Map<string, string> {
  const text = content.toString('latin1');
  const records = new Map<string, string>();
  for (let at = 0; at < text.length;) {
    const [head = '', digits = ''] = /^(\d{1,7}) /.exec(text.slice(at, at + 8)) ?? [];
    const end = at + Number(digits);
    const record = text.slice(at + head.length, end);
    const equals = record.indexOf('=');
    if (head === '' || end > text.length || equals < 1 || !record.endsWith('\n')) {
      throw refuse('a header is no list of records');
    }
    const key = record.slice(0, equals);
    if (!paxKeys.test(key)) throw refuse(`a header has ${shown(key)}`);
    if (records.has(key)) throw refuse(`a header has ${shown(key)} twice`);
    records.set(key, record.slice(equals + 1, -1));
    at = end;
  }
  return records;
}

/** A path of the tree without a slash at its end. Throws Failed for any other one. */
function checkPath(path: string): string {
  const clean = path.endsWith('/') ? path.slice(0, -1) : path;
  const parts = clean.split('/');
  const isFine =
    clean.length <= pathMaxBytes &&
    !clean.includes('\0') &&
    parts[0] === members.tree &&
    parts.every((part) => !['', '.', '..'].includes(part) && part.length <= nameMaxBytes);
  if (isFine) return clean;
  throw refuse(`${shown(path)} is no path in the container's directory`);
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));

export class ArchiveReader {
  readonly #sink: ArchiveSink;
  readonly #hash = createHash('sha256');
  readonly #directories = new Set<string>();
  #next: 'manifest' | 'tree' | 'end' = 'manifest';
  #header: Buffer = Buffer.alloc(0);
  #member: Member | undefined;
  /** Bytes of the member that are to come, and of what fills its last block. */
  #left = 0;
  #padding = 0;
  #pax: ReadonlyMap<string, string> = new Map();
  #hasConfig = false;
  #files = 0;
  #bytes = 0;
  #checksum: string | undefined;

  constructor(sink: ArchiveSink) {
    this.#sink = sink;
  }

  /** Files in the tree, and bytes that they take in whole blocks of 4 KiB. */
  get size(): { readonly files: number; readonly bytes: number } {
    return { files: this.#files, bytes: this.#bytes };
  }

  /** Of all that it vouches for; undefined before the end. */
  get checksum(): string | undefined {
    return this.#checksum;
  }

  /** SHA-256 of what has come so far. */
  digest(): string {
    return this.#hash.copy().digest('hex');
  }

  /** Whether the tree has such a directory: a path in the container's, without a slash at either end. */
  hasDirectory(path: string): boolean {
    return this.#directories.has(`${members.tree}/${Buffer.from(path).toString('latin1')}`);
  }

  /** Takes the next bytes. Throws Failed as soon as they cannot be of an archive. */
  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length;) {
      if (this.#left + this.#padding > 0) at = this.#takeContent(chunk, at);
      else at = this.#takeHeader(chunk, at);
    }
  }

  /** To be called when no more bytes come. Throws Failed unless the archive is whole. */
  end(): void {
    if (this.#checksum !== undefined) return;
    throw refuse('it ends in the middle');
  }

  #takeContent(chunk: Buffer, at: number): number {
    const isContent = this.#left > 0;
    const end = Math.min(chunk.length, at + (isContent ? this.#left : this.#padding));
    const bytes = chunk.subarray(at, end);
    if (isContent) this.#left -= bytes.length;
    else this.#padding -= bytes.length;
    const member = this.#member;
    if (isContent && member?.kind !== 'tree') member?.parts.push(Buffer.from(bytes));
    if (member?.kind !== 'checksum') this.#hash.update(bytes);
    if (member?.kind === 'tree' || member?.kind === 'pax') this.#sink.tree?.(bytes);
    if (this.#left + this.#padding === 0) this.#endMember();
    return end;
  }

  #takeHeader(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + blockSize - this.#header.length);
    this.#header = Buffer.concat([this.#header, chunk.subarray(at, end)]);
    if (this.#header.length === blockSize) {
      const header = this.#header;
      this.#header = Buffer.alloc(0);
      this.#begin(header);
    }
    return end;
  }

  #begin(header: Buffer): void {
    if (this.#next === 'end') {
      if (header.every((byte) => byte === 0)) return;
      throw refuse('something follows its end');
    }
    const sum = parseSize(textAt(header, 148, 7));
    if (textAt(header, 257, 6) !== 'ustar' || sum !== headerSum(header)) {
      throw refuse('a header is damaged, or of another format');
    }
    const type = header.toString('latin1', 156, 157);
    const prefix = textAt(header, 345, 155);
    const name = `${prefix === '' ? '' : `${prefix}/`}${textAt(header, 0, 100)}`;
    const sizeBytes = parseSize(textAt(header, 124, 12));
    if (this.#next === 'manifest') this.#beginManifest(name, type, sizeBytes);
    else if (name === members.checksum && this.#pax.size === 0) this.#beginChecksum(sizeBytes);
    else if (type === types.pax) this.#beginPax(sizeBytes);
    else this.#beginEntry(header, name, type, sizeBytes);
    if (this.#member?.kind !== 'checksum') this.#hash.update(header);
    if (this.#member?.kind === 'tree' || this.#member?.kind === 'pax') this.#sink.tree?.(header);
    if (this.#left === 0) this.#endMember();
  }

  #expect(kind: Member['kind'], sizeBytes: number, maxBytes: number): void {
    if (sizeBytes > maxBytes) throw refuse('a member is too large');
    this.#member = { kind, sizeBytes, parts: [] };
    this.#left = sizeBytes;
    this.#padding = (blockSize - (sizeBytes % blockSize)) % blockSize;
  }

  #beginManifest(name: string, type: string, sizeBytes: number): void {
    if (name !== members.manifest || type !== types.file) {
      throw refuse(
        `it does not begin with ${members.manifest}; "lockerctl export" has not made it`,
      );
    }
    this.#expect('manifest', sizeBytes, manifestMaxBytes);
  }

  #beginChecksum(sizeBytes: number): void {
    this.#expect('checksum', sizeBytes, checksumBytes);
  }

  #beginPax(sizeBytes: number): void {
    if (this.#pax.size > 0) throw refuse('two headers of one member follow each other');
    this.#expect('pax', sizeBytes, paxMaxBytes);
  }

  #beginEntry(header: Buffer, ownName: string, type: string, ownBytes: number): void {
    const pax = this.#pax;
    this.#pax = new Map();
    const size = pax.get('size');
    const sizeBytes = size === undefined ? ownBytes : parseDecimalSize(size);
    const sparse = pax.get('GNU.sparse.name');
    // tar checks the path of the header as well, though another one counts.
    const path = checkPath(sparse ?? pax.get('path') ?? ownName);
    if (sparse !== undefined) this.#checkSparse(pax, type);
    const isFile = type === types.file;
    if (!isFile && sizeBytes !== 0) throw refuse(`${shown(path)} has content, and is no file`);
    if (type === types.hardLink) {
      this.#checkParent(checkPath(pax.get('linkpath') ?? textAt(header, 157, 100)));
    } else if (type === types.symbolicLink) {
      const target = pax.get('linkpath') ?? textAt(header, 157, 100);
      if (target.length > pathMaxBytes) throw refuse(`${shown(path)} has too long a target`);
    } else if (!Object.values<string>(types).includes(type)) {
      throw refuse(`${shown(path)} is of type ${shown(type)}`);
    }
    this.#checkParent(path);
    this.#note(path, type);
    this.#files++;
    this.#bytes += Math.ceil(Math.max(1, sizeBytes) / 4096) * 4096;
    this.#expect('tree', sizeBytes, Number.MAX_SAFE_INTEGER);
  }

  /** The only form in which an export has files with holes. */
  #checkSparse(pax: ReadonlyMap<string, string>, type: string): void {
    const [major, minor] = [pax.get('GNU.sparse.major'), pax.get('GNU.sparse.minor')];
    if (type !== types.file || major !== '1' || minor !== '0') {
      throw refuse('a file with holes is of another format');
    }
    parseDecimalSize(pax.get('GNU.sparse.realsize') ?? '');
  }

  /** Nothing is below a link or a file, and each directory comes before what is in it. */
  #checkParent(path: string): void {
    const parent = parentOf(path);
    if (parent === '' || this.#directories.has(parent)) return;
    throw refuse(`${shown(path)} is not in a directory that came before it`);
  }

  #note(path: string, type: string): void {
    if (this.#directories.has(path)) throw refuse(`it has ${shown(path)} twice`);
    if (type === types.directory) {
      if (this.#directories.size >= directoriesMax) throw refuse('it has too many directories');
      this.#directories.add(path);
    } else if (path === members.tree) {
      throw refuse(`${shown(path)} is no directory`);
    }
    const isFile = type === types.file || type === types.hardLink;
    if (path === `${members.tree}/config` && isFile) this.#hasConfig = true;
  }

  #endMember(): void {
    const member = this.#member;
    if (member === undefined) return;
    this.#member = undefined;
    const content = Buffer.concat(member.parts);
    if (member.kind === 'manifest') {
      this.#next = 'tree';
      this.#sink.manifest(content.toString('utf8'));
    } else if (member.kind === 'pax') this.#pax = parsePax(content);
    else if (member.kind === 'checksum') this.#endAll(content.toString('latin1'));
  }

  #endAll(text: string): void {
    const found = this.#hash.digest('hex');
    if (text !== `${found}\n`) throw refuse('its checksum is wrong: it was damaged or changed');
    if (!this.#hasConfig) throw refuse('it has no configuration of a container');
    this.#next = 'end';
    this.#checksum = found;
  }
}
