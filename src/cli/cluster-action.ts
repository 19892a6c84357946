/** "cluster-resource": what src/cluster has planned, as commands for a shell and as JSON. */

import { connectBus } from '../bus/connection.ts';
import { clusterCommands } from '../cluster/commands.ts';
import { readClusterHost } from '../cluster/read-host.ts';
import { planResources, type UnitTimes } from '../cluster/resources.ts';
import { sameFiles } from '../cluster/same-files.ts';
import { unlimited } from '../model/memory-limit.ts';
import { withoutTrailingSlashes } from '../model/path.ts';
import { shellWord } from '../model/shell-quote.ts';
import { containerUnit } from '../model/unit-name.ts';
import { SystemdManager } from '../systemd/manager.ts';
import type { Invocation } from './arguments.ts';
import { complain } from './complain.ts';
import { enter } from './enter.ts';
import { CommandError, exitStatus } from './exit.ts';
import { didYouMean } from './suggest.ts';
import type { Terminal } from './terminal.ts';
import { escapeText } from './text.ts';

/** The times that systemd has for a unit, whichever file they come from. */
async function timesOf(unit: string): Promise<UnitTimes> {
  const bus = await connectBus();
  try {
    const manager = await SystemdManager.connect(bus, { signals: 'none' });
    const names = ['TimeoutStartUSec', 'TimeoutStopUSec'] as const;
    const times = await manager.get(unit, 'Service', names);
    const [startUsec, stopUsec] = names.map((name) => {
      const usec = times.bigint(name);
      return usec === unlimited ? undefined : usec;
    });
    return { startUsec, stopUsec };
  } catch (error) {
    const message = `systemd does not tell the times of ${unit}`;
    const hint = `See "systemctl status ${shellWord(unit)}".`;
    throw new CommandError(message, exitStatus.failure, hint, { cause: error });
  } finally {
    bus.close();
  }
}

/** @throws {CommandError} where the output would not be what a shell has to run */
function printCommands(terminal: Terminal, lines: readonly string[]): void {
  const odd = lines.find((line) => escapeText(line) !== line);
  if (odd !== undefined) {
    const message = `a name has characters that cannot be printed: ${odd}`;
    throw new CommandError(message, exitStatus.failure, 'Rename what has it.');
  }
  terminal.print(...lines);
}

/** Prints what puts a container of this host into a cluster, or has another host print it. */
export async function clusterResource(invocation: Invocation, terminal: Terminal): Promise<number> {
  if (invocation.host !== undefined) return enter(invocation);
  const root = withoutTrailingSlashes(process.env['LOCKERD_ROOT'] ?? '');
  const [name = ''] = invocation.operands;
  const host = readClusterHost(root);
  const container = host.containers.find((each) => each.name === name);
  if (container === undefined) {
    const known = host.containers.map((each) => each.name);
    const message = `there is no container "${name}"`;
    throw new CommandError(message, exitStatus.noSuchObject, didYouMean(name, known));
  }
  if (invocation.files) {
    const files = sameFiles(container, host.linesOf(container), host.reader, host.host.fstab);
    if (invocation.json) terminal.printJson(files, invocation.json);
    else terminal.print(...files);
    return exitStatus.ok;
  }
  const plan = planResources(container, host, await timesOf(containerUnit(name)));
  for (const message of plan.refusals) complain(terminal, name, { message });
  if (plan.refusals.length > 0) return exitStatus.failure;
  if (!invocation.quiet) {
    for (const note of plan.notes) complain(terminal, name, { message: `note: ${note}` });
  }
  if (invocation.json) {
    const { group, resources, needs, notes } = plan;
    const shown = resources.map(({ parameters, operations, meta, ...resource }) => ({
      ...resource,
      parameters: Object.fromEntries(parameters),
      operations: operations.map((operation) => ({ ...operation })),
      meta: Object.fromEntries(meta),
    }));
    terminal.printJson({ container: name, group, resources: shown, needs, notes }, invocation.json);
  } else printCommands(terminal, clusterCommands(plan, invocation.format));
  return exitStatus.ok;
}
