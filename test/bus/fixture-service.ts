/**
 * org.lockerd1 with containers that exist in memory only: for tests of clients, which need a
 * service that does what the test wants, when it wants it.
 */

import { unknownFigure } from '../../src/api/names.ts';
import { unlimited } from '../../src/model/memory-limit.ts';
import { connectBus, type CallFrame, type ServiceConnection } from '../../src/bus/connection.ts';
import { unmarshal } from '../../src/bus/unmarshal.ts';
import { DBusError, Variant, type VariantMap } from '../../src/bus/values.ts';

const root = '/org/lockerd1';
const megabyte = 2n ** 20n;

/** As sd_bus_path_encode(3). */
function encodeLabel(name: string): string {
  if (name === '') return '_';
  return [...Buffer.from(name)]
    .map((byte, index) => {
      const char = String.fromCharCode(byte);
      const plain = index === 0 ? /[A-Za-z]/ : /[A-Za-z0-9]/;
      return plain.test(char) ? char : `_${byte.toString(16).padStart(2, '0')}`;
    })
    .join('');
}

export interface FixtureContainer {
  name: string;
  state: string;
  problem: string;
  autostart: boolean;
  leader: number;
  since: bigint;
  lockers: { name: string; readOnly: boolean }[];
  limit: bigint;
  swapLimit: bigint;
}

export interface FixtureJob {
  readonly id: number;
  readonly verb: string;
  readonly container: string;
  readonly locker: string;
  state: string;
  phase: string;
  progress: number;
  result: string;
  error: [string, string];
  warnings: string[];
  stallUsec: bigint;
}

export interface RecordedCall {
  readonly member: string;
  readonly args: readonly unknown[];
  readonly interactive: boolean;
}

/** What a test can decide about a job; by default it is done at once. */
export type JobScript = (job: FixtureJob, end: JobEnder) => void;
type JobEnder = (result: string, error?: [string, string]) => void;

interface Method {
  readonly signature: string;
  readonly run: (service: FixtureService, call: CallFrame, args: readonly unknown[]) => void;
}

const verbs = {
  StartContainer: {
    verb: 'start',
    from: ['stopped', 'failed'],
    to: 'running',
    signature: 'sa{sv}',
  },
  StopContainer: { verb: 'stop', from: ['running', 'frozen'], to: 'stopped', signature: 'sa{sv}' },
  RebootContainer: { verb: 'reboot', from: ['running'], to: 'running', signature: 'sa{sv}' },
  FreezeContainer: { verb: 'freeze', from: ['running'], to: 'frozen', signature: 'sa{sv}' },
  ThawContainer: { verb: 'thaw', from: ['frozen'], to: 'running', signature: 'sa{sv}' },
  Balloon: { verb: 'balloon', from: [], to: undefined, signature: 'sta{sv}' },
  MountLocker: { verb: 'mount-locker', from: [], to: undefined, signature: 'ssa{sv}' },
  UnmountLocker: { verb: 'unmount-locker', from: [], to: undefined, signature: 'ssa{sv}' },
} as const;

type Member = keyof typeof verbs;

function lockerdError(name: string, message: string): DBusError {
  return new DBusError(`org.lockerd1.Error.${name}`, message);
}

export class FixtureService {
  readonly containers = new Map<string, FixtureContainer>();
  readonly lockers = new Map<string, { description: string; mounted: boolean; source: string }>();
  readonly jobs = new Map<number, FixtureJob>();
  readonly calls: RecordedCall[] = [];
  /** Errors to answer, by member, or by member and container: `StartContainer web`. */
  readonly refusals = new Map<string, DBusError>();
  permissions: Record<string, string> = {};
  script: JobScript = (_, end) => {
    end('done');
  };

  /** Stands for polkit: who proceeds gets a job. */
  authorize: (container: string, proceed: () => void) => void = (_, proceed) => {
    proceed();
  };

  readonly #address: string;
  readonly #waiting = new Map<number, CallFrame[]>();
  #connection: ServiceConnection | undefined;
  #lastJob = 0;

  constructor(address: string) {
    this.#address = address;
  }

  async start(): Promise<void> {
    const connection = await connectBus({ address: this.#address });
    connection.handleCalls((call) => {
      try {
        this.#handle(call);
      } catch (error) {
        const answer =
          error instanceof DBusError
            ? error
            : new DBusError('org.freedesktop.DBus.Error.Failed', String(error));
        connection.replyError(call, answer);
      }
    });
    this.#connection = connection;
    await connection.requestName('org.lockerd1');
  }

  /** Leaves the bus, whatever is under way. */
  stop(): void {
    this.#connection?.close();
    this.#connection = undefined;
    this.#waiting.clear();
  }

  container(name: string, more: Partial<FixtureContainer> = {}): FixtureContainer {
    const container = {
      name,
      state: 'stopped',
      problem: '',
      autostart: false,
      leader: 0,
      since: 0n,
      lockers: [],
      limit: unlimited,
      swapLimit: unlimited,
      ...more,
    };
    this.containers.set(name, container);
    return container;
  }

  locker(name: string, source: string, description = ''): void {
    this.lockers.set(name, { description, mounted: true, source });
  }

  get #bus(): ServiceConnection {
    if (this.#connection === undefined) throw new Error('the service is not on the bus');
    return this.#connection;
  }

  reply(call: CallFrame, signature: string, ...values: unknown[]): void {
    this.#bus.reply(call, signature, values);
  }

  #handle(call: CallFrame): void {
    const method = methods[call.member];
    const wrong = (name: string, text: string): DBusError =>
      new DBusError(`org.freedesktop.DBus.Error.${name}`, text);
    if (method === undefined) throw wrong('UnknownMethod', `no method ${call.member}`);
    if (method.signature !== call.signature) {
      throw wrong('InvalidArgs', `${call.member}: ${call.signature}, not ${method.signature}`);
    }
    const args = unmarshal(call.signature, call.body ?? Buffer.alloc(0), call.bigEndian);
    const interactive = (call.flags & 4) !== 0;
    this.calls.push({ member: call.member, args, interactive });
    const refusal =
      this.refusals.get(call.member) ??
      this.refusals.get(`${call.member} ${typeof args[0] === 'string' ? args[0] : ''}`);
    if (refusal !== undefined) throw refusal;
    method.run(this, call, args);
  }

  find(name: string): FixtureContainer {
    const container = this.containers.get(name);
    if (container === undefined) {
      throw lockerdError('NoSuchContainer', `there is no container "${name}"`);
    }
    return container;
  }

  makeJob(member: Member, call: CallFrame, args: readonly unknown[]): void {
    const { verb, from, to } = verbs[member];
    const container = this.find(args[0] as string);
    if (
      (from as readonly string[]).length > 0 &&
      !from.some((state) => state === container.state)
    ) {
      throw verb === 'start'
        ? lockerdError('AlreadyRunning', `container "${container.name}" is already running`)
        : lockerdError('NotRunning', `container "${container.name}" is not running`);
    }
    const locker = member === 'MountLocker' || member === 'UnmountLocker' ? String(args[1]) : '';
    const id = ++this.#lastJob;
    const job: FixtureJob = {
      id,
      verb,
      container: container.name,
      locker,
      state: 'running',
      phase: '',
      progress: -1,
      result: '',
      error: ['', ''],
      warnings: [],
      stallUsec: unknownFigure,
    };
    this.jobs.set(id, job);
    this.#managerSignal('JobNew', 'uoss', id, this.jobPath(id), verb, container.name);
    const options = args.at(-1) as VariantMap;
    const replyAtEnd = options['wait']?.value === true;
    if (!replyAtEnd) this.reply(call, 'o', this.jobPath(id));
    this.script(job, (result, error = ['', '']) => {
      if (result === 'done') {
        if (to !== undefined) this.changeState(container, to);
        if (member === 'Balloon') {
          container.limit = args[1] as bigint;
          container.swapLimit =
            (options['swap']?.value as bigint | undefined) ?? container.swapLimit;
        }
        if (member === 'MountLocker') container.lockers.push({ name: locker, readOnly: false });
      }
      this.#endJob(job, result, error);
      if (replyAtEnd) this.reply(call, 'o', this.jobPath(id));
    });
  }

  changeState(container: FixtureContainer, state: string): void {
    container.state = state;
    this.#propertiesChanged(this.containerPath(container.name), 'org.lockerd1.Container', {
      State: new Variant('s', state),
    });
  }

  progress(job: FixtureJob, phase: string, progress: number): void {
    job.phase = phase;
    job.progress = progress;
    this.#propertiesChanged(this.jobPath(job.id), 'org.lockerd1.Job', {
      Phase: new Variant('s', phase),
      Progress: new Variant('d', progress),
    });
  }

  #endJob(job: FixtureJob, result: string, error: [string, string]): void {
    job.state = 'done';
    job.result = result;
    job.error = error;
    const { id, verb, container } = job;
    const path = this.jobPath(id);
    this.#managerSignal('JobRemoved', 'uossss', id, path, verb, container, result, error[0]);
    for (const call of this.#waiting.get(id) ?? []) this.reply(call, 'sss', result, ...error);
    this.#waiting.delete(id);
  }

  waitForJob(call: CallFrame): void {
    const job = this.jobOf(call.path);
    if (job.state === 'done') this.reply(call, 'sss', job.result, ...job.error);
    else this.#waiting.set(job.id, [...(this.#waiting.get(job.id) ?? []), call]);
  }

  cancelJob(call: CallFrame): void {
    const job = this.jobOf(call.path);
    this.reply(call, '');
    this.#endJob(job, 'cancelled', ['org.lockerd1.Error.Cancelled', `job ${job.id} was cancelled`]);
  }

  jobOf(path: string): FixtureJob {
    const job = this.jobs.get(Number(/\/job\/(\d+)$/.exec(path)?.[1]));
    if (job === undefined) {
      throw new DBusError('org.freedesktop.DBus.Error.UnknownObject', `no object ${path}`);
    }
    return job;
  }

  #managerSignal(member: string, signature: string, ...values: unknown[]): void {
    this.#bus.emitSignal(root, 'org.lockerd1.Manager', member, signature, values);
  }

  #propertiesChanged(path: string, name: string, changed: VariantMap): void {
    const properties = 'org.freedesktop.DBus.Properties';
    this.#bus.emitSignal(path, properties, 'PropertiesChanged', 'sa{sv}as', [name, changed, []]);
  }

  containerPath(name: string): string {
    return `${root}/container/${encodeLabel(name)}`;
  }

  lockerPath(name: string): string {
    return `${root}/locker/${encodeLabel(name)}`;
  }

  jobPath(id: number): string {
    return `${root}/job/${id}`;
  }

  containerProperties(container: FixtureContainer): VariantMap {
    const { name, state, problem, autostart, leader, since, lockers, limit } = container;
    const running = state === 'running' || state === 'frozen';
    const jobs = [...this.jobs.values()].filter(
      (job) => job.container === name && job.state !== 'done',
    );
    return {
      Name: new Variant('s', name),
      Unit: new Variant('s', `lxc@${name}.service`),
      ConfigFile: new Variant('s', `/var/lib/lxc/${name}/config`),
      State: new Variant('s', state),
      Problem: new Variant('s', problem),
      Autostart: new Variant('b', autostart),
      Leader: new Variant('u', leader),
      StateChangeTimestamp: new Variant('t', since),
      Lockers: new Variant(
        'a(sob)',
        lockers.map((locker) => [locker.name, this.lockerPath(locker.name), locker.readOnly]),
      ),
      MemoryLimit: new Variant('t', limit),
      SwapLimit: new Variant('t', container.swapLimit),
      MemoryCurrent: new Variant('t', running ? 120n * megabyte + 512n * 1024n : unknownFigure),
      MemoryPeak: new Variant('t', running ? 300n * megabyte : unknownFigure),
      SwapCurrent: new Variant('t', running ? 0n : unknownFigure),
      MemoryPressure: new Variant('d', 0.25),
      OomKills: new Variant('t', 0n),
      Jobs: new Variant(
        'ao',
        jobs.map(({ id }) => this.jobPath(id)),
      ),
    };
  }

  lockerProperties(name: string): VariantMap {
    const { description, mounted, source } = this.lockers.get(name) ?? {
      description: '',
      mounted: false,
      source: '',
    };
    const users = [...this.containers.values()].flatMap((container) =>
      container.lockers
        .filter((locker) => locker.name === name)
        .map(({ readOnly }) => [this.containerPath(container.name), readOnly]),
    );
    return {
      Name: new Variant('s', name),
      Description: new Variant('s', description),
      Mounted: new Variant('b', mounted),
      Source: new Variant('s', source),
      AttachedTo: new Variant('a(ob)', users),
    };
  }

  jobProperties(job: FixtureJob): VariantMap {
    return {
      Id: new Variant('u', job.id),
      Verb: new Variant('s', job.verb),
      Container: new Variant('o', this.containerPath(job.container)),
      Locker: new Variant('s', job.locker),
      StartedByUid: new Variant('u', 1000),
      StartTimestamp: new Variant('t', 1_700_000_000_000_000n),
      State: new Variant('s', job.state),
      Phase: new Variant('s', job.phase),
      Progress: new Variant('d', job.progress),
      Cancelable: new Variant('b', true),
      Result: new Variant('s', job.result),
      Error: new Variant('(ss)', job.error),
      Warnings: new Variant('as', job.warnings),
      StallUsec: new Variant('t', job.stallUsec),
    };
  }

  managedObjects(): Record<string, Record<string, VariantMap>> {
    const objects: Record<string, Record<string, VariantMap>> = {};
    for (const container of this.containers.values()) {
      objects[this.containerPath(container.name)] = {
        'org.lockerd1.Container': this.containerProperties(container),
      };
    }
    for (const name of this.lockers.keys()) {
      objects[this.lockerPath(name)] = { 'org.lockerd1.Locker': this.lockerProperties(name) };
    }
    for (const job of this.jobs.values()) {
      objects[this.jobPath(job.id)] = { 'org.lockerd1.Job': this.jobProperties(job) };
    }
    return objects;
  }

  propertiesAt(path: string): VariantMap {
    if (path === root) {
      return { Version: new Variant('s', 'test'), Authority: new Variant('s', 'polkit') };
    }
    for (const interfacesAndProperties of Object.entries(this.managedObjects())) {
      const [known, found] = interfacesAndProperties;
      if (known === path) return Object.values(found)[0] ?? {};
    }
    throw new DBusError('org.freedesktop.DBus.Error.UnknownObject', `no object ${path}`);
  }
}

/** As much of the contract as the examples need, at every path. */
const introspection = `<node>
 <interface name="org.lockerd1.Manager">
  <method name="MountLocker">
   <arg name="container" type="s" direction="in"/>
   <arg name="locker" type="s" direction="in"/>
   <arg name="options" type="a{sv}" direction="in"/>
   <arg name="job" type="o" direction="out"/>
  </method>
  <method name="GetContainer">
   <arg name="name" type="s" direction="in"/>
   <arg name="container" type="o" direction="out"/>
  </method>
 </interface>
 <interface name="org.lockerd1.Container">
  <property name="Lockers" type="a(sob)" access="read"/>
 </interface>
 <interface name="org.lockerd1.Job">
  <method name="Wait">
   <arg name="timeout_usec" type="t" direction="in"/>
   <arg name="result" type="s" direction="out"/>
   <arg name="error_name" type="s" direction="out"/>
   <arg name="error_message" type="s" direction="out"/>
  </method>
 </interface>
</node>`;

/** The methods of the interface that clients use, each with its signature. */
const methods: Record<string, Method> = {
  ...Object.fromEntries(
    Object.entries(verbs).map(([member, { signature }]): [string, Method] => [
      member,
      {
        signature,
        run: (service, call, args) => {
          service.authorize(args[0] as string, () => {
            service.makeJob(member as Member, call, args);
          });
        },
      },
    ]),
  ),
  ListContainers: {
    signature: '',
    run: (service, call) => {
      const rows = [...service.containers.values()].map(({ name, state }) => [
        name,
        state,
        service.containerPath(name),
      ]);
      service.reply(call, 'a(sso)', rows);
    },
  },
  ListJobs: {
    signature: '',
    run: (service, call) => {
      const running = [...service.jobs.values()].filter(({ state }) => state !== 'done');
      const rows = running.map(({ id, verb, container }) => [
        id,
        verb,
        container,
        service.jobPath(id),
      ]);
      service.reply(call, 'a(usso)', rows);
    },
  },
  GetContainer: {
    signature: 's',
    run: (service, call, [name]) => {
      service.reply(call, 'o', service.containerPath(service.find(name as string).name));
    },
  },
  GetPermissions: {
    signature: 'o',
    run: (service, call) => {
      service.reply(call, 'a{ss}', service.permissions);
    },
  },
  GetManagedObjects: {
    signature: '',
    run: (service, call) => {
      service.reply(call, 'a{oa{sa{sv}}}', service.managedObjects());
    },
  },
  GetAll: {
    signature: 's',
    run: (service, call) => {
      service.reply(call, 'a{sv}', service.propertiesAt(call.path));
    },
  },
  Get: {
    signature: 'ss',
    run: (service, call, [, name]) => {
      service.reply(call, 'v', service.propertiesAt(call.path)[name as string]);
    },
  },
  Introspect: {
    signature: '',
    run: (service, call) => {
      service.reply(call, 's', introspection);
    },
  },
  Wait: {
    signature: 't',
    run: (service, call) => {
      service.waitForJob(call);
    },
  },
  Cancel: {
    signature: 'a{sv}',
    run: (service, call) => {
      service.cancelJob(call);
    },
  },
};
