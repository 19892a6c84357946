/** Stops a move in its middle, so that something can happen there. */

import type { RunResult } from './execute.ts';
import type { TestHost } from './test-host.ts';

/**
 * Stops one call of a program, and goes on when it is told: at the call with a number, before or after its work.
 * The place is one that rsync sees too, to which lockerctl shows little else.
 */
const script = `#!/bin/sh
cd /usr/local/share/brake || exit 1
case " $* " in *" $(cat which) "*) ;; *) exec "/usr/bin/$(basename "$0")" "$@" ;; esac
number=$(($(cat number) - 1)) && echo "$number" >number
[ "$number" = 0 ] || exec "/usr/bin/$(basename "$0")" "$@"
if [ "$(cat when)" = after ]; then "/usr/bin/$(basename "$0")" "$@" || exit; fi
ls -A / /etc /root /var >seen 2>/dev/null
: >reached
while [ ! -e go ]; do sleep 0.1; done
[ "$(cat when)" = after ] || exec "/usr/bin/$(basename "$0")" "$@"
`;

const place = '/usr/local/share/brake';

export interface Brake {
  readonly host: TestHost;
  readonly program: 'rsync' | 'systemctl';
  /** An argument of the call. */
  readonly which: string;
  readonly number: number;
  readonly when: 'before' | 'after';
}

/** Does something in the middle of a move, lets that go on, and gives its end. @param move begins it */
export async function moveWith(
  { host, program, which, number, when }: Brake,
  move: () => Promise<RunResult>,
  action: () => Promise<unknown>,
): Promise<RunResult> {
  await host.shell(`mkdir -p ${place} && cd ${place} && rm -f go reached
    echo ${which} >which; echo ${number} >number; echo ${when} >when`);
  await host.writeFile(`/usr/local/bin/${program}`, script, 0o755);
  let end: RunResult | undefined;
  const moving = move().then((result) => (end = result));
  try {
    await host.waitFor(
      'the move is where it is to be ended',
      async () => {
        if (await host.exists(`${place}/reached`)) return true;
        if (end === undefined) return false;
        throw new Error(`it has ended before: ${end.stdout}${end.stderr}`);
      },
      150_000,
    );
    await action();
  } finally {
    if (host.isOn) await host.shell(`touch ${place}/go && rm -f /usr/local/bin/${program}`);
  }
  return moving;
}
