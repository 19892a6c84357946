/** What the table of commands says of one of them. */

import type { ContainerState, OptionName } from './option-table.ts';

/** What an operand is, which decides what completion offers for it. */
export type OperandKind =
  'command' | 'container' | 'host' | 'job' | 'limit' | 'locker' | 'name' | 'size' | 'snapshot';

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
