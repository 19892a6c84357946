/**
 * src/generator writes the units of LXC containers for systemd.generator(7). A run is a pipeline:
 * read everything below a root directory, decide from these facts alone, plan the units as data,
 * render them by the templates in units/generated, and write. What the disk says and how its files
 * are read belongs to src/host.
 */
import { hostFactsFile } from '../model/facts.ts';
import { defaultLxcpath, withoutTrailingSlashes } from '../model/path.ts';
import { errnoText } from '../model/errno.ts';
import { formatProblem } from '../model/problem.ts';
import { fitsUnitFile } from '../model/unit-syntax.ts';
import { Files } from '../host/files.ts';
import { system } from '../host/system.ts';
import { compareText } from './container.ts';
import { modelContainers } from './decide.ts';
import { KernelLog } from './kernel-log.ts';
import { errorMessages, warningMessages } from './messages.ts';
import { planUnits } from './plan.ts';
import { readFacts } from './read-facts.ts';
import { withoutDefects } from './refused.ts';
import { renderOutput } from './render.ts';
import { watchPaths } from './watch-paths.ts';
import type { Environment } from './watched-run.ts';
import { noteDone, runSafely, watchedFiles } from './watched-run.ts';
import type { Output } from './write.ts';
import { writeOutputs } from './write.ts';

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
  const facts = readFacts(root, files);
  const { host, settings } = facts;
  const { model, outputs } = withoutDefects(facts.containers, settings.defaults, (containers) => {
    const model = modelContainers(containers, host);
    const planned = planUnits(model.containers, {
      host: settings.host,
      bridgeTimeout: settings.host.bridgeTimeout,
      lockers: host.lockers,
      initScripts: facts.initScripts,
      filtersLog: facts.filtersLog,
      lxcpath: facts.lxcpath ?? defaultLxcpath,
      ...watchPaths(facts, containers),
    });
    return { model, outputs: planned.map(renderOutput) };
  });
  return {
    outputs: [...outputs, ...automountOutputs(files.idleAutomounts)],
    errors: errorMessages(facts, model),
    warnings: warningMessages(facts, model),
    refused: new Map(
      model.containers
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
    const generated = generate(root, files);
    if (watched !== undefined && !dryRun) noteDone();
    return run(log, generated, dryRun ? undefined : first);
  } catch (error) {
    // A defect of ours: say so in one line, systemd goes on with the other generators.
    log.write(3, `internal error: ${error instanceof Error ? error.message : errnoText(error)}`);
    return 1;
  } finally {
    log.close();
  }
}

function run(log: KernelLog, { outputs, errors, warnings }: Generated, directory?: string): number {
  for (const warning of warnings) log.write(4, warning);
  for (const error of errors) log.write(3, error);
  if (directory === undefined) {
    printDryRun(outputs);
    return errors.length > 0 ? 1 : 0;
  }
  // lockerd treats the set as complete once this file exists, so it is written last.
  const isLast = ({ path }: { path: string }): boolean => path === hostFactsFile;
  const ordered = [...outputs.filter((output) => !isLast(output)), ...outputs.filter(isLast)];
  const writeErrors = writeOutputs(directory, ordered);
  const [first] = writeErrors;
  if (first !== undefined) {
    // A full disk fails for every file alike: one line says enough.
    const others = writeErrors.length - 1;
    log.write(3, others === 0 ? first.message : `${first.message} (and ${others} more files)`);
  }
  return errors.length > 0 || writeErrors.length > 0 ? 1 : 0;
}

function printDryRun(outputs: Generated['outputs']): void {
  for (const { path, text, target } of [...outputs].sort((a, b) => compareText(a.path, b.path))) {
    system.print(
      'output',
      target === undefined ? `# ${path}\n${text ?? ''}\n` : `# ${path} -> ${target}\n\n`,
    );
  }
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
