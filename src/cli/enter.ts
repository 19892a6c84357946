/** "console" and "shell": LXC's own programs, which only root can use. */

import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { shellWord } from '../model/shell-quote.ts';
import type { Invocation } from './arguments.ts';
import { CommandError, exitStatus } from './exit.ts';
import { sshArguments } from './remote.ts';

/** Program and arguments for a container of this host. */
export function localCommand(invocation: Invocation): [string, ...string[]] {
  const [container = ''] = invocation.operands;
  if (invocation.command === 'console') return ['lxc-console', '-n', container];
  // The caller's environment is none of the guest's business, but for what its screen is.
  const clean = ['--clear-env', '--keep-var=TERM'];
  const program = invocation.program.length === 0 ? [] : ['--', ...invocation.program];
  return ['lxc-attach', '-n', container, ...clean, ...program];
}

/** The command for a shell, with the options that a command has which needs no service. */
function asTyped({ command, operands, program, ...options }: Invocation): string {
  // Behind "--", "shell" takes a program; its container cannot look like an option.
  const isLikeOption = command !== 'shell' && operands.some((word) => word.startsWith('-'));
  const rest = program.length === 0 ? [] : ['--', ...program];
  const words = [
    ...['lockerctl', command],
    ...(options.apply ? ['--apply'] : []),
    ...(options.yes ? ['--yes'] : []),
    ...(options.store === undefined ? [] : [`--store=${options.store}`]),
    ...(options.snapshot === undefined ? [] : [`--snapshot=${options.snapshot}`]),
    ...(options.format === 'crm' ? [] : [`--format=${options.format}`]),
    ...(options.files ? ['--files'] : []),
    ...(options.json ? [`--json=${options.json}`] : []),
    ...(options.quiet ? ['--quiet'] : []),
    ...(options.legend || options.quiet ? [] : ['--no-legend']),
    ...(isLikeOption ? ['--'] : []),
    ...operands,
    ...rest,
  ];
  return words.map(shellWord).join(' ');
}

/** The same command on another host, which decides there who may do it. */
export function remoteCommand(invocation: Invocation, host: string): [string, ...string[]] {
  return ['ssh', ...sshArguments(host, 'terminal'), asTyped(invocation)];
}

/**
 * Runs the command in place of this program, as far as Node.js can: same terminal, same status.
 * @throws {CommandError} when this user cannot
 */
export async function enter(invocation: Invocation): Promise<number> {
  const { command, host } = invocation;
  if (host === undefined && process.geteuid?.() !== 0) {
    const message = `only root can use "${command}"`;
    throw new CommandError(message, exitStatus.notPermitted, `Try "sudo ${asTyped(invocation)}".`);
  }
  const [program, ...args] =
    host === undefined ? localCommand(invocation) : remoteCommand(invocation, host);
  // Keys such as ^C are for the program in the container.
  const ignore = (): void => undefined;
  for (const name of ['SIGINT', 'SIGQUIT'] as const) process.on(name, ignore);
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'inherit' });
    const passOn = (name: NodeJS.Signals): void => {
      child.kill(name);
    };
    for (const name of ['SIGTERM', 'SIGHUP'] as const) process.on(name, passOn);
    child.once('error', (error) => {
      reject(new CommandError(`cannot run ${program}: ${error.message}`, exitStatus.failure));
    });
    child.once('exit', (status, name) => {
      resolve(status ?? (name === null ? exitStatus.failure : 128 + constants.signals[name]));
    });
  });
}
