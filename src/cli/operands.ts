/** What commands of lockerctl are given beside their options. */

import type { ContainerState } from './option-table.ts';

/** What an operand is, which decides what completion offers for it. */
type OperandKind =
  'command' | 'container' | 'host' | 'job' | 'limit' | 'locker' | 'name' | 'size' | 'snapshot';

export interface Operand {
  readonly kind: OperandKind;
  /** As the help shows it. */
  readonly name: string;
  readonly count: 'one' | 'optional' | 'any' | 'some';
  /** In which states containers can use the command; completion offers only those. */
  readonly states?: readonly ContainerState[];
}

interface Operands {
  readonly operands: readonly Operand[];
  /** Behind "--" stands a command for the container. */
  readonly program?: true;
}

/** `NAME...`, `[NAME]`, `NAME SIZE`: the operands of a command as the help shows them. */
export function operandsText({ operands, program }: Operands): string {
  const shown = operands.map(({ name, count }) => {
    const repeated = count === 'any' || count === 'some' ? `${name}...` : name;
    return count === 'any' || count === 'optional' ? `[${repeated}]` : repeated;
  });
  return [...shown, ...(program ? ['[-- COMMAND...]'] : [])].join(' ');
}
