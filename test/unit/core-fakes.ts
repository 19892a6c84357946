import type { Caller } from '../../src/core/caller.ts';
import type { Clock } from '../../src/core/clock.ts';
import { Core, type CorePorts } from '../../src/core/core.ts';
import { defaultLimits, type Limits } from '../../src/core/user-quota.ts';
import type { LockerLook, LockerSnapshot, Store } from '../../src/core/locker-ports.ts';
import type { OptionBag } from '../../src/core/options.ts';
import type {
  AuthorizationRequest,
  ContainerDefinition,
  Decision,
  Definitions,
  JournalEntry,
  Logging,
  KernelLimits,
  LxcStatus,
  MountPoint,
  MountsChange,
  UnitJobResult,
  UnitStatus,
  UsagePort,
} from '../../src/core/ports.ts';

/** Time that passes when the test says so. */
export class FakeClock implements Clock {
  #nowMs = 0;
  #appointments: { atMs: number; callback: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  realtimeUsec(): bigint {
    return 1_000_000n + BigInt(this.#nowMs) * 1000n;
  }

  after(delayMs: number, callback: () => void): () => void {
    const appointment = { atMs: this.#nowMs + delayMs, callback };
    this.#appointments.push(appointment);
    return () => {
      this.#appointments = this.#appointments.filter((one) => one !== appointment);
    };
  }

  /** Lets time pass, appointment by appointment, and everything happen that follows from it. */
  async pass(ms: number): Promise<void> {
    const end = this.#nowMs + ms;
    for (;;) {
      await settled();
      const due = this.#appointments.filter(({ atMs }) => atMs <= end);
      const next = due.sort((a, b) => a.atMs - b.atMs)[0];
      if (!next) break;
      this.#appointments = this.#appointments.filter((one) => one !== next);
      this.#nowMs = next.atMs;
      next.callback();
    }
    this.#nowMs = end;
    await settled();
  }
}

/** Ends when nothing is left to do at once. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

export const noLimit = 2n ** 64n - 1n;

export function unitStatus(change: Partial<UnitStatus> = {}): UnitStatus {
  return {
    activeState: 'inactive',
    result: 'success',
    stateChangeUsec: 5_000_000n,
    memoryMax: noLimit,
    memorySwapMax: noLimit,
    controlGroup: '',
    ...change,
  };
}

export function definition(
  name: string,
  change: Partial<ContainerDefinition> = {},
): ContainerDefinition {
  return {
    name,
    unit: `lxc@${name}.service`,
    configFile: `/var/lib/lxc/${name}/config`,
    autostart: false,
    autostartReasons: [],
    neededBy: [],
    groups: [],
    problem: '',
    wormhole: `/var/locker-mappings/${name}`,
    lockers: [],
    rebootSignal: 2,
    ...change,
  };
}

export function definitions(...containers: ContainerDefinition[]): Definitions {
  const lockers = ['web_vol', 'sandbox', 'data'].map((name) => ({
    name,
    path: `/lockers/${name}`,
  }));
  return { containers, lockers, rootNeedsNoAuthority: false };
}

interface Pending<T> {
  what: string;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
  signal: AbortSignal | undefined;
}

/** The world outside: remembers what it is told, and tells what the test wants. */
const isBelow = (path: string, directory: string) => path.startsWith(`${directory}/`);

export class FakeOutside {
  definitions: Definitions = definitions(definition('web'), definition('db'));
  readonly clock = new FakeClock();
  readonly journal: JournalEntry[] = [];
  /** The journal above has all entries nevertheless. */
  readonly logging: Logging = { level: 'info', target: 'journal' };
  /** What was asked for and is not answered yet. */
  readonly pending: Pending<unknown>[] = [];
  /** Everything that changed the world, in order. */
  readonly done: string[] = [];
  readonly checks: AuthorizationRequest[] = [];
  /** Units that were to be looked at. */
  readonly looks: string[] = [];
  /** Is called when a unit is looked at. */
  seen: (unit: string) => void = () => undefined;
  decide: (request: AuthorizationRequest) => Decision | Promise<Decision> = () => 'yes';
  readonly #units = new Map<string, { status: UnitStatus; tell?: (status: UnitStatus) => void }>();
  #lxc: ((status: LxcStatus) => void) | undefined;
  readonly #mounts = new Map<string, (change: MountsChange) => void>();
  readonly #mounted = new Map<string, MountPoint>();
  #reloaded: (() => void) | undefined;
  oomKills: ((kills: bigint) => void) | undefined;
  /** Of every container. */
  kernelLimits: KernelLimits = { memory: noLimit, swap: noLimit };
  oom: ((container: string) => void) | undefined;
  heard: ((problem: string | undefined) => void) | undefined;
  /** What the helper sees of lockers, by name; a failure where it cannot look. */
  lockerLooks: Record<string, LockerLook> = {};
  lockerFailure: unknown;
  stores: readonly Store[] = [];
  snapshots: Record<string, readonly LockerSnapshot[]> = {};
  /** Which lockers were looked at together, and which other questions there were. */
  readonly lockerAsks: string[] = [];
  /** Control groups in which OOM kills are expected. */
  readonly expected: string[] = [];

  unit(name: string, change: Partial<UnitStatus>): void {
    const unit = `lxc@${name}.service`;
    const entry = this.#units.get(unit) ?? { status: unitStatus() };
    entry.status = { ...entry.status, ...change };
    this.#units.set(unit, entry);
    entry.tell?.(entry.status);
  }

  lxc(container: string, state: string, leader = 0, squatter?: LxcStatus['squatter']): void {
    this.#lxc?.({ container, state, leader, squatter });
  }

  /** A container whose unit runs it. */
  run(container: string, leader = 100): void {
    this.unit(container, { activeState: 'active' });
    this.lxc(container, 'RUNNING', leader);
  }

  stop(container: string): void {
    this.lxc(container, 'STOPPED');
    this.unit(container, { activeState: 'inactive' });
  }

  mount(path: string, { source = 'disk', readOnly = false } = {}): void {
    const point = { path, source, readOnly };
    this.#mounted.set(path, point);
    this.#tellMounts(path, { mounted: [point], gone: [] });
  }

  umount(path: string): void {
    if (this.#mounted.delete(path)) this.#tellMounts(path, { mounted: [], gone: [path] });
  }

  #tellMounts(path: string, change: MountsChange): void {
    for (const [directory, tell] of this.#mounts) if (isBelow(path, directory)) tell(change);
  }

  reload(): void {
    this.#reloaded?.();
  }

  #ask<T>(what: string, signal?: AbortSignal): Promise<T> {
    this.done.push(what);
    return new Promise<T>((resolve, reject) => {
      const entry = { what, resolve, reject, signal } as Pending<unknown>;
      this.pending.push(entry);
    });
  }

  #take(what: string): Pending<unknown> {
    const at = this.pending.findIndex((one) => one.what === what);
    const [entry] = at < 0 ? [] : this.pending.splice(at, 1);
    if (!entry) {
      throw new Error(`nobody waits for "${what}": ${this.pending.map((one) => one.what).join()}`);
    }
    return entry;
  }

  /** Answers what was asked for; it must have been. */
  answer(what: string, value?: unknown): void {
    this.#take(what).resolve(value);
  }

  fail(what: string, error: unknown): void {
    this.#take(what).reject(error);
  }

  signalOf(what: string): AbortSignal | undefined {
    return this.pending.find((one) => one.what === what)?.signal;
  }

  /** Answers at once, as the helper does. */
  async #see<T>(what: string, answer: () => T): Promise<T> {
    this.lockerAsks.push(what);
    await Promise.resolve();
    if (this.lockerFailure !== undefined) throw this.lockerFailure as Error;
    return answer();
  }

  #lockersPort(): CorePorts['lockers'] {
    const words = (request: object) => JSON.stringify(request, jsonNumber);
    return {
      create: (request, progress, signal) => {
        progress('file-system', 0.5);
        return this.#ask(`create-locker ${words(request)}`, signal);
      },
      grow: (request) => this.#ask(`grow-locker ${words(request)}`),
      rename: (request) => this.#ask(`rename-locker ${words(request)}`),
      snapshot: (request, _, signal) => this.#ask(`snapshot-locker ${words(request)}`, signal),
      restore: (request, _, signal) => this.#ask(`restore-locker ${words(request)}`, signal),
      forget: (locker) => this.#ask(`forget-locker ${locker}`),
      adopt: (request) => this.#ask(`adopt-locker ${words(request)}`),
      snapshots: (locker) => this.#see(`snapshots ${locker}`, () => this.snapshots[locker] ?? []),
      stores: () => this.#see('stores', () => this.stores),
      look: (names) =>
        this.#see(`look ${names.join(' ')}`, () => {
          const seen = names.flatMap((name) => {
            const look = this.lockerLooks[name];
            return look === undefined ? [] : [[name, look] as const];
          });
          return new Map(seen);
        }),
    };
  }

  ports(): CorePorts & { readonly usage: UsagePort } {
    const nothing = () => Promise.resolve();
    const unitJob = (verb: string) => (unit: string, signal: AbortSignal) =>
      this.#ask<UnitJobResult>(`${verb} ${unit}`, signal);
    return {
      definitions: { read: () => Promise.resolve(this.definitions) },
      units: {
        watch: (unit, tell) => {
          const entry = this.#units.get(unit) ?? { status: unitStatus() };
          this.#units.set(unit, { ...entry, tell });
          tell(entry.status);
          return Promise.resolve(nothing);
        },
        look: (unit) => {
          this.looks.push(unit);
          this.seen(unit);
          return Promise.resolve();
        },
        start: unitJob('start'),
        stop: unitJob('stop'),
        restart: unitJob('restart'),
        kill: (unit, whom, signal) => {
          this.done.push(`kill ${unit} ${whom} ${signal}`);
          return Promise.resolve();
        },
        onReloaded: (handler) => {
          this.#reloaded = handler;
        },
      },
      mounts: {
        watch: (directory, tell) => {
          this.#mounts.set(directory, tell);
          const mounted = [...this.#mounted.values()];
          tell({ mounted: mounted.filter(({ path }) => isBelow(path, directory)), gone: [] });
          return Promise.resolve(nothing);
        },
      },
      helper: {
        attach: (request) => this.#ask(`attach ${JSON.stringify(Object.values(request))}`),
        detach: (request) => this.#ask(`detach ${JSON.stringify(Object.values(request))}`),
        freeze: (container) => this.#ask(`freeze ${container}`),
        thaw: (container) => this.#ask(`thaw ${container}`),
        balloon: ({ container, limit, swap, force, persist }, progress, signal) => {
          progress('reclaiming', 0.5);
          const words = [container, limit, force, persist, ...(swap === undefined ? [] : [swap])];
          return this.#ask(`balloon ${words.join(' ')}`, signal);
        },
        setLimits: ({ container, limits, persist }) =>
          this.#ask(`set-limits ${container} ${JSON.stringify(limits)} ${persist}`),
        setAutostart: ({ container, autostart }) =>
          this.#ask(`set-autostart ${container} ${autostart}`),
        look: (containers) => this.#ask(`look ${containers.join(' ')}`),
        applyLimits: (container) => this.#ask(`apply-limits ${container}`),
        watch: (tell, oom, heard) => {
          this.#lxc = tell;
          this.oom = oom;
          this.heard = heard;
          heard(undefined);
          return Promise.resolve(nothing);
        },
      },
      lockers: this.#lockersPort(),
      memory: {
        read: () => Promise.reject(new Error('there is none')),
        limits: () => Promise.resolve(this.kernelLimits),
        watchOomKills: (_, tell) => {
          this.oomKills = tell;
          return Promise.resolve(nothing);
        },
        expectOomKills: (group) => this.expected.push(group),
      },
      usage: { read: () => undefined },
      authority: {
        check: async (request) => {
          this.checks.push(request);
          return this.decide(request);
        },
        state: 'polkit',
        onStateChanged: () => undefined,
        onPermissionsChanged: () => undefined,
      },
      journal: { write: (entry) => this.journal.push(entry) },
    };
  }

  core(limits: Partial<Limits> = {}): Core {
    return new Core(this.ports(), this.clock, { ...defaultLimits, ...limits });
  }
}

function jsonNumber(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}

const signatures: Record<string, string> = {
  number: 'u',
  boolean: 'b',
  string: 's',
  bigint: 't',
};

/** Options as a client sends them. */
export function options(
  values: Record<string, boolean | string | bigint | number> = {},
): OptionBag {
  return new Map(
    Object.entries(values).map(([name, value]) => [
      name,
      { signature: signatures[typeof value] ?? '', value },
    ]),
  );
}

export function caller(change: Partial<Caller> = {}): Caller {
  return {
    sender: ':1.5',
    uid: 1000,
    interactive: false,
    left: new AbortController().signal,
    ...change,
  };
}

/** The code of what a promise is rejected with; `no error` when it is not. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}
