/** The resources of a container as commands for a shell: for crmsh, and for pcs. */
import { shellWord } from '../model/shell-quote.ts';
import type { ClusterPlan, Operation, Resource } from './resources.ts';

export const clusterFormats = ['crm', 'pcs'] as const;

export type ClusterFormat = (typeof clusterFormats)[number];

/** A group that has moved stays where it is, although the other node comes back. */
const groupMeta = ['resource-stickiness', '100'] as const;

/** `op start timeout=60s` */
function operationWords({ name, timeout, interval }: Operation): string[] {
  return [
    name,
    ...(interval === undefined ? [] : [`interval=${interval}s`]),
    `timeout=${timeout}s`,
  ];
}

/**
 * A word of crmsh, which splits its lines as a POSIX shell does and expands nothing. A value may be quoted as
 * a whole only.
 */
function crmWord(text: string): string {
  if (/^[-\w./:@+,]+$/.test(text)) return text;
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

const crmPair = ([name, value]: readonly [string, string]): string => `${name}=${crmWord(value)}`;

function crmPrimitive({ id, agent, parameters, operations, meta }: Resource): string {
  return [
    `primitive ${id} ${crmWord(agent)}`,
    ...(parameters.length === 0 ? [] : [`params ${parameters.map(crmPair).join(' ')}`]),
    ...operations.map((operation) => `op ${operationWords(operation).join(' ')}`),
    ...(meta.length === 0 ? [] : [`meta ${meta.map(crmPair).join(' ')}`]),
  ].join(' ');
}

/** All at once: a resource that is not in its group yet could start on another node. */
function crmCommands({ group, resources, needs }: ClusterPlan): string[] {
  return [
    "crm -f - <<'END'",
    'configure',
    ...resources.map(crmPrimitive),
    `group ${group} ${resources.map(({ id }) => id).join(' ')} meta ${crmPair(groupMeta)}`,
    ...needs.flatMap((other) => [
      `colocation ${group}.with.${other} inf: ${group} ${other}`,
      `order ${group}.after.${other} Mandatory: ${other} ${group}`,
    ]),
    'commit',
    'END',
  ];
}

/** Each resource is in its group from the first; a group starts nothing before what stands earlier in it. */
function pcsCommands({ group, resources, needs }: ClusterPlan): string[] {
  const pair = ([name, value]: readonly [string, string]): string => `${name}=${value}`;
  const create = ({ id, agent, parameters, operations, meta }: Resource): string[] => [
    ...['resource', 'create', id, agent, ...parameters.map(pair)],
    ...['op', ...operations.flatMap(operationWords)],
    ...(meta.length === 0 ? [] : ['meta', ...meta.map(pair)]),
    ...['--group', group],
  ];
  const commands = [
    ...resources.map(create),
    ['resource', 'meta', group, pair(groupMeta)],
    ...needs.flatMap((other) => [
      [
        ...['constraint', 'colocation', 'add', group, 'with', other, 'INFINITY'],
        `id=${group}.with.${other}`,
      ],
      [
        ...['constraint', 'order', 'start', other, 'then', 'start', group],
        `id=${group}.after.${other}`,
      ],
    ]),
  ];
  return commands.map((words) => ['pcs', ...words].map(shellWord).join(' '));
}

/** Lines of a script for sh. */
export function clusterCommands(plan: ClusterPlan, format: ClusterFormat): readonly string[] {
  return format === 'crm' ? crmCommands(plan) : pcsCommands(plan);
}
