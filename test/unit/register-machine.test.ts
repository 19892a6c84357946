import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { encodeFrame, FrameReader, messageType, type Frame } from '../../src/bus/frame.ts';
import { unmarshal } from '../../src/bus/unmarshal.ts';
import { Variant } from '../../src/bus/values.ts';

const hooks = join(import.meta.dirname, '../../hooks');

/** What systemd-machined knows of the machine that is there already, and how it refuses another. */
interface Machine {
  readonly refusal: string;
  readonly service?: string;
  readonly unit?: string;
}

let directory: string;
let bus: net.Server;
let calls: string[];
let machine: Machine | undefined;
/** Bytes that are sent at once; an answer may come in any pieces. */
let piece: number;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'lockerd-machine-'));
  writeFileSync(join(directory, 'logger'), '#!/bin/sh\ncat >> "$LOG"\n', { mode: 0o755 });
  calls = [];
  machine = undefined;
  piece = Infinity;
  bus = net.createServer(serve).listen(join(directory, 'bus'));
  await once(bus, 'listening');
});
afterEach(() => {
  bus.close();
  rmSync(directory, { recursive: true });
});

/** A bus with systemd-machined on it. */
function serve(socket: net.Socket): void {
  let greeting = Buffer.alloc(0);
  const send = (bytes: Buffer): void => {
    for (let at = 0; at < bytes.length; at += piece) {
      socket.write(bytes.subarray(at, Math.min(at + piece, bytes.length)));
    }
  };
  const reader = new FrameReader((frame) => {
    // Signals are among the answers.
    const signal = { type: messageType.signal, flags: 0, serial: 1, path: '/', signature: 's' };
    send(encodeFrame({ ...signal, interface: 'a.b', member: 'C' }, ['\u0005\u0001u']));
    send(answer(frame));
  });
  socket.on('error', () => undefined);
  socket.on('data', (chunk) => {
    const end = 'BEGIN\r\n';
    if (greeting.includes(end)) {
      reader.push(chunk);
      return;
    }
    greeting = Buffer.concat([greeting, chunk]);
    const begin = greeting.indexOf(end);
    if (begin < 0) return;
    expect(greeting.subarray(0, begin).toString()).toBe(
      `\0AUTH EXTERNAL ${Buffer.from(String(process.getuid?.())).toString('hex')}\r\n`,
    );
    send(Buffer.from('OK 0123456789abcdef0123456789abcdef\r\n'));
    reader.push(greeting.subarray(begin + end.length));
  });
}

function answer(frame: Frame): Buffer {
  const { member = '', signature, path = '' } = frame;
  const body = unmarshal(signature, frame.body ?? Buffer.alloc(0), frame.bigEndian);
  const head = { flags: 0, serial: 7, replySerial: frame.serial };
  const good = (type: string, ...values: unknown[]): Buffer =>
    encodeFrame({ ...head, type: messageType.methodReturn, signature: type }, values);
  if (member === 'Hello') return good('s', ':1.42');
  if (member === 'Get') {
    expect(path).toBe('/org/freedesktop/machine1/machine/web');
    const value = body[1] === 'Service' ? machine?.service : machine?.unit;
    return good('v', new Variant('s', value ?? ''));
  }
  calls.push(`${member} ${JSON.stringify(body)}`);
  if (member === 'GetMachine') return good('o', '/org/freedesktop/machine1/machine/web');
  if (member === 'UnregisterMachine') machine = undefined;
  if (member === 'RegisterMachineWithNetwork' && machine !== undefined) {
    const errorName = 'org.freedesktop.machine1.MachineExists';
    const error = { ...head, type: messageType.error, signature: 's', errorName };
    return encodeFrame(error, [machine.refusal]);
  }
  return good('o', '/org/freedesktop/machine1/machine/web');
}

/** What a hook asks of systemd-machined, one call a line, and what it says in the journal. */
async function run(
  variables: Record<string, string> = {},
  hook = 'register-machine',
): Promise<{ calls: string[]; log: string }> {
  const log = join(directory, 'log');
  const child = spawn(
    'perl',
    [resolve(hooks, hook), variables['LXC_NAME'] ?? 'web', 'lxc', 'hook'],
    {
      env: {
        PATH: `${directory}:${process.env['PATH'] ?? ''}`,
        DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${join(directory, 'bus')}`,
        LOG: log,
        LXC_NAME: 'web',
        // Of no process, so it has no network.
        LXC_PID: '4000000',
        LOCKERD_UNIT: 'lxc@web.service',
        ...variables,
      },
      stdio: 'inherit',
    },
  );
  const [status] = (await once(child, 'close')) as [number];
  // A container never fails to start for this.
  expect(status).toBe(0);
  return { calls, log: existsSync(log) ? readFileSync(log, 'utf8') : '' };
}

const registration = (name: string): string =>
  `RegisterMachineWithNetwork ["${name}",{"type":"Buffer","data":[]},"lockerd","container",4000000,"",[]]`;
const ours: Machine = {
  refusal: "Machine 'web' already exists",
  service: 'lockerd',
  unit: 'lxc@web.service',
};

test('one call tells of the guest', async () => {
  expect(await run()).toEqual({ calls: [registration('web')], log: '' });
});

test('answers in pieces are understood', async () => {
  piece = 1;
  expect(await run()).toEqual({ calls: [registration('web')], log: '' });
});

describe('names', () => {
  const longest = 'n'.repeat(64);
  test.each(['web', 'a.example.com', '0', 'a-b', longest])('%s is registered', async (name) => {
    expect((await run({ LXC_NAME: name })).calls).toEqual([registration(name)]);
  });

  test.each([
    ...['', '.', '..', 'a..b', '-a', 'a-', '.a', 'a.', 'a.-b', 'a-.b', 'a b', 'a/b', 'a\n', 'ä'],
    ...['web_vm', 'a;b', '$(a)', 'a\nb', `${longest}n`],
  ])('%j is none of a host and is left out without a word', async (name) => {
    expect(await run({ LXC_NAME: name })).toEqual({ calls: [], log: '' });
  });
});

test('outside a unit nothing is registered', async () => {
  expect((await run({ LOCKERD_UNIT: '' })).calls).toEqual([]);
  expect((await run({ LXC_PID: '' })).calls).toEqual([]);
  expect((await run({ LXC_PID: '1 2' })).calls).toEqual([]);
});

test('an entry from before a reboot goes first', async () => {
  machine = ours;
  expect(await run()).toEqual({
    calls: [
      registration('web'),
      'GetMachine ["web"]',
      'UnregisterMachine ["web"]',
      registration('web'),
    ],
    log: '',
  });
});

test.each([
  ['another service', { service: 'nspawn' }],
  ['another unit', { unit: 'lxc@web2.service' }],
  ['a unit that begins alike', { unit: 'lxc@web.service.scope' }],
])('a machine of %s stays, with a warning', async (_, of) => {
  machine = { ...ours, ...of };
  const { calls: made, log } = await run();
  expect(made).toEqual([registration('web'), 'GetMachine ["web"]']);
  expect(log).toContain('there is another machine of the name web');
});

test('another refusal is told', async () => {
  machine = { refusal: 'Unit is\nmasked' };
  const { calls: made, log } = await run();
  expect(made).toHaveLength(1);
  expect(log).toBe('not a machine of systemd-machined: Unit is?masked\n');
});

test('without a bus the journal says so', async () => {
  const { log } = await run({ DBUS_SYSTEM_BUS_ADDRESS: 'unix:path=/nonexistent' });
  expect(log).toContain('there is no system bus');
});

test('a bus that ends the connection is no answer', async () => {
  bus.removeAllListeners('connection');
  bus.on('connection', (socket: net.Socket) => socket.destroy());
  // Whether it ends before or after the first words is chance.
  expect((await run()).log).toMatch(/: (?:it does not answer|there is no system bus)\n$/);
});

describe('a guest that has ended', () => {
  /** Runs the hook on a host on which only this unit has a machine, called "web". */
  async function forget(unit: string): Promise<{ calls: string[]; log: string }> {
    const script = readFileSync(join(hooks, 'forget-machine'), 'utf8');
    const path = '/run/systemd/machines/';
    expect(script).toContain(path);
    writeFileSync(join(directory, 'forget-machine'), script.replaceAll(path, `${directory}/`));
    copyFileSync(join(hooks, 'bus-calls'), join(directory, 'bus-calls'));
    symlinkSync('web', join(directory, 'unit:lxc@a\\x2db.service'));
    return run({ LOCKERD_UNIT: unit }, join(directory, 'forget-machine'));
  }

  test('is forgotten by the name of its machine', async () => {
    const { calls: made, log } = await forget('lxc@a\\x2db.service');
    expect(made).toEqual(['UnregisterMachine ["web"]']);
    expect(log).toBe('');
  });

  test.each(['lxc@b.service', ''])('is left alone if the unit "%s" has none', async (unit) => {
    expect((await forget(unit)).calls).toEqual([]);
  });
});
