import { spawnSync } from 'node:child_process';

/** Set for a run that is watched, which watches nobody itself. */
export const watchedVariable = 'LOCKERD_GENERATOR_WATCHED';

/** systemd kills its generators after 90 seconds, and then no container has a unit. */
export const watchedMaxSec = 15;

/**
 * Waits for a program without being caught by what it waits for: one that sleeps in the kernel
 * cannot even be killed, and whoever started it would wait for its end.
 */
const watcher = `
use strict;
my ($seconds, @command) = @ARGV;
my $child = fork // exit 126;
exec { $command[0] } @command or exit 126 unless $child;
my $end = time + $seconds;
while (time <= $end) {
    if (waitpid($child, 1) == $child) { exit($? & 127 ? 125 : $? >> 8) }
    select undef, undef, undef, 0.02;
}
kill 'KILL', $child;
exit 124;
`;

/** Runs this program once more, watched; its exit status, undefined when it did not end by itself. */
export function runWatched(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): number | undefined {
  const command = [process.execPath, process.argv[1] ?? '', ...args];
  const { status } = spawnSync(
    '/usr/bin/perl',
    ['-e', watcher, '--', String(watchedMaxSec), ...command],
    { stdio: ['ignore', 'inherit', 'inherit'], env: { ...environment, [watchedVariable]: '1' } },
  );
  return status === null || status > 123 ? undefined : status;
}
