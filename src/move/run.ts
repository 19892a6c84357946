/** Programs that a move runs on its own host. */
import { execa } from 'execa';
import { LockerdError } from '../model/errors.ts';
import { containerUnit } from '../model/unit-name.ts';

/** The last lines of what a program complained of. */
function lastWords(text: string): string {
  return text.trim().split('\n').slice(-3).join('; ');
}

/** Runs a program to its end. Throws Failed with its last words. @returns its output */
export async function run(program: string, args: readonly string[]): Promise<string> {
  const { stdout, stderr, failed, exitCode, shortMessage } = await execa(program, args, {
    reject: false,
    stdin: 'ignore',
    env: { LC_ALL: 'C' },
    maxBuffer: 16 * 1024 * 1024,
  });
  if (!failed) return stdout;
  const why = lastWords(stderr) || lastWords(stdout) || shortMessage;
  throw new LockerdError('Failed', `${program} failed (${exitCode ?? 'killed'}): ${why}`);
}

/** `active`, `inactive`, `activating`, `failed`, ... */
export async function unitState(container: string): Promise<string> {
  const args = ['show', '--property=ActiveState', '--value', '--', containerUnit(container)];
  return (await run('systemctl', args)).trim();
}

/** Starts the unit and waits until it is ready. Throws Failed with what its journal has. */
export async function startUnit(container: string): Promise<void> {
  const unit = containerUnit(container);
  try {
    await run('systemctl', ['start', '--', unit]);
  } catch (error) {
    const journal = await run('journalctl', ['-qb', '-ocat', '-n5', `--unit=${unit}`]).catch(
      () => '',
    );
    const why = [error instanceof Error ? error.message : String(error), journal.trim()];
    throw new LockerdError('Failed', why.filter(Boolean).join('\n'), { cause: error });
  }
}

/** Shuts the guest down. Throws Failed if something of it is left. */
export async function stopUnit(container: string): Promise<void> {
  await run('systemctl', ['stop', '--', containerUnit(container)]);
  const state = await unitState(container);
  if (state === 'inactive' || state === 'failed') return;
  throw new LockerdError('Failed', `${containerUnit(container)} did not stop: it is ${state}`);
}

/** Ends a guest whose writes nobody needs, at once. */
export async function killUnit(container: string): Promise<void> {
  const unit = containerUnit(container);
  // It fails where there is nothing to kill.
  await run('systemctl', ['kill', '--signal=KILL', '--', unit]).catch(() => undefined);
  await stopUnit(container);
  // Nobody is to look for what went wrong.
  await run('systemctl', ['reset-failed', '--', unit]).catch(() => undefined);
}

export async function reload(): Promise<void> {
  await run('systemctl', ['daemon-reload']);
}

/** Names the last start of the unit; another text after another start. */
export async function startOf(container: string): Promise<string> {
  const properties = '--property=InvocationID,ActiveEnterTimestampMonotonic';
  return run('systemctl', ['show', properties, '--', containerUnit(container)]);
}
