import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LockerdError } from '../../src/model/errors.ts';
import { encryptionOf, LuksLayer } from '../../src/stores/luks.ts';
import type { Encryption } from '../../src/model/locker-words.ts';
import type { Runner } from '../../src/stores/tools.ts';
import { ToolError } from '../../src/stores/tools.ts';

let root = '';
let device = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-luks-'));
  device = join(root, 'device');
  writeFileSync(device, 'blank');
  mkdirSync(join(root, 'lockerd'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

/** What cryptsetup does to a volume, which holds `LUKS UUID SECRET` here. */
class MadeUpCryptsetup implements Runner {
  readonly asked: string[] = [];
  readonly answers: (string | Error)[] = [];

  readonly run: Runner['run'] = (program, args, { input, fine = [] } = {}) => {
    this.asked.push([program, ...args].join(' '));
    const option = (name: string): string => args[args.indexOf(name) + 1] ?? '';
    if (program === 'systemd-ask-password') {
      const answer = this.answers.shift() ?? new Error('nobody is asked');
      return typeof answer === 'string' ? Promise.resolve(answer) : Promise.reject(answer);
    }
    if (program !== 'cryptsetup') return Promise.resolve('');
    const [magic, uuid = '', secret = ''] = readFileSync(device, 'utf8').split(' ');
    const given = Buffer.from(input ?? '').toString('hex');
    const key = (): string => {
      const file = option('--key-file');
      return file === '-' ? given : readFileSync(file).toString('hex');
    };
    switch (args[0]) {
      case 'luksFormat':
        writeFileSync(device, `LUKS ${option('--uuid')} ${key()}`);
        return Promise.resolve('');
      case 'luksUUID':
        if (args.includes('--uuid')) writeFileSync(device, `LUKS ${option('--uuid')} ${secret}`);
        else if (magic !== 'LUKS' && !fine.includes(1)) throw new Error('not a LUKS device');
        return Promise.resolve(magic === 'LUKS' ? `${uuid}\n` : '');
      case 'open':
      case 'resize':
        return key() === secret
          ? Promise.resolve('')
          : Promise.reject(new ToolError('cryptsetup', 'No key available', 2, ''));
      default:
        return Promise.resolve('');
    }
  };
}

function layerOf(encrypt: Encryption, locker = 'data') {
  const tools = new MadeUpCryptsetup();
  const phases: string[] = [];
  const progress = (phase: string): void => void phases.push(phase);
  return { layer: new LuksLayer(encrypt, { locker, tools, etc: root, progress }), tools, phases };
}

const crypttab = () => readFileSync(join(root, 'crypttab'), 'utf8');
const keys = () => {
  const directory = join(root, 'lockerd/keys');
  return existsSync(directory) ? readdirSync(directory) : [];
};

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  );
  return error instanceof LockerdError ? error.code : String(error);
}

describe('a key file', () => {
  test('is the only thing that opens the volume, and nobody but root can read it', async () => {
    const { layer, tools } = layerOf('key-file');
    await layer.make(device);
    const [name = ''] = keys();
    const file = join(root, 'lockerd/keys', name);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(join(root, 'lockerd/keys')).mode & 0o777).toBe(0o700);
    expect(readFileSync(file)).toHaveLength(64);
    expect(readFileSync(device, 'utf8')).toBe(
      `LUKS ${name.replace('.key', '')} ${readFileSync(file).toString('hex')}`,
    );
    expect(await layer.open(device)).toBe('/dev/mapper/locker-data');
    await layer.grow(device);
    expect(tools.asked.join('\n')).not.toContain(readFileSync(file).toString('hex'));
    writeFileSync(file, 'another');
    expect(await codeOf(layer.open(device))).toBe('Failed');
    rmSync(file);
    expect(await codeOf(layer.open(device))).toBe('Failed');
  });

  test('is copied for a copy of the volume, which gets another UUID', async () => {
    await layerOf('key-file').layer.make(device);
    const [before = ''] = keys();
    const { layer } = layerOf('key-file', 'copy');
    await layer.renew(device);
    const [after = ''] = keys().filter((name) => name !== before);
    expect(readFileSync(device, 'utf8')).toContain(after.replace('.key', ''));
    await layer.open(device);
    // The other one keeps its own.
    await layer.discard(device);
    expect(keys()).toEqual([before]);
    await layer.discard(device);
  });

  test('is named in crypttab, in the words of a forgotten locker, and goes with the volume', async () => {
    writeFileSync(join(root, 'crypttab'), 'swap /dev/sda2 /dev/urandom swap');
    const { layer } = layerOf('key-file');
    await layer.make(device);
    await layer.define(device);
    const file = join(root, 'lockerd/keys', keys()[0] ?? '');
    expect(crypttab()).toContain(`\nlocker-data ${device} ${file} luks,noauto,nofail\n`);
    await layer.define(device);
    expect(crypttab().match(/^locker-data /gm)).toHaveLength(1);
    expect(await layer.secret(device)).toBe(`the key ${file}`);
    await layer.forget();
    await layer.forget();
    expect(crypttab()).toBe('swap /dev/sda2 /dev/urandom swap\n');
    expect(keys()).toHaveLength(1);
    await layer.discard(device);
    expect(keys()).toEqual([]);
  });

  test('is not asked of cryptsetup where there are none', async () => {
    const { layer, tools } = layerOf('key-file');
    await layer.discard(device);
    expect(tools.asked).toEqual([]);
  });
});

describe('a passphrase', () => {
  test('is asked for once in a request, and is no argument of any program', async () => {
    const { layer, tools, phases } = layerOf('passphrase');
    tools.answers.push('open sesame\n');
    await layer.make(device);
    await layer.open(device);
    await layer.grow(device);
    expect(phases).toEqual(['passphrase', 'encrypt']);
    expect(tools.asked.join('\n')).not.toContain('sesame');
    expect(tools.asked.filter((command) => command.startsWith('systemd-ask'))).toHaveLength(1);
    await layer.define(device);
    expect(crypttab()).toContain(`locker-data ${device} none luks,noauto,nofail\n`);
    expect(keys()).toEqual([]);
  });

  test('that is wrong, empty, or given by nobody makes nothing', async () => {
    for (const [answer, code] of [
      ['\n', 'Failed'],
      ['two\nlines\n', 'Failed'],
      ['\ufffd\n', 'Failed'],
      [new ToolError('systemd-ask-password', 'Timer expired', 1, ''), 'TimedOut'],
    ] as const) {
      const { layer, tools } = layerOf('passphrase');
      tools.answers.push(answer);
      expect(await codeOf(layer.make(device))).toBe(code);
      expect(readFileSync(device, 'utf8')).toBe('blank');
    }
    const made = layerOf('passphrase');
    made.tools.answers.push('right\n');
    await made.layer.make(device);
    const other = layerOf('passphrase');
    other.tools.answers.push('wrong\n');
    expect(await codeOf(other.layer.open(device))).toBe('Failed');
  });
});

test("an admin's line of the name is in the way, and stays", async () => {
  const own = 'locker-data /dev/sdb1 none luks\n';
  writeFileSync(join(root, 'crypttab'), own);
  const { layer } = layerOf('key-file');
  expect(() => {
    layer.check();
  }).toThrow(/has a line "locker-data" already/);
  await layer.make(device);
  expect(await codeOf(layer.define(device))).toBe('LockerExists');
  await layer.forget();
  expect(crypttab()).toBe(own);
});

test('the key of a new volume goes by the UUID that its change says, whatever has become of the volume', async () => {
  const uuid = '0b7c26c1-9a35-4c94-9aae-6c2f0c8d2f5e';
  const tools = new MadeUpCryptsetup();
  const layer = new LuksLayer('key-file', { locker: 'a', tools, etc: root, uuid });
  await layer.make(device);
  expect(readdirSync(join(root, 'lockerd/keys'))).toEqual([`${uuid}.key`]);
  rmSync(device);
  await layer.discard(device);
  expect(readdirSync(join(root, 'lockerd/keys'))).toEqual([]);
  await layer.discard(device);
});

test('what a killed helper had not finished writing goes with the rest', async () => {
  const uuid = '0b7c26c1-9a35-4c94-9aae-6c2f0c8d2f5e';
  const layer = new LuksLayer('key-file', {
    ...{ locker: 'a', tools: new MadeUpCryptsetup(), etc: root, uuid },
  });
  await layer.make(device);
  rmSync(join(root, 'lockerd/keys', `${uuid}.key`));
  writeFileSync(join(root, 'lockerd/keys', `.${uuid}.key.new`), 'half a key');
  writeFileSync(join(root, '.crypttab.new'), 'half a line');
  await layer.forget();
  await layer.discard(device);
  expect(keys()).toEqual([]);
  expect(readdirSync(root)).not.toContain('.crypttab.new');
});

describe('what a volume without a definition is', () => {
  const uuid = '0b7c26c1-9a35-4c94-9aae-6c2f0c8d2f5e';
  function writeHeader(magic: string, name: string): void {
    const header = Buffer.alloc(4096);
    header.write(magic, 'latin1');
    header.write(name, 168, 'latin1');
    writeFileSync(device, header);
  }

  test.each([
    ['an ext4 or nothing', '\0\0\0\0\0\0', uuid, undefined],
    ['encrypted with a key of the host', 'LUKS\xba\xbe', uuid, 'key-file'],
    ['encrypted without a key here', 'LUKS\xba\xbe', uuid.replace('0', '1'), 'passphrase'],
    ['a header with a path for a UUID', 'LUKS\xba\xbe', '../keys/../keys/evil', 'passphrase'],
  ])('%s', (_, magic, name, encrypt) => {
    mkdirSync(join(root, 'lockerd/keys'), { recursive: true });
    for (const key of [uuid, 'evil']) writeFileSync(join(root, `lockerd/keys/${key}.key`), 'key');
    writeHeader(magic, name);
    expect(encryptionOf(device, root)).toBe(encrypt);
  });
});
