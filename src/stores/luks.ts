/**
 * Encrypted lockers: LUKS2 between a volume and its file system. The key is in a file of root's, which is named
 * after the UUID of the volume's LUKS header, or a passphrase that systemd asks for. A line of crypttab(5) tells
 * systemd how to open the volume, which it does when the locker is mounted.
 */

import { randomBytes, randomUUID } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync } from 'node:fs';
import {
  readSettingsFile,
  removeFile,
  removeTemporary,
  replaceFile,
} from '../host/replace-file.ts';
import { LockerdError } from '../model/errors.ts';
import type { Encryption } from '../model/locker-words.ts';
import { pathInstance } from '../model/unit-name.ts';
import { addToCrypttab, isInCrypttab, removeFromCrypttab } from './crypttab.ts';
import type { Layer } from './layer.ts';
import type { RunOptions, Runner } from './tools.ts';
import { ToolError } from './tools.ts';

const keyBytes = 64;

/** How long a passphrase is waited for; seconds. */
const askSec = 120;

/** Deriving a key takes seconds, and far more where the processor is busy or emulated; ms. */
const deriveMs = 300_000;

/** The key is random, so that nothing is gained by making it hard to guess. */
const keyFileDerivation = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];

/** Where both versions of LUKS have the UUID in their header, as text that ends with a NUL; bytes. */
const uuidAt = 168;
const uuidBytes = 40;

function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text);
}

/** Memory in KiB: the default of up to 1 GiB would be taken at each mount, also where a host has little. */
const passphraseDerivation = ['--pbkdf', 'argon2id', '--pbkdf-memory', '262144'];

interface LuksContext {
  readonly locker: string;
  readonly tools: Runner;
  /** Of a new header; a random one by default. */
  readonly uuid?: string | undefined;
  /** In place of /etc, where somebody tries it. */
  readonly etc?: string;
  /** Hears that a passphrase is waited for. */
  readonly progress?: ((phase: string, fraction: number) => void) | undefined;
}

export class LuksLayer implements Layer {
  readonly encrypt: Encryption;
  readonly #context: LuksContext;
  readonly #name: string;
  readonly #crypttab: string;
  readonly #keys: string;
  /** Entered in this request; the next step does not ask again. */
  #passphrase: string | undefined;

  constructor(encrypt: Encryption, context: LuksContext) {
    this.encrypt = encrypt;
    this.#context = context;
    this.#name = `locker-${context.locker}`;
    const { etc = '/etc' } = context;
    this.#crypttab = `${etc}/crypttab`;
    this.#keys = `${etc}/lockerd/keys`;
  }

  private get path(): string {
    return `/dev/mapper/${this.#name}`;
  }

  private get isOpen(): boolean {
    return existsSync(this.path);
  }

  check(): void {
    const has = this.isOpen ? this.path : `a line "${this.#name}"`;
    if (!this.isOpen && !isInCrypttab(readSettingsFile(this.#crypttab), this.#name)) return;
    throw new LockerdError(
      'LockerExists',
      `${this.isOpen ? 'there is' : `${this.#crypttab} has`} ${has} already; take another name for the locker`,
    );
  }

  async make(device: string, signal?: AbortSignal): Promise<void> {
    const { uuid = randomUUID() } = this.#context;
    const key = this.encrypt === 'key-file' ? randomBytes(keyBytes) : await this.ask(signal);
    const derivation = this.encrypt === 'key-file' ? keyFileDerivation : passphraseDerivation;
    const args = ['--batch-mode', '--type', 'luks2', '--uuid', uuid, ...derivation];
    const options = { input: key, signal, timeoutMs: deriveMs };
    await this.cryptsetup(['luksFormat', ...args, '--key-file', '-', '--', device], options);
    // Not before: a header without its key is removed with the volume, a key without a header stayed.
    if (typeof key !== 'string') this.writeKey(uuid, key);
  }

  async open(device: string): Promise<string> {
    if (this.isOpen) return this.path;
    const key = await this.keyOf(device);
    const args = ['open', '--type', 'luks2', '--key-file', key.file, '--', device, this.#name];
    await this.cryptsetup(args, { ...key.options, timeoutMs: deriveMs });
    return this.path;
  }

  async grow(device: string): Promise<void> {
    // It does not need the key to know the size, but the kernel wants it for the new table.
    const key = await this.keyOf(device);
    const args = ['resize', '--key-file', key.file, '--', this.#name];
    await this.cryptsetup(args, { ...key.options, timeoutMs: deriveMs });
  }

  async renew(device: string): Promise<void> {
    const before = await this.uuidOf(device);
    const { uuid = randomUUID() } = this.#context;
    await this.cryptsetup(['luksUUID', '--batch-mode', '--uuid', uuid, '--', device]);
    if (this.encrypt === 'key-file') this.writeKey(uuid, this.readKey(before ?? '', device));
  }

  async close(): Promise<void> {
    const unit = pathInstance('systemd-cryptsetup', `/${this.#name}`);
    // 5: systemd does not know it.
    await this.#context.tools.run('systemctl', ['stop', '--', unit], { fine: [5] });
    // 4: it is closed.
    if (this.isOpen) await this.cryptsetup(['close', '--', this.#name], { fine: [4] });
  }

  source(): string {
    return this.path;
  }

  async define(device: string): Promise<void> {
    const text = readSettingsFile(this.#crypttab);
    const without = removeFromCrypttab(text, this.#name);
    if (isInCrypttab(without, this.#name)) this.check();
    const uuid = await this.uuidOf(device);
    const key = this.encrypt === 'key-file' ? this.keyPath(uuid ?? '') : 'none';
    replaceFile(this.#crypttab, addToCrypttab(without, { name: this.#name, device, key }));
  }

  forget(): Promise<void> {
    const text = readSettingsFile(this.#crypttab);
    const without = removeFromCrypttab(text, this.#name);
    // What is unchanged may still have a next version that a killed helper has left.
    if (without === text) removeTemporary(this.#crypttab);
    else replaceFile(this.#crypttab, without);
    return Promise.resolve();
  }

  async discard(device: string): Promise<void> {
    const uuid = this.#context.uuid ?? (await this.uuidOnDisk(device));
    if (uuid !== undefined) removeFile(this.keyPath(uuid));
  }

  private async uuidOnDisk(device: string): Promise<string | undefined> {
    // Without keys there may be no cryptsetup either.
    const mayHave = existsSync(this.#keys) && existsSync(device);
    return mayHave ? this.uuidOf(device) : undefined;
  }

  async secret(device: string): Promise<string> {
    if (this.encrypt === 'passphrase') return 'its passphrase';
    const uuid = await this.uuidOf(device);
    return uuid === undefined ? 'its key' : `the key ${this.keyPath(uuid)}`;
  }

  private cryptsetup(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return this.#context.tools.run('cryptsetup', args, options);
  }

  /** UUID of the LUKS header on a device; undefined where it has none. */
  private async uuidOf(device: string): Promise<string | undefined> {
    // 1: there is no such header.
    const uuid = (await this.cryptsetup(['luksUUID', '--', device], { fine: [1] })).trim();
    return isUuid(uuid) ? uuid : undefined;
  }

  private async keyOf(device: string): Promise<{ file: string; options: RunOptions }> {
    if (this.encrypt === 'passphrase') return { file: '-', options: { input: await this.ask() } };
    const uuid = await this.uuidOf(device);
    this.readKey(uuid ?? '', device);
    return { file: this.keyPath(uuid ?? ''), options: {} };
  }

  /** Throws Failed where the key is not there. */
  private readKey(uuid: string, device: string): Buffer {
    try {
      return readFileSync(this.keyPath(uuid));
    } catch (error) {
      throw new LockerdError(
        'Failed',
        `the key of locker "${this.#context.locker}" on ${device} is not there: ${this.keyPath(uuid)}`,
        { cause: error },
      );
    }
  }

  private keyPath(uuid: string): string {
    return `${this.#keys}/${uuid}.key`;
  }

  /** It is on the disk before anything relies on it. */
  private writeKey(uuid: string, key: Buffer): void {
    mkdirSync(this.#keys, { recursive: true, mode: 0o700 });
    replaceFile(this.keyPath(uuid), key, { isSecret: true });
  }

  /** Asks people on the host, by whatever answers systemd's questions there. Throws TimedOut and Cancelled. */
  private async ask(signal?: AbortSignal): Promise<string> {
    if (this.#passphrase !== undefined) return this.#passphrase;
    const { locker, tools, progress } = this.#context;
    progress?.('passphrase', 0);
    const question = ['--no-tty', `--timeout=${askSec}`, `--id=lockerd:${this.#name}`];
    const args = [...question, '--icon=drive-harddisk', `Passphrase of locker ${locker}:`];
    const options = { signal, timeoutMs: (askSec + 30) * 1000 };
    const answer = await tools
      .run('systemd-ask-password', args, options)
      .catch((error: unknown) => {
        throw error instanceof ToolError ? this.unanswered(error) : error;
      });
    progress?.('encrypt', 0);
    this.#passphrase = answer.replace(/\n$/, '');
    if (this.#passphrase !== '' && !/[\0\n\ufffd]/.test(this.#passphrase)) return this.#passphrase;
    this.#passphrase = undefined;
    throw new LockerdError('Failed', 'a passphrase is one line of UTF-8 that is not empty');
  }

  private unanswered(cause: ToolError): LockerdError {
    return new LockerdError(
      'TimedOut',
      `nobody has entered the passphrase of locker "${this.#context.locker}" within ${askSec} s; as root: ` +
        'systemd-tty-ask-password-agent --query',
      { cause },
    );
  }
}

/** What a header of LUKS begins with, of either version. */
const magic = Buffer.from('LUKS\xba\xbe', 'latin1');

/** How a volume is encrypted that has no definition; undefined for one that is not. Throws Failed. */
export function encryptionOf(device: string, etc = '/etc'): Encryption | undefined {
  const header = Buffer.alloc(uuidAt + uuidBytes);
  const fd = openSync(device, 'r');
  try {
    readSync(fd, header, 0, header.length, 0);
  } finally {
    closeSync(fd);
  }
  if (!header.subarray(0, magic.length).equals(magic)) return undefined;
  const [uuid = ''] = header.toString('latin1', uuidAt).split('\0');
  const hasKey = isUuid(uuid) && existsSync(`${etc}/lockerd/keys/${uuid}.key`);
  return hasKey ? 'key-file' : 'passphrase';
}
