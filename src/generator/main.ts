import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { hostFactsFile } from '../model/facts.ts';
import { withoutTrailingSlashes } from '../model/path.ts';
import { printable } from '../model/unit-syntax.ts';
import { Files } from '../host/files.ts';
import { errnoText } from '../model/errno.ts';
import type { Generated } from './generate.ts';
import { generate } from './generate.ts';
import { runWatched, watchedMaxSec, watchedVariable } from './watched.ts';
import { writeOutputs } from './write.ts';

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

/** syslog(3) priorities, as the kernel's log and the journal read them in front of a line. */
type Priority = 3 | 4;

/** The kernel refuses a record of more than about 1000 bytes. */
const kmsgMaxBytes = 900;

/** Opens the kernel's log; undefined where there is none. */
function openKmsg(): number | undefined {
  try {
    // In a container a FIFO may stand here that nobody reads: never wait for it.
    return openSync('/dev/kmsg', constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    // Without /dev/kmsg standard error has to do.
    return undefined;
  }
}

/** Sends messages to /dev/kmsg, all there is so early at boot, and to standard error. */
class Log {
  private readonly kmsg: number | undefined;

  constructor(toKmsg: boolean) {
    this.kmsg = toKmsg ? openKmsg() : undefined;
  }

  write(priority: Priority, message: string): void {
    const line = printable(message);
    process.stderr.write(`${program}: ${priority === 4 ? 'warning: ' : ''}${line}\n`);
    if (this.kmsg === undefined) return;
    try {
      const record = Buffer.from(`<${priority}>${program}: ${line}`).subarray(0, kmsgMaxBytes);
      // A single write: each one is a record of its own.
      writeSync(this.kmsg, Buffer.concat([record, Buffer.from('\n')]));
    } catch {
      // The log is full or gone; standard error had the message.
    }
  }

  close(): void {
    if (this.kmsg !== undefined) closeSync(this.kmsg);
  }
}

function printDryRun(outputs: Generated['outputs']): void {
  for (const { path, text, target } of outputs) {
    process.stdout.write(
      target === undefined ? `# ${path}\n${text ?? ''}\n` : `# ${path} -> ${target}\n\n`,
    );
  }
}

/**
 * Decides without touching a file system that may stop answering while it is read. Where something
 * lies on one, a run of its own reads it, which is given up when it takes too long.
 * @param again makes that run; undefined when it did not end
 * @returns what to write, or the exit status of the run that has written it
 */
function generateSafely(
  log: Log,
  root: string,
  again: () => number | undefined,
): Generated | number {
  const risky = new Set<string>();
  const files = new Files(undefined, (paths) => {
    for (const path of paths) risky.add(path);
    return new Set();
  });
  const withoutThem = generate(root, files);
  if (risky.size === 0) return withoutThem;
  const status = again();
  if (status !== undefined) return status;
  log.write(4, `file systems that may hang were given up after ${watchedMaxSec} s`);
  return withoutThem;
}

function run(log: Log, { outputs, errors, warnings }: Generated, directory?: string): number {
  for (const warning of warnings) log.write(4, warning);
  for (const error of errors) log.write(3, error);
  if (directory === undefined) {
    printDryRun(outputs);
    return errors.length > 0 ? 1 : 0;
  }
  // Who reads what is written while systemd has it made anew sees by the last file that it is whole.
  const isLast = ({ path }: { path: string }): boolean => path === hostFactsFile;
  const ordered = [...outputs.filter((one) => !isLast(one)), ...outputs.filter(isLast)];
  const writeErrors = writeOutputs(directory, ordered);
  const [first] = writeErrors;
  if (first !== undefined) {
    // A full disk fails for every file alike: one line says enough.
    const others = writeErrors.length - 1;
    log.write(3, others === 0 ? first.message : `${first.message} (and ${others} more files)`);
  }
  return errors.length > 0 || writeErrors.length > 0 ? 1 : 0;
}

/** The whole program: arguments in, exit status out. */
export function main(args: readonly string[], environment: NodeJS.ProcessEnv): number {
  const [first] = args;
  if (first === '--help' || first === '-h') {
    process.stdout.write(usage);
    return 0;
  }
  if (first === '--version') {
    process.stdout.write(`${program} ${LOCKERD_VERSION}\n`);
    return 0;
  }
  const dryRun = first === '--dry-run' && args.length === 1;
  const isUsage =
    first !== undefined && first !== '' && !first.startsWith('-') && [1, 3].includes(args.length);
  if (!dryRun && !isUsage) {
    process.stderr.write(usage);
    return 2;
  }
  const root = withoutTrailingSlashes(environment['LOCKERD_ROOT'] ?? '');
  // What a dry run or somebody's test tree shows does not belong into this host's log.
  const log = new Log(!dryRun && root === '');
  try {
    if (dryRun || environment[watchedVariable] !== undefined) {
      return run(log, generate(root), dryRun ? undefined : first);
    }
    const generated = generateSafely(log, root, () => runWatched(args, environment));
    return typeof generated === 'number' ? generated : run(log, generated, first);
  } catch (error) {
    // A defect of ours: say so in one line, systemd goes on with the other generators.
    log.write(3, `internal error: ${error instanceof Error ? error.message : errnoText(error)}`);
    return 1;
  } finally {
    log.close();
  }
}
