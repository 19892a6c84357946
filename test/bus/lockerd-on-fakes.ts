/**
 * lockerd's real service on a private bus, over fakes of what is outside: systemd, the helper, the
 * kernel and polkit. For tests of clients: what the service wants done is done at once, unless the
 * test decides otherwise.
 */

import { BusClients } from '../../src/adapters/clients.ts';
import { serviceName } from '../../src/api/names.ts';
import { connectBus, type CallFrame, type ServiceConnection } from '../../src/bus/connection.ts';
import { Marshalled } from '../../src/bus/marshal.ts';
import { unmarshal } from '../../src/bus/unmarshal.ts';
import { Variant } from '../../src/bus/values.ts';
import type { Core, CorePorts } from '../../src/core/core.ts';
import type { Job } from '../../src/core/job-queue.ts';
import type { LockerLook, LockersPort } from '../../src/core/locker-ports.ts';
import type { LockerRequest } from '../../src/core/request.ts';
import { defaultLimits, type Limits } from '../../src/core/user-quota.ts';
import type {
  ContainerDefinition,
  GuestLook,
  LxcStatus,
  MemoryFigures,
  UnitJobResult,
  UsageFigures,
  UsagePort,
} from '../../src/core/ports.ts';
import type { LockerdError } from '../../src/model/errors.ts';
import type { LimitTexts } from '../../src/model/guest-limits.ts';
import { systemClock } from '../../src/service/system-clock.ts';
import { startService } from '../../src/service/bus-service.ts';
import { IdleExit, type Occupation } from '../../src/service/idle.ts';
import { definition, FakeOutside } from '../unit/core-fakes.ts';

const mebibyte = 2n ** 20n;
const flagAllowInteractiveAuthorization = 4;

export interface ContainerSetup {
  /** Default: stopped. */
  readonly state?: 'stopped' | 'running' | 'frozen';
  /** What is wrong with its configuration. */
  readonly problem?: string;
  readonly autostart?: boolean;
  /** Who decided that. */
  readonly autostartReasons?: readonly string[];
  /** Process id of the guest's init. */
  readonly leader?: number;
  /** When the state began: CLOCK_REALTIME, microseconds. */
  readonly sinceUsec?: bigint;
  /** Lockers that it comes with; they are attached where it runs. */
  readonly lockers?: readonly { readonly name: string; readonly readOnly: boolean }[];
  /** Bytes. */
  readonly memoryMax?: bigint;
}

export interface RecordedCall {
  readonly member: string;
  readonly args: readonly unknown[];
  readonly interactive: boolean;
}

/** What the service asks the outside to do. */
export interface Task {
  readonly verb:
    | ('start' | 'stop' | 'restart' | 'kill' | 'freeze' | 'thaw')
    | ('balloon' | 'set-limits' | 'attach' | 'detach' | 'set-autostart')
    | LockerRequest['verb'];
  /** Or the locker, of the last ones. */
  readonly container: string;
  /** Only the work of "balloon", and of a locker as such, tells how far it is. */
  readonly progress: (phase: string, fraction: number) => void;
}

/** What the helper says at the end of a task that succeeds. */
export interface TaskResult {
  readonly warnings?: readonly string[];
  readonly stallUsec?: bigint;
  /** The locker is out of sight but still in use. */
  readonly lazy?: boolean;
  /** A unit for want of which a start fails, and which is waited for. */
  readonly lacks?: string;
}

/** For a task that never ends. */
export function never(): Promise<never> {
  return new Promise(() => undefined);
}

/** What every running container uses of processors and disks at first. */
const usage: Omit<UsageFigures, 'limits'> = {
  cpuUsec: 90_500_000n,
  tasks: 12n,
  io: { readBytes: 7n * mebibyte, writtenBytes: 3n * mebibyte, reads: 700n, writes: 300n },
};

/** What every running container uses. */
const figures: MemoryFigures = {
  current: 120n * mebibyte + mebibyte / 2n,
  peak: 300n * mebibyte,
  swap: 0n,
  pressure: 0.25,
  oomKills: 0n,
};

export class LockerdOnFakes {
  readonly outside = new FakeOutside();
  /** What every running container uses of processors and disks. */
  usage: Omit<UsageFigures, 'limits'> = usage;
  /** Every call of a client, in order. */
  readonly calls: RecordedCall[] = [];
  /** What is seen of guests, by container. */
  guests: Readonly<Record<string, GuestLook>> = {};
  /** Why nobody can look. */
  lookFailure: LockerdError | undefined;
  /** Which of them were looked at together, look after look. */
  readonly looks: (readonly string[])[] = [];
  /** Whether calls are kept in {@link calls}. */
  isRecording = true;
  /** Does a task, or throws: a LockerdError is what the outside says of a failure. */
  work: (task: Task) => Promise<TaskResult | undefined> | TaskResult | undefined = () => undefined;
  /**
   * Changes what the service sends, as a hostile service would: gets each property, and each entry
   * of a map of strings. Undefined leaves it out.
   */
  forge: ((key: string, value: unknown) => readonly [string, unknown] | undefined) | undefined;
  readonly #address: string;
  readonly #quota: Partial<Limits>;
  /** By container: what SetLimits has set. */
  readonly #limits = new Map<string, LimitTexts>();
  /** By container: what LXC has said last. */
  readonly #guests = new Map<string, LxcStatus>();
  #running:
    | {
        readonly connection: ServiceConnection;
        readonly core: Core;
        readonly occupation: Occupation;
      }
    | undefined;

  constructor(address: string, limits: Partial<Limits> = {}) {
    this.#address = address;
    this.#quota = limits;
    this.outside.definitions = { containers: [], lockers: [], rootNeedsNoAuthority: false };
  }

  /** @param containers what is defined before the first call */
  async start(containers: Readonly<Record<string, ContainerSetup>> = {}): Promise<void> {
    const connection = await connectBus({ address: this.#address });
    this.#record(connection);
    this.#forgeReplies(connection);
    const { core, occupation } = await startService({
      connection,
      clock: systemClock,
      version: 'test',
      logging: this.outside.logging,
      limits: { ...defaultLimits, ...this.#quota },
      ports: { ...this.#ports(), clients: new BusClients(connection) },
    });
    this.#running = { connection, core, occupation };
    await this.define(containers);
    await connection.requestName(serviceName);
  }

  /** Leaves the bus when nobody has needed the service for a while. */
  async stopWhenIdle(lingerMs: number): Promise<void> {
    if (this.#running === undefined) throw new Error('the service does not run');
    const { connection, occupation } = this.#running;
    await new IdleExit(connection, occupation, systemClock, lingerMs).ended;
    await connection.untilSent(1);
    this.stop();
  }

  /** Leaves the bus, whatever is under way. */
  stop(): void {
    this.#running?.connection.close();
    this.#running = undefined;
  }

  get #core(): Core {
    if (this.#running === undefined) throw new Error('the service does not run');
    return this.#running.core;
  }

  get jobs(): readonly Job[] {
    return this.#core.jobs.all;
  }

  stateOf(container: string): string | undefined {
    return this.#core.host.container(container)?.state;
  }

  /** Defines containers by name; settles when the service knows them. */
  async define(containers: Readonly<Record<string, ContainerSetup>>): Promise<void> {
    const { outside } = this;
    for (const [name, setup] of Object.entries(containers)) {
      const { state = 'stopped', sinceUsec = 0n, leader = 1000 } = setup;
      const change = setup.memoryMax === undefined ? {} : { memoryMax: setup.memoryMax };
      outside.unit(name, { ...change, stateChangeUsec: sinceUsec });
      if (state !== 'stopped') {
        outside.unit(name, upUnit(name));
        this.#lxc(name, state === 'frozen' ? 'FROZEN' : 'RUNNING', leader);
        for (const locker of setup.lockers ?? []) this.#mount(name, locker.name, locker.readOnly);
      }
    }
    const added = Object.entries(containers).map(
      ([name, { problem = '', autostart = false, autostartReasons = [], lockers = [] }]) =>
        definition(name, {
          problem,
          autostart,
          autostartReasons,
          lockers: lockers.map((locker) => ({ ...locker, strict: false })),
        }),
    );
    const known = outside.definitions.containers.filter(({ name }) => !(name in containers));
    outside.definitions = { ...outside.definitions, containers: [...known, ...added] };
    await this.#core.host.reload();
  }

  #defineLocker(name: string, look: LockerLook): void {
    const { outside } = this;
    const path = `/lockers/${name}`;
    outside.mount(path, { source: look.device ?? 'disk' });
    outside.lockerLooks[name] = look;
    const lockers = [...outside.definitions.lockers, { name, path }];
    outside.definitions = { ...outside.definitions, lockers };
  }

  #undefineLocker(name: string): void {
    const { outside } = this;
    outside.umount(`/lockers/${name}`);
    const lockers = outside.definitions.lockers.filter((locker) => locker.name !== name);
    outside.definitions = { ...outside.definitions, lockers };
  }

  #lockersPort(base: LockersPort): LockersPort {
    const { outside } = this;
    const warningsOf = ({ warnings = [] }: TaskResult) => ({ warnings });
    const change = async (
      verb: Task['verb'],
      locker: string,
      effect: () => void,
      progress?: Task['progress'],
    ) => warningsOf(await this.#do(verb, locker, effect, progress));
    const lookAt = (name: string): LockerLook => outside.lockerLooks[name] ?? { health: 'good' };
    return {
      ...base,
      create: ({ locker, size, store, creator }, progress) => {
        const look = { health: 'good', size, used: 0n, available: size, store, creator } as const;
        const device = `/dev/${store}/locker-${locker}`;
        const effect = () => {
          this.#defineLocker(locker, { ...look, device, fileSystem: 'ext4', snapshots: [] });
        };
        return change('create-locker', locker, effect, progress);
      },
      grow: ({ locker, size }, progress) => {
        const effect = () => {
          outside.lockerLooks[locker] = { ...lookAt(locker), size, available: size };
        };
        return change('grow-locker', locker, effect, progress);
      },
      rename: ({ locker, name }) =>
        change('rename-locker', locker, () => {
          this.#undefineLocker(locker);
          this.#defineLocker(name, lookAt(locker));
        }),
      snapshot: ({ locker, snapshot }, progress) => {
        const effect = () => {
          const { snapshots = [], ...look } = lookAt(locker);
          outside.lockerLooks[locker] = { ...look, snapshots: [...snapshots, snapshot] };
          const one = { name: snapshot, createdUsec: 0n, size: look.size, used: undefined };
          outside.snapshots[locker] = [...(outside.snapshots[locker] ?? []), one];
        };
        return change('snapshot-locker', locker, effect, progress);
      },
      restore: ({ locker, name, creator }, progress) => {
        const effect = () => {
          this.#defineLocker(name, { ...lookAt(locker), creator, snapshots: [] });
        };
        return change('restore-locker', locker, effect, progress);
      },
      forget: async (locker) => {
        const effect = () => {
          this.#undefineLocker(locker);
        };
        const done = await change('forget-locker', locker, effect);
        return { ...done, place: lookAt(locker).device ?? 'its store' };
      },
      adopt: ({ locker, store, creator }, progress) => {
        const effect = () => {
          const look = {
            health: 'good',
            store,
            creator,
            fileSystem: 'ext4',
            snapshots: [],
          } as const;
          this.#defineLocker(locker, look);
        };
        return change('adopt-locker', locker, effect, progress);
      },
    };
  }

  /** What the next look at the definitions finds. */
  #redefine(container: string, change: Partial<ContainerDefinition>): void {
    const { definitions } = this.outside;
    const containers = definitions.containers.map((one) =>
      one.name === container ? { ...one, ...change } : one,
    );
    this.outside.definitions = { ...definitions, containers };
  }

  /** Defines lockers that the host has mounted: their names, and what is mounted. */
  async defineLockers(sources: Readonly<Record<string, string>>): Promise<void> {
    const { outside } = this;
    const added = Object.entries(sources).map(([name, source]) => {
      const path = `/lockers/${name}`;
      outside.mount(path, { source });
      return { name, path };
    });
    const lockers = [...outside.definitions.lockers, ...added];
    outside.definitions = { ...outside.definitions, lockers };
    await this.#core.host.reload();
  }

  #record(connection: ServiceConnection): void {
    const handleCalls = connection.handleCalls.bind(connection);
    connection.handleCalls = (handler) => {
      handleCalls((call) => {
        if (this.isRecording) this.calls.push(recorded(call));
        handler(call);
      });
    };
  }

  #forgeReplies(connection: ServiceConnection): void {
    const reply = connection.reply.bind(connection);
    connection.reply = (call, signature, values) => {
      if (this.forge === undefined) return reply(call, signature, values);
      const [first] = values;
      const isReady = first instanceof Marshalled;
      const plain = isReady ? unmarshal(first.signature, first.bytes, false) : values;
      return reply(call, signature, this.#forged(plain));
    };
    const emitSignal = connection.emitSignal.bind(connection);
    connection.emitSignal = (path, name, member, signature, values) => {
      emitSignal(path, name, member, signature, this.#forged(values));
    };
  }

  #forged<T>(value: T): T {
    const { forge } = this;
    if (forge === undefined) return value;
    const walk = (item: unknown): unknown => {
      if (Array.isArray(item)) return item.map(walk);
      if (typeof item !== 'object' || item === null || item instanceof Uint8Array) return item;
      return Object.fromEntries(
        Object.entries(item).flatMap(([key, entry]): (readonly [string, unknown])[] => {
          if (!(entry instanceof Variant) && typeof entry !== 'string') return [[key, walk(entry)]];
          const changed = forge(key, entry);
          return changed === undefined ? [] : [changed];
        }),
      );
    };
    return walk(value) as T;
  }

  #lxc(container: string, state: string, leader = 0): void {
    this.#guests.set(container, { container, state, leader });
    this.outside.lxc(container, state, leader);
  }

  #mount(container: string, locker: string, readOnly: boolean): void {
    this.outside.mount(`/var/locker-mappings/${container}/${locker}`, { readOnly });
  }

  #unmount(container: string, locker: string): void {
    this.outside.umount(`/var/locker-mappings/${container}/${locker}`);
  }

  #comesUp(container: string): void {
    const leader = (this.#guests.get(container)?.leader ?? 0) + 1000;
    this.outside.unit(container, upUnit(container));
    this.#lxc(container, 'RUNNING', leader);
    const { containers } = this.outside.definitions;
    const lockers = containers.find(({ name }) => name === container)?.lockers ?? [];
    for (const { name, readOnly } of lockers) this.#mount(container, name, readOnly);
  }

  #goesDown(container: string): void {
    const attached = this.#core.host.container(container)?.attachments ?? [];
    for (const { locker } of attached) this.#unmount(container, locker);
    this.#lxc(container, 'STOPPED');
    this.outside.unit(container, { activeState: 'inactive', controlGroup: '' });
  }

  /** A start that lacks something ends so. */
  #fails(container: string, heldBy: string): void {
    this.#goesDown(container);
    const held = { isAwaited: true, heldStart: 'unmet', heldBy } as const;
    this.outside.unit(container, { activeState: 'failed', result: 'exit-code', ...held });
  }

  /** Does what the test says, then what a task does to the outside. */
  async #do(
    verb: Task['verb'],
    container: string,
    effect: () => void,
    progress: Task['progress'] = () => undefined,
  ): Promise<TaskResult> {
    const result = (await this.work({ verb, container, progress })) ?? {};
    if (result.lacks === undefined) effect();
    else this.#fails(container, result.lacks);
    return result;
  }

  #unitJob(verb: 'start' | 'stop' | 'restart', effect: (container: string) => void) {
    return async (unit: string, signal: AbortSignal): Promise<UnitJobResult> => {
      const container = nameOf(unit);
      const cancelled = new Promise<UnitJobResult>((resolve) => {
        signal.addEventListener('abort', () => {
          resolve('canceled');
        });
      });
      const done = this.#do(verb, container, () => {
        if (!signal.aborted) effect(container);
      });
      const result = done.then(({ lacks }) => (lacks === undefined ? 'done' : 'failed'));
      return Promise.race([result, cancelled]);
    };
  }

  #ports(): CorePorts & { readonly usage: UsagePort } {
    const { outside } = this;
    const base = outside.ports();
    const restart = (container: string) => {
      this.#goesDown(container);
      this.#comesUp(container);
    };
    return {
      ...base,
      units: {
        ...base.units,
        start: this.#unitJob('start', (container) => {
          this.#comesUp(container);
        }),
        stop: this.#unitJob('stop', (container) => {
          this.#goesDown(container);
        }),
        restart: this.#unitJob('restart', restart),
        kill: async (unit, whom) => {
          const container = nameOf(unit);
          // The main process gets the signal to reboot; all get the last one.
          await this.#do('kill', container, () => {
            if (whom === 'main') this.#comesUp(container);
            else this.#goesDown(container);
          });
        },
      },
      helper: {
        attach: async ({ container, locker, readOnly }) => {
          await this.#do('attach', container, () => {
            this.#mount(container, locker, readOnly);
          });
          return { changed: true };
        },
        detach: async ({ container, locker }) => {
          const { lazy = false } = await this.#do('detach', container, () => {
            this.#unmount(container, locker);
          });
          return { changed: true, lazy };
        },
        freeze: async (container) => {
          await this.#do('freeze', container, () => {
            this.#lxc(container, 'FROZEN', this.#guests.get(container)?.leader);
          });
        },
        thaw: async (container) => {
          await this.#do('thaw', container, () => {
            this.#lxc(container, 'RUNNING', this.#guests.get(container)?.leader);
          });
        },
        balloon: async ({ container, limit, swap }, progress) => {
          const limits = { memoryMax: limit, ...(swap !== undefined && { memorySwapMax: swap }) };
          const effect = () => {
            outside.unit(container, limits);
          };
          const result = await this.#do('balloon', container, effect, progress);
          return { warnings: result.warnings ?? [], stallUsec: result.stallUsec };
        },
        setLimits: async ({ container, limits }) => {
          const result = await this.#do('set-limits', container, () => {
            this.#limits.set(container, { ...this.#limits.get(container), ...limits });
          });
          return { warnings: result.warnings ?? [] };
        },
        setAutostart: async ({ container, autostart }) => {
          const effect = () => {
            this.#redefine(container, { autostart, autostartReasons: ['setting'] });
          };
          const { warnings = [] } = await this.#do('set-autostart', container, effect);
          return { changed: true, warnings };
        },
        look: (containers) => {
          if (this.lookFailure !== undefined) return Promise.reject(this.lookFailure);
          this.looks.push(containers);
          const seen = containers.flatMap((name) => {
            const look = this.guests[name];
            return look === undefined ? [] : [[name, look] as const];
          });
          return Promise.resolve(new Map(seen));
        },
        applyLimits: () => Promise.resolve(),
        watch: async (changed, oom, heard) => {
          const unwatch = await base.helper.watch(changed, oom, () => undefined);
          for (const guest of this.#guests.values()) changed(guest);
          heard(undefined);
          return unwatch;
        },
      },
      lockers: this.#lockersPort(base.lockers),
      mounts: {
        // As with systemd, the first report comes after the call.
        watch: async (directory, changed) => {
          await Promise.resolve();
          return base.mounts.watch(directory, changed);
        },
      },
      memory: { ...base.memory, read: () => Promise.resolve(figures) },
      usage: {
        read: (group) => ({ ...this.usage, limits: this.#limits.get(groupOwner(group)) ?? {} }),
      },
    };
  }
}

function upUnit(container: string) {
  return { activeState: 'active', controlGroup: `/lxc.slice/${container}` } as const;
}

function groupOwner(group: string): string {
  return group.slice('/lxc.slice/'.length);
}

function nameOf(unit: string): string {
  return unit.slice('lxc@'.length, -'.service'.length);
}

function recorded(call: CallFrame): RecordedCall {
  return {
    member: call.member,
    args: unmarshal(call.signature, call.body ?? Buffer.alloc(0), call.bigEndian),
    interactive: (call.flags & flagAllowInteractiveAuthorization) !== 0,
  };
}
