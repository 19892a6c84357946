/**
 * The program lockerctl: arguments in, exit status out.
 *
 * src/cli is a client of org.lockerd1 like any other: it knows the names of the interface (src/api) and
 * the bus, and nothing of how lockerd works.
 */

import { managerPath } from '../api/paths.ts';
import { connectBus } from '../bus/connection.ts';
import { DBusError } from '../bus/values.ts';
import { cancelJobs, runAction } from './actions.ts';
import { PasswordAgent } from './agent.ts';
import { parseArguments, type Information, type Invocation } from './arguments.ts';
import { complain } from './complain.ts';
import { asCommandError, CommandError, exitStatus } from './exit.ts';
import { helpLines } from './help.ts';
import {
  list,
  listOfHosts,
  listSnapshots,
  listStores,
  lookAt,
  now,
  type Session,
} from './lists.ts';
import { runLockerAction } from './locker-actions.ts';
import { monitor } from './monitor.ts';
import { isUp, type ContainerInfo, type JobInfo } from './object-info.ts';
import { connectRemote } from './remote.ts';
import { Service } from './lockerd-client.ts';
import { NameGuess } from './name-guess.ts';
import { top } from './top.ts';
import { didYouMean } from './suggest.ts';
import { Terminal, type TerminalTraits } from './terminal.ts';
import { containerJson, printPermissions, printStatus } from './views.ts';

async function snapshots(session: Session): Promise<number> {
  const [name = ''] = session.invocation.operands;
  const found = await session.service.snapshots(name).catch((error: unknown) => {
    return throwWithGuess(session.service, error, { container: '', locker: name });
  });
  return listSnapshots(session, found);
}

/** Status 4 and 3 are those of the LSB, as systemctl has them. */
async function status(session: Session): Promise<number> {
  const { service, terminal, invocation } = session;
  const { operands, json, quiet } = invocation;
  const { containers, jobs } = await service.snapshot();
  const jobsOf = (name: string): JobInfo[] =>
    jobs.filter((job) => job.container === name && job.state !== 'done');
  const names = operands.length > 0 ? operands : containers.map((found) => found.name);
  const wanted = quiet && !json ? [] : containers.filter(({ name }) => names.includes(name));
  const guests = await lookAt(session, wanted);
  const shown: ContainerInfo[] = [];
  let result: number = exitStatus.ok;
  for (const name of names) {
    const container = containers.find((found) => found.name === name);
    let own: number = exitStatus.ok;
    if (container === undefined) {
      const known = containers.map((found) => found.name);
      const message = `there is no container "${name}"`;
      complain(terminal, '', { message, hint: didYouMean(name, known) });
      own = exitStatus.unknown;
    } else {
      // Without names it is the host that is asked about, and that runs.
      if (container.state === 'unknown') own = exitStatus.unknown;
      else if (operands.length > 0 && !isUp(container.state)) own = exitStatus.notRunning;
      if (!json && !quiet) {
        if (shown.length > 0) terminal.print('');
        printStatus(terminal, container, jobsOf(name), { guest: guests.get(name), nowUsec: now() });
      }
      shown.push(container);
    }
    if (result === exitStatus.ok) result = own;
  }
  if (json) {
    terminal.printJson(
      shown.map((container) =>
        containerJson(container, jobsOf(container.name), { guest: guests.get(container.name) }),
      ),
      json,
    );
  }
  return result;
}

/** What somebody may have meant goes with the error. */
async function throwWithGuess(
  service: Service,
  error: unknown,
  names: { readonly container: string; readonly locker?: string },
): Promise<never> {
  const { message, status, hint } = asCommandError(error);
  const errorName = error instanceof DBusError ? error.errorName : '';
  const guess = await new NameGuess(service).hint(errorName, names);
  throw new CommandError(message, status, guess ?? hint, { cause: error });
}

async function pathOf(service: Service, name: string): Promise<string> {
  return service
    .containerPath(name)
    .catch((error: unknown) => throwWithGuess(service, error, { container: name }));
}

async function permissions({ service, terminal, invocation }: Session): Promise<number> {
  const [name] = invocation.operands;
  const path = name === undefined ? managerPath : await pathOf(service, name);
  const answers = await service.permissions(path);
  if (invocation.json) terminal.printJson(answers, invocation.json);
  else printPermissions(terminal, answers, invocation.legend);
  return exitStatus.ok;
}

/** Fires when somebody has seen enough, which is the ordinary end of some commands and no failure. */
function untilInterrupted(): AbortSignal {
  const ended = new AbortController();
  const end = (): void => {
    ended.abort();
  };
  process.once('SIGINT', end).once('SIGTERM', end);
  return ended.signal;
}

async function watch({ service, terminal, invocation }: Session): Promise<number> {
  await monitor(service, terminal, invocation.json, untilInterrupted());
  return exitStatus.ok;
}

async function showTop({ service, terminal, invocation }: Session): Promise<number> {
  await top(service, terminal, invocation, untilInterrupted());
  return exitStatus.ok;
}

function runCommand(session: Session): Promise<number> {
  const { service, terminal, invocation } = session;
  switch (invocation.command) {
    case 'list':
    case 'lockers':
    case 'jobs':
      return list(session, invocation.command);
    case 'status':
      return status(session);
    case 'snapshots':
      return snapshots(session);
    case 'stores':
      return listStores(session);
    case 'permissions':
      return permissions(session);
    case 'monitor':
      return watch(session);
    case 'top':
      return showTop(session);
    case 'cancel':
      return cancelJobs(service, terminal, invocation);
    case 'console':
    case 'shell':
    case 'check':
    case 'cluster-resource':
    case 'import':
    case 'move':
    case 'export':
    case 'import-archive':
    case 'diff':
    case 'explain':
    case 'destroy-locker':
      // They need no service.
      throw new Error(invocation.command);
    case 'create-locker':
    case 'grow-locker':
    case 'rename-locker':
    case 'snapshot-locker':
    case 'restore-locker':
    case 'forget-locker':
    case 'adopt-locker':
      return runLockerAction(service, terminal, invocation);
    default:
      return runAction(service, terminal, invocation);
  }
}

const readingCommands: readonly string[] = [
  'list',
  'status',
  'lockers',
  'snapshots',
  'stores',
  'jobs',
  'permissions',
  'monitor',
  'top',
];

/** As systemctl: root needs no password, and on another host nobody sits at our terminal. */
function needsAgent(invocation: Invocation, traits: TerminalTraits): boolean {
  return (
    invocation.askPassword &&
    invocation.host === undefined &&
    !readingCommands.includes(invocation.command) &&
    traits.inputIsTerminal &&
    process.geteuid?.() !== 0
  );
}

/** Commands that need no service. Each is loaded where it is meant, as Node takes a while to read all of them. */
const ownCommands: Readonly<
  Record<string, (invocation: Invocation, terminal: Terminal) => Promise<number>>
> = {
  console: async (invocation) => (await import('./enter.ts')).enter(invocation),
  shell: async (invocation) => (await import('./enter.ts')).enter(invocation),
  check: async (...args) => (await import('./check-action.ts')).check(...args),
  'cluster-resource': async (...args) =>
    (await import('./cluster-action.ts')).clusterResource(...args),
  import: async (...args) => (await import('./import-action.ts')).importContainers(...args),
  explain: async (...args) => (await import('./explain-action.ts')).explainUnits(...args),
  diff: async (...args) => (await import('./explain-action.ts')).diffUnits(...args),
  move: async (...args) => (await import('./move-action.ts')).moveContainer(...args),
  export: async (...args) => (await import('./archive-action.ts')).exportToFile(...args),
  'import-archive': async (...args) =>
    (await import('./archive-action.ts')).importFromFile(...args),
  'destroy-locker': async (...args) => (await import('./destroy-action.ts')).destroyLocker(...args),
};

async function runOnBus(invocation: Invocation, terminal: Terminal): Promise<number> {
  const { command, host } = invocation;
  const own = ownCommands[command];
  if (own !== undefined) return own(invocation, terminal);
  if (command === 'list' || command === 'lockers' || command === 'jobs') {
    if (invocation.hosts.length > 1) return listOfHosts(terminal, invocation, command);
  }
  const bus = host === undefined ? await connectBus() : await connectRemote(host);
  let agent: PasswordAgent | undefined;
  try {
    if (needsAgent(invocation, terminal.traits)) agent = await PasswordAgent.open();
    const { askPassword, timeoutUsec } = invocation;
    const service = new Service(bus, { askPassword, timeoutUsec });
    const lost = bus.lost.then((error) => {
      const message = `the connection to the bus is lost: ${error.message}`;
      throw new CommandError(message, exitStatus.failure);
    });
    return await Promise.race([runCommand({ service, terminal, invocation }), lost]);
  } finally {
    agent?.close();
    bus.close();
  }
}

function informationLines(asked: Information): string[] {
  return asked.show === 'help' ? helpLines(asked.about) : [`lockerctl ${LOCKERD_VERSION}`];
}

/** The whole program: arguments in, exit status out. */
export async function main(args: readonly string[], traits: TerminalTraits): Promise<number> {
  const terminal = new Terminal(traits, {
    stdout: (text) => process.stdout.write(text),
    stderr: (text) => process.stderr.write(text),
  });
  try {
    const asked = parseArguments(args, { outputIsTerminal: traits.columns !== undefined });
    if (!('show' in asked)) return await runOnBus(asked, terminal);
    terminal.print(...informationLines(asked));
    return exitStatus.ok;
  } catch (error) {
    terminal.status('');
    const problem = asCommandError(error);
    complain(terminal, '', problem);
    return problem.status;
  }
}
