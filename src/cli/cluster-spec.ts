import type { CommandSpec } from './command-table.ts';

/** The command "cluster-resource" in the table of commands. */
export const clusterResourceSpec = {
  operands: [{ kind: 'container', name: 'NAME', count: 'one' }],
  options: { format: '', files: '' },
  summary: 'Print the commands that give a container to Pacemaker',
  help: 'They put its volumes, its mounts and its unit into a group, with the times that systemd has for the unit; see lockerd-cluster(7). Its settings must have "managed-by = pacemaker" on each node. It changes nothing, and should be run by root.',
  examples: [
    'lockerctl cluster-resource web | sh -e',
    'lockerctl cluster-resource --format=pcs web',
    'lockerctl cluster-resource --files web',
  ],
  statuses: [
    ['0', 'the commands are printed'],
    ['1', 'the cluster cannot have the container as it is: the message says what to change'],
    ['2', 'wrong usage'],
    ['5', 'there is no such container'],
  ],
} as const satisfies CommandSpec;
