/** "move": a container to another host, by src/move. */

import { createInterface } from 'node:readline';
import { formatBytes } from '../model/memory-limit.ts';
import { deleteSource } from '../move/delete-source.ts';
import { move, type MoveResult } from '../move/mover.ts';
import { abortMove } from '../move/undo.ts';
import type { Invocation } from './arguments.ts';
import { CommandError, exitStatus, UsageError } from './exit.ts';
import type { Terminal } from './terminal.ts';
import { escapeText } from './text.ts';
import { formatMs, reporter, withFiles } from './with-files.ts';

function resultText({ container, target, bytes, files, moved, downtime }: MoveResult): string {
  const size = `${formatBytes(BigInt(bytes))}, ${files} files`;
  if (!moved) return `${container}: could be moved to ${target}: ${size}`;
  if (downtime === undefined) return `${container}: moved to ${target}: ${size}`;
  const { stopMs, copyMs, startMs } = downtime;
  const parts = `stop ${formatMs(stopMs)}, copy ${formatMs(copyMs)}, start ${formatMs(startMs)}`;
  const time = `it did not run for ${formatMs(stopMs + copyMs + startMs)} (${parts})`;
  return `${container}: moved to ${target}: ${size}; ${time}`;
}

/** Lets somebody who sits at the terminal say the name, two times. */
async function confirmDeletion(name: string, terminal: Terminal): Promise<void> {
  if (!terminal.traits.inputIsTerminal) {
    throw new UsageError('--delete-source asks, so it needs a terminal');
  }
  const lines = createInterface({ input: process.stdin, terminal: false });
  const answers = lines[Symbol.asyncIterator]();
  try {
    for (const what of ['Its files here are deleted after the move.', 'For good.']) {
      terminal.complain(`${what} Type the name of the container:`);
      const answer = await answers.next();
      if (answer.value !== name) throw new CommandError('nothing was done', exitStatus.failure);
    }
  } finally {
    lines.close();
  }
}

async function abort(name: string, { quiet, json }: Invocation, terminal: Terminal): Promise<void> {
  const { outcome, copy, warnings } = await abortMove(name);
  for (const warning of warnings) terminal.complain(`lockerctl: warning: ${warning}`);
  const texts = {
    undone: 'the move is undone',
    kept: 'the move had succeeded, and is ended here too',
    nothing: 'nothing was under way; it may start here',
  };
  if (json) terminal.printJson({ container: name, outcome, copy: copy ?? null }, json);
  else if (!quiet) {
    const there = copy === undefined ? '' : `; the other host keeps what was copied in ${copy}`;
    terminal.print(`${name}: ${texts[outcome]}${there}`);
  }
}

async function run(name: string, invocation: Invocation, terminal: Terminal): Promise<void> {
  const [, target] = invocation.operands;
  if (invocation.abort) {
    if (target !== undefined) throw new UsageError('"move --abort" takes one container');
    await abort(name, invocation, terminal);
    return;
  }
  if (target === undefined) throw new UsageError('"move" needs a container and a host');
  const isDeleted = invocation.deleteSource && !invocation.dryRun;
  if (isDeleted) await confirmDeletion(name, terminal);
  const { dryRun: isDry, withLockers, store = '' } = invocation;
  const how = { isDry, withLockers, store };
  const result = await move(name, target, how, reporter(name, terminal, invocation));
  terminal.status('');
  if (isDeleted) await deleteSource(name);
  const { json, quiet } = invocation;
  if (json) {
    const { moved, bytes, files, warnings, downtime } = result;
    const usec = (ms: number): number => Math.round(ms * 1000);
    const times =
      downtime === undefined
        ? { downtime_usec: null }
        : {
            downtime_usec: usec(downtime.stopMs + downtime.copyMs + downtime.startMs),
            stop_usec: usec(downtime.stopMs),
            copy_usec: usec(downtime.copyMs),
            start_usec: usec(downtime.startMs),
          };
    terminal.printJson({ container: name, target, moved, bytes, files, warnings, ...times }, json);
  } else if (!quiet) terminal.print(escapeText(resultText(result)));
}

/** Moves a container of this host. */
export function moveContainer(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [name = ''] = invocation.operands;
  return withFiles(name, invocation, terminal, () => run(name, invocation, terminal));
}
