/** What a command of lockerctl is, and the operands and exit statuses that many of them share. */

import type { ContainerState, OptionName } from './option-table.ts';

/** What an operand is, which decides what completion offers for it. */
export type OperandKind =
  | 'command'
  | 'container'
  | 'file'
  | 'host'
  | 'job'
  | 'limit'
  | 'locker'
  | 'name'
  | 'size'
  | 'snapshot';

export interface Operand {
  readonly kind: OperandKind;
  /** As the help shows it. */
  readonly name: string;
  readonly count: 'one' | 'optional' | 'any' | 'some';
  /** In which states containers can use the command; completion offers only those. */
  readonly states?: readonly ContainerState[];
}

export interface CommandSpec {
  readonly operands: readonly Operand[];
  /** Behind "--" stands a command for the container. */
  readonly program?: true;
  /** Options beside those of every command, with what they mean here; empty for what they always mean. */
  readonly options: Readonly<Partial<Record<OptionName, string>>>;
  /** One line. */
  readonly summary: string;
  /** What it does, beside the summary. */
  readonly help: string;
  readonly examples: readonly string[];
  /** Exit statuses, where they are not the usual ones. */
  readonly statuses?: readonly (readonly [status: string, meaning: string])[];
}

/** Exit statuses of a command that has no others. */
export const usualStatuses = [
  ['0', 'all is well'],
  ['1', 'something failed'],
  ['2', 'wrong usage'],
  ['4', 'not permitted'],
  ['5', 'no such container, locker, snapshot, store or job'],
] as const;

/** The same of a command that starts a container. */
export const startStatuses = [
  ...usualStatuses,
  ['7', 'the container starts by itself when the host has what it needs'],
] as const;

/** States in which there is a guest to go to. */
export const up = ['running', 'frozen'] as const;

/** One or more containers, in these states or in any. */
export function containers(count: 'any' | 'some', states?: readonly ContainerState[]): [Operand] {
  return [{ kind: 'container', name: 'NAME', count, ...(states ? { states } : {}) }];
}

export function container(count: 'one' | 'optional', states?: readonly ContainerState[]): Operand {
  return { kind: 'container', name: 'NAME', count, ...(states ? { states } : {}) };
}

export function locker(name: string): Operand {
  return { kind: 'locker', name, count: 'one' };
}

export const size: Operand = { kind: 'size', name: 'SIZE', count: 'one' };

/** Options of commands that wait for a job. */
export const job = { 'no-block': '', timeout: '', 'no-ask-password': '', 'no-progress': '' };

/** Exit statuses of commands that run another program. */
export const ofProgram = [
  ['2', 'wrong usage'],
  ['4', 'the caller is not root'],
  ['*', 'otherwise that of the program'],
] as const;
