/** What commands have in common that handle all files of a container, as root and without the service. */
import { LockerdError, type ErrorCode } from '../model/errors.ts';
import { formatBytes } from '../model/memory-limit.ts';
import { shellWord } from '../model/shell-quote.ts';
import type { MoveReport } from '../move/mover.ts';
import type { Invocation } from './arguments.ts';
import { complain } from './complain.ts';
import { CommandError, exitStatus, UsageError } from './exit.ts';
import type { Terminal } from './terminal.ts';
import { escapeText } from './text.ts';
import { formatSpan } from './time.ts';

const statuses: Readonly<Partial<Record<ErrorCode, number>>> = {
  NoSuchContainer: exitStatus.noSuchObject,
  InvalidArgs: exitStatus.usage,
};

/** `3.2s`, `2min 5s` */
export function formatMs(ms: number): string {
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)}s` : formatSpan(BigInt(Math.round(ms)) * 1000n);
}

/** `copying: 1.2G of 3.4G, 55.0M/s, 40s left` */
function progressText(
  step: string,
  { bytes, total, rate }: Parameters<MoveReport['progress']>[1],
): string {
  const size = (value: number): string => formatBytes(BigInt(Math.max(0, Math.round(value))));
  const seconds = rate > 0 ? Math.max(0, total - bytes) / rate : undefined;
  const left =
    seconds === undefined ? '' : `, ${formatSpan(BigInt(Math.ceil(seconds)) * 1_000_000n)} left`;
  return `${step}: ${size(bytes)} of ${size(total)}, ${size(rate)}/s${left}`;
}

/** Shows how far a command has come with the files of a container. */
export function reporter(
  container: string,
  terminal: Terminal,
  { progress, quiet }: Invocation,
): MoveReport {
  const name = escapeText(container);
  const show = (text: string): void => {
    if (progress) terminal.status(text);
  };
  return {
    step: (text) => {
      show(`${name}: ${text}`);
    },
    warn: (text) => {
      if (!quiet) terminal.complain(`lockerctl: warning: ${escapeText(text)}`);
    },
    progress: (step, figures) => {
      show(`${name}: ${progressText(step, figures)}`);
    },
  };
}

/** Calls `use` as root, and says what it throws. @param subject a container, or a file */
export async function withFiles(
  subject: string,
  { command, host }: Invocation,
  terminal: Terminal,
  use: () => Promise<void>,
): Promise<number> {
  if (host !== undefined) {
    throw new UsageError(`"${command}" is called on the host itself`);
  }
  if (process.geteuid?.() !== 0) {
    const hint = `Try "sudo lockerctl ${command} ${shellWord(subject)} ...".`;
    throw new CommandError(`only root can use "${command}"`, exitStatus.notPermitted, hint);
  }
  try {
    await use();
    return exitStatus.ok;
  } catch (error) {
    if (!(error instanceof LockerdError)) throw error;
    terminal.status('');
    const [first = '', ...others] = error.message.split('\n');
    complain(terminal, subject, { message: first });
    for (const line of others) terminal.complain(line);
    return statuses[error.code] ?? exitStatus.failure;
  }
}
