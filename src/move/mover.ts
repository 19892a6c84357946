/** The source's side of a move, which leads. See README.md for what holds whatever fails. */
import { randomBytes } from 'node:crypto';
import { clusterGroup } from '../model/cluster-id.ts';
import { LockerdError } from '../model/errors.ts';
import { shellWord } from '../model/shell-quote.ts';
import { changedSince, lookAtTree, type TreeLook } from './changed.ts';
import type { Fields } from './fields.ts';
import { startWatch } from './frozen.ts';
import { hold } from './guard.ts';
import { withMoveLock } from './lock.ts';
import { sizeOf } from './receiver.ts';
import { readRecord, writeRecord, type MoveRecord, type Phase } from './record.ts';
import { run, stopUnit, unitState } from './run.ts';
import { readMovable, type Movable } from './source-facts.ts';
import { readLockers, sizeThere, type CopiedLocker } from './source-lockers.ts';
import { Target, type Hello } from './ssh.ts';
import { copyChange, copyTree, sizeOfVolume, type CopiedTree, type CopyHow } from './sync.ts';
import { giveUp, undo } from './undo.ts';

/** What the caller is told while a move goes on. */
export interface MoveReport {
  readonly step: (text: string) => void;
  readonly warn: (text: string) => void;
  /** Bytes done of how many, bytes a second, and seconds that are left, all of them estimates. */
  readonly progress: (
    step: string,
    figures: { readonly bytes: number; readonly total: number; readonly rate: number },
  ) => void;
}

export interface Downtime {
  readonly stopMs: number;
  readonly copyMs: number;
  readonly startMs: number;
}

export interface MoveResult {
  readonly container: string;
  readonly target: string;
  /** False for what only was looked at. */
  readonly moved: boolean;
  readonly bytes: number;
  readonly files: number;
  readonly warnings: readonly string[];
  /** Without the container, milliseconds: its stop, the rest of the copy, its start; undefined where it did not run. */
  readonly downtime: Downtime | undefined;
}

export interface MoveHow {
  /** Looks at everything, and changes nothing. */
  readonly isDry: boolean;
  /** Copies lockers that the target does not have. */
  readonly withLockers: boolean;
  /** The store at the target that makes them; empty for the default one. */
  readonly store: string;
}

/** What is wrong at either end; nothing was changed. */
export class NotMovable extends LockerdError {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super('Failed', problems.join('\n'));
    this.problems = problems;
  }
}

/** The source could not start it again if the move failed, and the target's cluster may not know it. */
function ofClusterText(name: string): string {
  const group = clusterGroup(name);
  return (
    `Pacemaker decides where it runs; to have it on another node: crm resource move ${group} NODE, or: ` +
    `pcs resource move ${group} NODE; to move it out of the cluster, take "managed-by" out of its settings first`
  );
}

/** A container that runs outside its unit cannot be stopped by it. */
async function checkState(name: string): Promise<boolean> {
  const state = await unitState(name);
  if (state === 'active') {
    const frozen = await run('lxc-info', ['-n', name, '-sH']);
    if (frozen.trim() === 'RUNNING') return true;
    throw new NotMovable([`it is ${frozen.trim().toLowerCase()} here; thaw or stop it first`]);
  }
  if (state !== 'inactive' && state !== 'failed') {
    throw new NotMovable([`its unit is ${state}; wait, or stop it first`]);
  }
  const lxc = (await run('lxc-info', ['-n', name, '-sH'])).trim();
  if (lxc === 'STOPPED') return false;
  throw new NotMovable([`it runs, but not as its unit; stop it with lxc-stop first`]);
}

/** Throws Failed for one that was started since somebody has looked. */
async function checkStopped(name: string): Promise<void> {
  if (await checkState(name)) throw new LockerdError('Failed', 'it was started meanwhile');
}

/** Differences that may matter, but need not. */
function releaseWarnings(hello: Hello, lxc: string): string[] {
  return [
    ...(hello.lxc === lxc ? [] : [`LXC is ${hello.lxc} there and ${lxc} here`]),
    ...(hello.lockerd === LOCKERD_VERSION
      ? []
      : [`lockerd is ${hello.lockerd} there and ${LOCKERD_VERSION} here`]),
  ];
}

class Move {
  readonly #movable: Movable;
  readonly #report: MoveReport;
  readonly #target: Target;
  readonly #how: MoveHow;
  #record: MoveRecord;
  #copy = '';
  /** Lockers that go along. */
  #lockers: readonly CopiedLocker[] = [];
  /** What the target's volume for the root file system is to have; zero for a directory. */
  #volumeBytes = 0;
  /** Where the target has that. */
  #root = '';
  /** Where the target has each of them mounted. */
  #places: Readonly<Record<string, string>> = {};
  #bytes = 0;
  /** What each tree had in it before it was copied last, by its place here. */
  readonly #looks = new Map<string, TreeLook>();
  /** How long each part of the time without the container has taken, milliseconds. */
  readonly phases = { stopMs: 0, copyMs: 0, startMs: 0 };

  constructor(
    movable: Movable,
    target: Target,
    record: MoveRecord,
    how: MoveHow,
    report: MoveReport,
  ) {
    this.#how = how;
    this.#movable = movable;
    this.#target = target;
    this.#record = record;
    this.#report = report;
  }

  /** @throws {NotMovable} */
  async check(hello: Hello): Promise<{ bytes: number; files: number; warnings: string[] }> {
    const { name, directory, lxcpath, needs, idmaps, lockers, config, wantedBy } = this.#movable;
    if (hello.lxcpath !== lxcpath) {
      throw new NotMovable([`containers are in ${hello.lxcpath} there and in ${lxcpath} here`]);
    }
    await run('rsync', ['--version']).catch(() => {
      throw new NotMovable(['there is no rsync here; install it']);
    });
    const size = await sizeOf(directory);
    this.#bytes = size.bytes;
    const { id } = this.#record;
    const read = this.#how.withLockers ? await readLockers(name, lockers) : undefined;
    this.#lockers = read?.lockers ?? [];
    const { volume } = this.#movable;
    const root = volume === undefined ? { size: 0, used: 0, files: 0 } : await sizeOfVolume(volume);
    this.#bytes += root.used;
    this.#volumeBytes = volume === undefined ? 0 : sizeThere(root.size);
    const ofRoot = { volumeBytes: this.#volumeBytes, rootBytes: root.used };
    const asked = { id, name, config, needs, idmaps, ...this.#askedLockers(), ...ofRoot, ...size };
    const answer = await this.#target.ask('check', asked);
    const present = answer.texts('present');
    // What the target has need not be one that could be copied.
    const unfit = [...(read?.problems ?? [])].flatMap(([locker, problem]) =>
      present.includes(locker) ? [] : problem,
    );
    const problems = [...unfit, ...answer.texts('problems')];
    if (problems.length > 0) throw new NotMovable(problems);
    this.#lockers = this.#lockers.filter((locker) => !present.includes(locker.name));
    for (const { used } of this.#lockers) this.#bytes += used;
    const lxc = (await run('lxc-start', ['--version'])).trim();
    const warnings = [
      ...releaseWarnings(hello, lxc),
      ...answer.texts('warnings'),
      ...this.#movable.warnings,
      ...present.map(
        (locker) => `locker "${locker}" is there already, and taken to be the same one`,
      ),
      ...wantedBy.map((other) => `${other} needs or wants it here`),
    ];
    for (const warning of warnings) this.#report.warn(warning);
    return { bytes: this.#bytes, files: size.files + root.files, warnings };
  }

  #askedLockers(): Readonly<Record<string, unknown>> {
    const wanted = Object.fromEntries(this.#lockers.map(({ name, size }) => [name, String(size)]));
    return { lockers: this.#movable.lockers, wanted, store: this.#how.store };
  }

  #enter(phase: Phase): void {
    this.#record = { ...this.#record, phase, leaseEndMs: this.#target.leaseEndMs };
    writeRecord(this.#record);
  }

  #trees(): readonly CopiedTree[] {
    const { directory: own, volume } = this.#movable;
    // The target has written its own line about the volume before the last copy.
    const ofVolume = ['/rootfs', ...(this.#record.phase === 'stopping' ? ['/config'] : [])];
    return [
      { from: own, to: this.#copy, excluded: volume === undefined ? [] : ofVolume },
      ...(volume === undefined ? [] : [{ from: volume, to: this.#root, excluded: [] }]),
      ...this.#lockers.map(({ name, mountPoint: from }) => {
        return { from, to: this.#places[name] ?? '', excluded: [] };
      }),
    ];
  }

  /** @param copy of one tree */
  async #sync(
    step: string,
    isAtRest: boolean,
    copy: (tree: CopiedTree, how: CopyHow) => Promise<unknown> = copyTree,
  ): Promise<void> {
    this.#report.step(step);
    const { socket } = this.#target;
    let before = 0;
    for (const tree of this.#trees()) {
      let done = 0;
      const report: CopyHow['report'] = ({ bytes, rate }) => {
        done = bytes;
        this.#report.progress(step, { bytes: before + bytes, total: this.#bytes, rate });
      };
      await copy(tree, { socket, isAtRest, report });
      before += done;
    }
  }

  /** Looks at a tree, and copies it once more. */
  async #copyAndLook(tree: CopiedTree, how: CopyHow): Promise<void> {
    const look = await lookAtTree(tree.from);
    const isWhole = await copyTree(tree, how);
    if (look !== undefined && isWhole) this.#looks.set(tree.from, look);
  }

  /** The container is away meanwhile. */
  async #copyRest(tree: CopiedTree, how: CopyHow): Promise<void> {
    const look = this.#looks.get(tree.from);
    const change = look === undefined ? undefined : await changedSince(tree.from, look);
    if (change === undefined) await copyTree(tree, how);
    else await copyChange(tree, how, change);
  }

  async #copyWhileItRuns(): Promise<void> {
    this.#enter('copying');
    const { name } = this.#movable;
    const { wasRunning, target } = this.#record;
    await startWatch(name);
    if (!wasRunning) {
      hold(name, `it is being moved to ${target}`);
      await checkStopped(name);
    }
    const answer = await this.#target.ask('prepare', {
      id: this.#record.id,
      name,
      volumeBytes: this.#volumeBytes,
      ...this.#askedLockers(),
    });
    this.#goTo(answer);
    await this.#sync('copying', !wasRunning);
    // What has changed meanwhile takes less time, in which less changes.
    if (wasRunning) {
      await this.#sync('copying what has changed', false, (tree, how) =>
        this.#copyAndLook(tree, how),
      );
    }
    await this.#target.ask('flush');
  }

  /** From now on files are copied to where the target says. */
  #goTo(answer: Fields): void {
    this.#copy = answer.text('copy');
    this.#root = answer.text('root');
    this.#places = answer.record('places');
  }

  async #handOver(): Promise<void> {
    const { name, belongings, autostart } = this.#movable;
    const isVolume = this.#movable.volume !== undefined;
    // The target needs a moment for that, and cannot start the container before it is told to.
    this.#goTo(await this.#target.ask('install', { ...belongings, autostart, isVolume }));
    this.#enter('stopping');
    hold(name, `it is being moved to ${this.#record.target}`);
    if (!this.#record.wasRunning) return;
    const { phases } = this;
    const began = performance.now();
    this.#report.step('stopping');
    await stopUnit(name);
    phases.stopMs = performance.now() - began;
    await this.#sync('copying the rest', true, (tree, how) => this.#copyRest(tree, how));
    await this.#target.ask('flush');
    phases.copyMs = performance.now() - began - phases.stopMs;
    this.#enter('starting');
    this.#report.step('starting there');
    await this.#target.ask('start');
    phases.startMs = performance.now() - began - phases.stopMs - phases.copyMs;
  }

  /** All of it; on failure, the source is as it was. */
  async run(): Promise<void> {
    try {
      await this.#copyWhileItRuns();
      await this.#handOver();
    } catch (error) {
      throw await this.#undone(error);
    }
    this.#enter('keeping');
    try {
      await this.#target.ask('keep');
    } catch (error) {
      const undone = await undo(this.#record);
      if (undone.outcome !== 'kept') throw error;
      return;
    }
    for (const warning of await giveUp(this.#record)) this.#report.warn(warning);
  }

  async #undone(error: unknown): Promise<Error> {
    const why = error instanceof Error ? error.message : String(error);
    this.#report.step('undoing');
    this.#target.close();
    const { copy, warnings } = await undo({
      ...this.#record,
      leaseEndMs: Math.max(this.#record.leaseEndMs, this.#target.leaseEndMs),
    });
    for (const warning of warnings) this.#report.warn(warning);
    const { wasRunning, target } = this.#record;
    const here = wasRunning ? 'it runs here as before' : 'it is here as before';
    const there = copy === undefined ? '' : `; ${target} keeps what was copied in ${copy}`;
    return new LockerdError('Failed', `${why}\n${here}${there}`, { cause: error });
  }
}

/** The number of an earlier try with the same target, or a new one. */
function recordFor(name: string, target: string, wasRunning: boolean): MoveRecord {
  const old = readRecord(name);
  const isSame = old?.phase === 'paused' && old.target === target;
  const id = isSame ? old.id : randomBytes(8).toString('hex');
  return { id, container: name, target, phase: 'copying', wasRunning, leaseEndMs: 0 };
}

/** Undoes what an earlier mover has left that was killed. */
async function endEarlier(name: string): Promise<void> {
  const old = readRecord(name);
  if (old === undefined) return;
  const { outcome } = await undo(old);
  if (outcome === 'kept' || old.phase === 'moved') {
    throw new NotMovable([
      `it was moved to ${old.target} already; to forget that: lockerctl move --abort ${shellWord(name)}`,
    ]);
  }
}

const lockWaitSec = 5;

/**
 * Moves a container of this host to another one.
 * @param target `[USER@]HOST[:PORT]`, where that user is root
 * @throws {NotMovable} before anything was changed, and LockerdError with what became of the container
 */
export function move(
  name: string,
  target: string,
  how: MoveHow,
  report: MoveReport,
): Promise<MoveResult> {
  return withMoveLock(name, lockWaitSec, async () => {
    await endEarlier(name);
    const movable = readMovable(name);
    if (movable.isOfCluster) throw new NotMovable([ofClusterText(name)]);
    const wasRunning = await checkState(name);
    const record = recordFor(name, target, wasRunning);
    const connection = await Target.connect(target, record.id);
    try {
      const moving = new Move(movable, connection.target, record, how, report);
      const { bytes, files, warnings } = await moving.check(connection.hello);
      const result = { container: name, target, bytes, files, warnings };
      if (how.isDry) return { ...result, moved: false, downtime: undefined };
      await moving.run();
      return { ...result, moved: true, downtime: wasRunning ? moving.phases : undefined };
    } finally {
      connection.target.close();
    }
  });
}
