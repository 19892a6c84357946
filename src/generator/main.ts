/**
 * src/generator writes the units of LXC containers for systemd.generator(7). A run is a pipeline:
 * read everything below a root directory, decide from these facts alone, plan the units as data,
 * render them by the templates in units/generated, and write. What the disk says and how its files
 * are read belongs to src/host.
 */
import { defaultLxcpath, withoutTrailingSlashes } from '../model/path.ts';
import { errnoText } from '../model/errno.ts';
import { formatProblem } from '../model/problem.ts';
import { fitsUnitFile } from '../model/unit-syntax.ts';
import { Files } from '../host/files.ts';
import { system } from '../host/system.ts';
import { compareText } from './container.ts';
import { Decisions, withoutDefect } from './decisions.ts';
import { KernelLog } from './kernel-log.ts';
import { errorMessages, warningMessages } from './messages.ts';
import { planContainer, planOthers } from './plan.ts';
import { readEach } from './read-facts.ts';
import { renderOutput } from './render.ts';
import { watchPaths } from './watch-paths.ts';
import type { Environment } from './watched-run.ts';
import { noteDone, runSafely, watchedFiles } from './watched-run.ts';
import type { Output, WriteError } from './write.ts';
import { OutputWriter } from './write.ts';

/** What a run decided: the files to write and what the admin should hear. */
export interface Generated {
  readonly outputs: readonly Output[];
  /** Something an admin must mend; the generator exits 1. */
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
  /** Why each container that will not start will not. */
  readonly refused: ReadonlyMap<string, readonly string[]>;
}

/**
 * Reads everything below `root` (the empty string for the host itself) and decides what the
 * generator writes. Nothing is written here.
 */
export function generate(root: string, files: Files): Generated {
  const outputs: Output[] = [];
  const said = generateInto(root, files, {
    ready: () => undefined,
    write: (output) => outputs.push(output),
  });
  return { outputs, ...said };
}

interface Sink {
  /** Called when all is read. */
  readonly ready: () => void;
  /** Gets what is to be written, the file that marks completeness last. */
  readonly write: (output: Output) => void;
}

/**
 * The same without holding what is written: of thousands of containers, no more is in memory at a
 * time than what was decided about each, and the text of one.
 */
function generateInto(root: string, files: Files, sink: Sink): Omit<Generated, 'outputs'> {
  const decided = new Decisions();
  const facts = readEach(root, files, (container, host, settings) => {
    decided.add(container, host, settings.defaults);
  });
  const { host, settings } = facts;
  const { containers, nameless } = decided.model();
  const context = {
    host: settings.host,
    bridgeTimeout: settings.host.bridgeTimeout,
    lockers: host.lockers,
    fstab: host.fstab,
    initScripts: facts.initScripts,
    filtersLog: facts.filtersLog,
    lxcpath: facts.lxcpath ?? defaultLxcpath,
    ...watchPaths(facts, decided.uncertain),
  };
  const automounts = automountOutputs(files.idleAutomounts);
  sink.ready();
  const scripts = new Set(context.initScripts);
  const planned = containers.map((c) =>
    withoutDefect(c, settings.defaults, host, (sound) => {
      // All of a container's texts before any is written.
      const outputs = planContainer(sound, scripts.has(sound.name)).map(renderOutput);
      outputs.forEach(sink.write);
    }),
  );
  automounts.forEach(sink.write);
  planOthers(planned, context, (one) => {
    sink.write(renderOutput(one));
  });
  const model = { containers: planned, nameless };
  return {
    errors: errorMessages(facts, model),
    warnings: warningMessages(facts, model),
    refused: new Map(
      planned
        .filter(({ problems }) => problems.length > 0)
        .map(({ name, problems }) => [name, problems.map(formatProblem)]),
    ),
  };
}

/** What hooks/wake-automounts has mounted, to let the generator look again. */
function automountOutputs(idle: readonly string[]): Output[] {
  const paths = idle.filter(fitsUnitFile);
  if (paths.length === 0) return [];
  return [{ path: 'lockerd-automounts', text: paths.map((path) => `${path}\n`).join('') }];
}

/**
 * The whole program: arguments in, exit status out.
 * @param mountinfo in place of that of this process
 */
export function main(
  args: readonly string[],
  environment: Environment,
  mountinfo?: string,
): number {
  const [first] = args;
  if (first === '--help' || first === '-h') {
    system.print('output', usage);
    return 0;
  }
  if (first === '--version') {
    system.print('output', `${program} ${LOCKERD_VERSION}\n`);
    return 0;
  }
  const dryRun = first === '--dry-run' && args.length === 1;
  const isUsage =
    first !== undefined && first !== '' && !first.startsWith('-') && [1, 3].includes(args.length);
  if (!dryRun && !isUsage) {
    system.print('error', usage);
    return 2;
  }
  const root = withoutTrailingSlashes(environment['LOCKERD_ROOT'] ?? '');
  // What a dry run or somebody's test tree shows does not belong into this host's log.
  const log = new KernelLog(program, !dryRun && root === '');
  try {
    const watched = dryRun ? new Files() : watchedFiles(environment);
    const files =
      watched ??
      runSafely(args, mountinfo, (text) => {
        log.write(4, text);
      });
    if (typeof files === 'number') return files;
    if (dryRun) return printDryRun(log, generate(root, files));
    const writer = new OutputWriter(first);
    const said = generateInto(root, files, {
      ready: () => {
        if (watched !== undefined) noteDone();
      },
      write: (output) => {
        writer.write(output);
      },
    });
    return tell(log, said, writer.errors);
  } catch (error) {
    // A defect of ours: say so in one line, systemd goes on with the other generators.
    log.write(3, `internal error: ${error instanceof Error ? error.message : errnoText(error)}`);
    return 1;
  } finally {
    log.close();
  }
}

/** @returns the exit status */
function tell(
  log: KernelLog,
  { errors, warnings }: Pick<Generated, 'errors' | 'warnings'>,
  writeErrors: readonly WriteError[],
): number {
  for (const warning of warnings) log.write(4, warning);
  for (const error of errors) log.write(3, error);
  const [first] = writeErrors;
  if (first !== undefined) {
    // A full disk fails for every file alike: one line says enough.
    const others = writeErrors.length - 1;
    log.write(3, others === 0 ? first.message : `${first.message} (and ${others} more files)`);
  }
  return errors.length > 0 || writeErrors.length > 0 ? 1 : 0;
}

function printDryRun(log: KernelLog, generated: Generated): number {
  const status = tell(log, generated, []);
  for (const { path, text, target } of [...generated.outputs].sort((a, b) =>
    compareText(a.path, b.path),
  )) {
    system.print(
      'output',
      target === undefined ? `# ${path}\n${text ?? ''}\n` : `# ${path} -> ${target}\n\n`,
    );
  }
  return status;
}

const usage = `Usage: lockerd-generator NORMAL [EARLY LATE]
       lockerd-generator --dry-run

Writes unit configuration for the LXC containers of this host. systemd runs it at boot and at
each "systemctl daemon-reload"; see systemd.generator(7) and lockerd-generator(8).

  NORMAL EARLY LATE  directories to write into; only the first is used
  --dry-run          print what would be written, write nothing
  --help             show this help
  --version          show the version

Environment:
  LOCKERD_ROOT=DIR   read the host's files below DIR

Exit status: 0 all is well, 1 something is wrong with a container or a file (the others are
written all the same), 2 wrong usage.
`;

const program = 'lockerd-generator';
