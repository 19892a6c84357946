/**
 * The program lockerd-move: what a move between hosts does beside lockerctl. ssh starts it at the target, and
 * systemd-run at either end.
 */
import { receive } from './receiver.ts';
import { expire, recover, watchMove } from './undo.ts';

const usage = `Usage: lockerd-move receive | watch NAME | expire ID | recover

The other side of "lockerctl move"; see lockerctl-move(8). Only root can use it.

  receive      be the target of a move, by requests on standard input
  watch NAME   undo the move of a container should its mover be killed
  expire ID    stop a container that was moved here should its source not be heard any more
  recover      undo what a crash of the host has left of moves
  --help       show this help
  --version    show the version

Exit status: 0 it was done, 1 it failed, 2 wrong usage.
`;

/** What can be asked for, by the first argument and how many follow. */
async function runVerb(verb: string, operands: readonly string[]): Promise<boolean> {
  const [operand] = operands;
  if (operand === undefined) {
    if (verb === 'receive') await receive(process.stdin, process.stdout);
    else if (verb === 'recover') await recover();
    else return false;
    return true;
  }
  if (operands.length > 1) return false;
  if (verb === 'watch') await watchMove(operand);
  else if (verb === 'expire' && /^[0-9a-f]{16}$/.test(operand)) await expire(operand);
  else return false;
  return true;
}

/** The whole program: arguments in, exit status out. */
export async function main(args: readonly string[]): Promise<number> {
  const [verb = '', ...operands] = args;
  if (verb === '--help') process.stdout.write(usage);
  else if (verb === '--version') process.stdout.write(`lockerd-move ${LOCKERD_VERSION}\n`);
  else {
    const rest = operands[0] === '--' ? operands.slice(1) : operands;
    if (!(await runVerb(verb, rest))) {
      process.stderr.write(usage);
      return 2;
    }
  }
  return 0;
}
