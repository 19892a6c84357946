import type { BusConnection } from '../bus/connection.ts';
import { DBusError, Variant } from '../bus/values.ts';
import { LockerdError } from '../model/errors.ts';
import { hasLeft } from './input.ts';

const destination = 'org.freedesktop.systemd1';
const managerPath = '/org/freedesktop/systemd1';
const managerInterface = 'org.freedesktop.systemd1.Manager';
const propertiesInterface = 'org.freedesktop.DBus.Properties';

/** systemd writes unit files and runs generators for some of the calls. */
const callTimeoutMs = 60_000;

/** How often it is looked whether a job is still there, in case its end was told to nobody. */
const jobLookMs = 5_000;

/** How a job ended, in systemd's words; see org.freedesktop.systemd1(5), JobRemoved. */
export type JobResult = string;

export interface UnitState {
  readonly path: string;
  readonly loadState: string;
  readonly activeState: string;
  /** Empty for a unit without a file. */
  readonly fragmentPath: string;
}

/** The properties of a transient unit, by name. */
export type UnitProperties = readonly (readonly [string, Variant])[];

/** systemd as the helper needs it: jobs that are waited for, and states. */
export class Systemd {
  readonly #bus: BusConnection;
  readonly #results = new Map<string, JobResult>();
  #waiting: { readonly job: string; readonly done: (result: JobResult) => void } | undefined;

  private constructor(bus: BusConnection) {
    this.#bus = bus;
  }

  static async connect(bus: BusConnection): Promise<Systemd> {
    const systemd = new Systemd(bus);
    await bus.subscribe(
      {
        sender: destination,
        path: managerPath,
        interface: managerInterface,
        member: 'JobRemoved',
      },
      ({ body: [, job, , result] }) => {
        systemd.#jobRemoved(String(job), String(result));
      },
    );
    // systemd sends signals about jobs only to those who ask.
    await systemd.#manager('Subscribe');
    return systemd;
  }

  #jobRemoved(job: string, result: JobResult): void {
    if (this.#waiting?.job === job) this.#waiting.done(result);
    // It may be over before the call that made it is answered.
    else this.#results.set(job, result);
  }

  async #manager(
    member: string,
    signature?: string,
    body?: readonly unknown[],
  ): Promise<readonly unknown[]> {
    return this.#bus.call({
      destination,
      path: managerPath,
      interface: managerInterface,
      member,
      ...(signature === undefined ? {} : { signature, body: body ?? [] }),
      timeoutMs: callTimeoutMs,
    });
  }

  /** @param goal what the unit is when the job has done its work */
  async #waitForJob(
    job: string,
    timeoutMs: number,
    unit: string,
    goal: 'active' | 'inactive',
    signal?: AbortSignal,
  ): Promise<JobResult> {
    const early = this.#results.get(job);
    if (early !== undefined) return early;
    return new Promise<JobResult>((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        clearInterval(looks);
        signal?.removeEventListener('abort', leave);
        this.#waiting = undefined;
      };
      const looks = setInterval(() => {
        this.#resultOfLost(job, unit, goal)
          .then((result) => {
            if (result !== undefined && this.#waiting?.job === job) this.#waiting.done(result);
          })
          // Systemd may be away, as while it executes itself anew.
          .catch(() => undefined);
      }, jobLookMs);
      const leave = (): void => {
        end();
        reject(new LockerdError('Cancelled', 'the caller has left'));
      };
      signal?.addEventListener('abort', leave);
      const timer = setTimeout(() => {
        end();
        reject(new LockerdError('TimedOut', `systemd did not finish within ${timeoutMs / 1000} s`));
      }, timeoutMs);
      this.#waiting = {
        job,
        done: (result) => {
          end();
          resolve(result);
        },
      };
      void this.#bus.lost.then((error) => {
        end();
        reject(error);
      });
    });
  }

  /** How a job that systemd does not have any more has ended, by its unit. */
  async #resultOfLost(
    job: string,
    unit: string,
    goal: 'active' | 'inactive',
  ): Promise<JobResult | undefined> {
    try {
      await this.#manager('GetJob', 'u', [Number(job.slice(job.lastIndexOf('/') + 1))]);
      return undefined;
    } catch (error) {
      const isGone =
        error instanceof DBusError && error.errorName === 'org.freedesktop.systemd1.NoSuchJob';
      if (!isGone) throw error;
    }
    const { activeState } = await this.unit(unit);
    switch (activeState) {
      case 'active':
        return goal === 'active' ? 'done' : 'lost';
      case 'inactive':
      case 'failed':
        return goal === 'inactive' ? 'done' : 'failed';
      default:
        return undefined;
    }
  }

  async #run(
    member: string,
    signature: string,
    body: readonly [string, ...(readonly unknown[])],
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<JobResult> {
    this.#results.clear();
    const [job] = await this.#manager(member, signature, body);
    if (hasLeft(signal)) throw new LockerdError('Cancelled', 'the caller has left');
    const goal = member === 'StopUnit' ? 'inactive' : 'active';
    return this.#waitForJob(String(job), timeoutMs, body[0], goal, signal);
  }

  /**
   * Starts a unit, or finds it started. A job that contradicts a waiting one, such as a stop, is
   * refused (mode `fail`). The signal ends the waiting, not the job; it throws Cancelled.
   */
  async start(unit: string, timeoutMs: number, signal?: AbortSignal): Promise<JobResult> {
    return this.#run('StartUnit', 'ss', [unit, 'fail'], timeoutMs, signal);
  }

  async stop(unit: string, timeoutMs: number): Promise<JobResult> {
    return this.#run('StopUnit', 'ss', [unit, 'replace'], timeoutMs);
  }

  /** Makes a unit that has no file and starts it; see start(). */
  async startTransient(
    unit: string,
    properties: UnitProperties,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<JobResult> {
    const body = [unit, 'fail', properties, []] as const;
    return this.#run('StartTransientUnit', 'ssa(sv)a(sa(sv))', body, timeoutMs, signal);
  }

  /** Runs the generators and reads all unit files again. */
  async reload(): Promise<void> {
    await this.#manager('Reload');
  }

  /** Lets systemd forget that a unit failed; nothing to do for one that it does not know. */
  async resetFailed(unit: string): Promise<void> {
    await this.#manager('ResetFailedUnit', 's', [unit]).catch((error: unknown) => {
      if (!(error instanceof DBusError)) throw error;
    });
  }

  async #property(path: string, kind: 'Unit' | 'Mount', name: string): Promise<string> {
    const [value] = await this.#bus.call({
      destination,
      path,
      interface: propertiesInterface,
      member: 'Get',
      signature: 'ss',
      body: [`${destination}.${kind}`, name],
      timeoutMs: callTimeoutMs,
    });
    return String((value as Variant).value);
  }

  async unit(name: string): Promise<UnitState> {
    const [path] = (await this.#manager('LoadUnit', 's', [name])) as [string];
    const [loadState, activeState, fragmentPath] = await Promise.all([
      this.#property(path, 'Unit', 'LoadState'),
      this.#property(path, 'Unit', 'ActiveState'),
      this.#property(path, 'Unit', 'FragmentPath'),
    ]);
    return { path, loadState, activeState, fragmentPath };
  }

  /** What= and Options= of a mount unit that is not mounted; a mounted one shows the kernel's. */
  async mountSettings(name: string): Promise<{ what: string; options: readonly string[] }> {
    const [path] = (await this.#manager('LoadUnit', 's', [name])) as [string];
    const [what, options] = await Promise.all([
      this.#property(path, 'Mount', 'What'),
      this.#property(path, 'Mount', 'Options'),
    ]);
    return { what, options: options.split(',') };
  }
}

/** A text property of a transient unit. */
export function textProperty(name: string, value: string): readonly [string, Variant] {
  return [name, new Variant('s', value)];
}

export function booleanProperty(name: string, value: boolean): readonly [string, Variant] {
  return [name, new Variant('b', value)];
}

/** A list property of a transient unit, such as `After=`. */
export function listProperty(name: string, values: readonly string[]): readonly [string, Variant] {
  return [name, new Variant('as', values)];
}
