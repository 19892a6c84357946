// npm run bench -- bus: the D-Bus service with 10, 100 and 1000 containers, over fakes of what is
// outside, on a private bus. Calls are measured beside those of systemd-localed, a service in C, on the
// same bus in the same run; the start of lockerctl beside that of `node -e 0`.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { FrameReader } from '../../src/bus/frame.ts';
import { marshal } from '../../src/bus/marshal.ts';
import { bundle } from '../bus/bundle.ts';
import { startPrivateBus, type PrivateBus } from '../bus/bus.ts';
import { rawBytes, type RawMessage } from '../bus/raw.ts';

const sizes = [10, 100, 1000];
const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** A client that does as little as possible beside the calls. */
class BareClient {
  readonly #socket: net.Socket;
  #serial = 0;
  #answered: (bytes: number) => void = () => undefined;

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    const reader = new FrameReader(({ replySerial, bodyBytes }) => {
      if (replySerial === this.#serial) this.#answered(bodyBytes);
    });
    socket.on('data', (bytes) => {
      reader.push(bytes);
    });
  }

  static async connect(bus: PrivateBus): Promise<BareClient> {
    const socket = net.connect(bus.socket);
    socket.write(`\0AUTH EXTERNAL ${Buffer.from('0').toString('hex')}\r\n`);
    await once(socket, 'data');
    socket.write('BEGIN\r\n');
    const client = new BareClient(socket);
    const driver = { destination: 'org.freedesktop.DBus', path: '/org/freedesktop/DBus' };
    await client.call({ ...driver, interface: 'org.freedesktop.DBus', member: 'Hello' });
    return client;
  }

  /** Microseconds until the answer is here. */
  async call(message: RawMessage): Promise<number> {
    const bytes = rawBytes({ ...message, serial: ++this.#serial });
    const begun = performance.now();
    const answered = new Promise<number>((done) => (this.#answered = done));
    this.#socket.write(bytes);
    await answered;
    return (performance.now() - begun) * 1000;
  }

  close(): void {
    this.#socket.destroy();
  }
}

class Served {
  readonly process: ChildProcess;
  readonly #lines: Interface;

  constructor(child: ChildProcess) {
    this.process = child;
    if (child.stdout === null) throw new Error('the service has no output');
    this.#lines = createInterface(child.stdout);
    child.stderr?.pipe(process.stderr);
  }

  async ask(what: string): Promise<number> {
    this.process.stdin?.write(`${what}\n`);
    const [line] = (await once(this.#lines, 'line')) as [string];
    return Number(line);
  }
}

function get(destination: string, path: string, name: string, property: string): RawMessage {
  return {
    destination,
    path,
    interface: 'org.freedesktop.DBus.Properties',
    member: 'Get',
    signature: 'ss',
    body: marshal('ss', [name, property]),
  };
}

const ourGet = get('org.lockerd1', '/org/lockerd1/container/c0', 'org.lockerd1.Container', 'State');
const theirGet = get(
  'org.freedesktop.locale1',
  '/org/freedesktop/locale1',
  'org.freedesktop.locale1',
  'VConsoleKeymap',
);
const managedObjects: RawMessage = {
  destination: 'org.lockerd1',
  path: '/org/lockerd1',
  interface: 'org.freedesktop.DBus.ObjectManager',
  member: 'GetManagedObjects',
};

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

/** The medians of calls that alternate, so that both meet the same machine. */
async function compare(client: BareClient, messages: readonly RawMessage[]): Promise<number[]> {
  const times = messages.map((): number[] => []);
  for (let round = 0; round < 3000; round++)
    for (const [index, message] of messages.entries()) {
      const time = await client.call(message);
      // Programs are quick when they have been warm for a while.
      if (round >= 1000) times[index]?.push(time);
    }
  return times.map(median);
}

/** Quickest of some runs, in milliseconds; those of all commands alternate. */
function quickest(commands: readonly (readonly string[])[], env: NodeJS.ProcessEnv): number[] {
  const best = commands.map(() => Infinity);
  for (let round = 0; round < 15; round++)
    for (const [index, [command = '', ...args]] of commands.entries()) {
      const begun = performance.now();
      const { status, stderr } = spawnSync(command, args, { env, encoding: 'utf8' });
      if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
      best[index] = Math.min(best[index] ?? Infinity, performance.now() - begun);
    }
  return best;
}

export interface BusFigures {
  readonly containers: number;
  readonly getUsec: number;
  readonly theirGetUsec: number;
  readonly managedMs: number;
  readonly blockedMs: number;
  readonly eventUsec: number;
  readonly mountUsec: number;
  readonly residentMib: number;
  readonly nodeMs: number;
  readonly versionMs: number;
  readonly listMs: number;
}

async function measure(program: string, bus: PrivateBus, containers: number): Promise<BusFigures> {
  const argv = [process.execPath, '--max-semi-space-size=1', program, bus.address, `${containers}`];
  const served = new Served(bus.spawn(argv));
  await bus.waitForName('org.lockerd1');
  const client = await BareClient.connect(bus);
  // Answers when everything is defined.
  await served.ask('blocked');
  await sleep(300);
  const [getUsec = NaN, theirGetUsec = NaN] = await compare(client, [ourGet, theirGet]);
  const managed: number[] = [];
  await served.ask('blocked');
  for (let round = 0; round < 10; round++) {
    await sleep(150);
    managed.push((await client.call(managedObjects)) / 1000);
  }
  const blockedMs = await served.ask('blocked');
  const node = process.execPath;
  const lockerctl = resolve('dist/lockerctl');
  const [nodeMs = NaN, versionMs = NaN, listMs = NaN] = quickest(
    [
      [node, '-e', '0'],
      [node, lockerctl, '--version'],
      [node, lockerctl, 'list'],
    ],
    bus.environment,
  );
  await served.ask('event');
  const figures = {
    ...{ containers, getUsec, theirGetUsec, managedMs: median(managed), blockedMs },
    eventUsec: await served.ask('event'),
    mountUsec: await served.ask('mount'),
    residentMib: (await served.ask('resident')) / 2 ** 20,
    ...{ nodeMs, versionMs, listMs },
  };
  client.close();
  served.process.stdin?.end();
  await once(served.process, 'exit');
  return figures;
}

export async function benchBus(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'lockerd-bench-'));
  const bus = await startPrivateBus({ names: ['org.lockerd1', 'org.freedesktop.locale1'] });
  try {
    const localed = spawn('/lib/systemd/systemd-localed', {
      env: bus.environment,
      stdio: 'ignore',
    });
    bus.onClose(() => void localed.kill());
    await bus.waitForName('org.freedesktop.locale1');
    const program = await bundle('test/bench/served.ts', directory);
    const all: BusFigures[] = [];
    for (const size of sizes) all.push(await measure(program, bus, size));
    const row = (name: string, cell: (figures: BusFigures) => number, digits = 0): void => {
      const cells = all.map((figures) => cell(figures).toFixed(digits).padStart(9));
      console.log(name.padEnd(44) + cells.join(''));
    };
    row('containers', ({ containers }) => containers);
    row('Get, p50, us', ({ getUsec }) => getUsec);
    row('  the same of systemd-localed', ({ theirGetUsec }) => theirGetUsec);
    row('  ratio', ({ getUsec, theirGetUsec }) => getUsec / theirGetUsec, 2);
    row('GetManagedObjects, p50, ms', ({ managedMs }) => managedMs, 1);
    row('  the event loop blocked at most, ms', ({ blockedMs }) => blockedMs, 1);
    row('one change of a container, CPU us', ({ eventUsec }) => eventUsec);
    row('one mount, CPU us', ({ mountUsec }) => mountUsec);
    row('resident, MiB', ({ residentMib }) => residentMib);
    row('node -e 0, ms', ({ nodeMs }) => nodeMs);
    row('lockerctl --version, as a ratio', ({ versionMs, nodeMs }) => versionMs / nodeMs, 2);
    row('lockerctl list, ms beyond that', ({ listMs, versionMs }) => listMs - versionMs);
  } finally {
    await bus.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
