import type { ListedUnit, SystemdManager } from './manager.ts';
import { isDown } from './properties.ts';

/**
 * A start that has not begun. systemd calls the unit inactive all the same: a queued job shows in
 * the unit's property Job, and a job that ended for want of what the unit requires leaves no trace
 * but the signal JobRemoved.
 */
export interface HeldStart {
  readonly kind: 'waiting' | 'unmet';
  /** What it waits for, or lacks. */
  readonly units: readonly string[];
}

/**
 * The unit that is active while a container waits for what its start has lacked; its status names
 * that. See hooks/wait-for-data.
 */
export function lateUnit(unit: string): string | undefined {
  return unit.startsWith('lxc@') ? unit.replace('lxc@', 'lxc-late@') : undefined;
}

/** Jobs that start a unit which is down; see job_type_to_string() in systemd's job.c. */
const startTypes: readonly string[] = ['start', 'restart', 'reload-or-start', 'verify-active'];

function isStart({ id, type }: ListedUnit['job']): boolean {
  return id !== 0 && startTypes.includes(type);
}

/** Whether a unit is active, or its start is under way or queued. */
export function willRun({ activeState, job }: ListedUnit): boolean {
  return (
    activeState === 'active' ||
    activeState === 'activating' ||
    (isDown(activeState) && isStart(job))
  );
}

/** Whether a job ended before its unit was worked on, because of other units or the time. */
export function wasNotBegun(result: string): boolean {
  return ['dependency', 'timeout', 'assert'].includes(result);
}

type Asked = Pick<SystemdManager, 'unitsBefore' | 'get' | 'listLoaded'>;

/** What holds up the start of a unit; undefined where nothing does, or it is up. */
export async function readHeldStart(
  manager: Asked,
  unit: string,
  { activeState, job, isUnmet, isAwaited }: HeldStartFacts,
): Promise<HeldStart | undefined> {
  if (!isDown(activeState)) return undefined;
  if (job !== undefined && isStart(job)) {
    return { kind: 'waiting', units: await heldUpBy(manager, job.id) };
  }
  const late = isAwaited ? lateUnit(unit) : undefined;
  if (late !== undefined) {
    const status = await manager.get(late, 'Service', ['StatusText']);
    const units = status.string('StatusText').split(' ').filter(Boolean);
    // None while it still looks for them.
    if (units.length > 0) return { kind: 'unmet', units };
  }
  if (!isUnmet || activeState === 'failed') return undefined;
  return { kind: 'unmet', units: await missingNeeds(manager, unit) };
}

/** Units for whose jobs a job waits; in place of units that only collect others, these others. */
async function heldUpBy(manager: Asked, job: number): Promise<string[]> {
  const units = new Set(await manager.unitsBefore(job));
  const collecting = [...units].filter((unit) => unit.startsWith('lxc-needs@'));
  const listed = collecting.length === 0 ? [] : await manager.listLoaded(collecting);
  for (const { name, job: own } of listed) {
    const others = own.id === 0 ? [] : await manager.unitsBefore(own.id);
    if (others.length > 0) units.delete(name);
    for (const other of others) units.add(other);
  }
  return [...units].sort();
}

interface HeldStartFacts {
  readonly activeState: string;
  readonly job: ListedUnit['job'] | undefined;
  /** The last job ended as {@link wasNotBegun} says. */
  readonly isUnmet: boolean;
  /** The unit that {@link lateUnit} names is active. */
  readonly isAwaited: boolean;
}

/** Required units that have failed, and devices and mounts that are not there. */
async function missingNeeds(manager: Asked, unit: string): Promise<string[]> {
  const lists = ['Requires', 'Requisite', 'BindsTo'];
  const properties = await manager.get(unit, 'Unit', lists);
  const needs = [...new Set(lists.flatMap((name) => properties.strings(name)))];
  const loaded = needs.length === 0 ? [] : await manager.listLoaded(needs);
  const states = new Map(loaded.map(({ name, activeState }) => [name, activeState]));
  return needs
    .filter((name) => {
      const state = states.get(name) ?? 'inactive';
      return state === 'failed' || (state !== 'active' && /\.(?:device|mount)$/.test(name));
    })
    .sort();
}
