/**
 * src/lockers is the program lockerd-lockers, which tells the hooks for lxc-start(1) which lockers a
 * container has. It uses the same readers and settings as the generator. It mounts nothing itself:
 * hooks/locker-pre-start reads the lines that this program prints, and mounts the lockers.
 */
import { withoutTrailingSlashes } from '../model/path.ts';
import type { Problem } from '../model/problem.ts';
import { formatProblem } from '../model/problem.ts';
import { fitsUnitFile, printable } from '../model/unit-syntax.ts';
import { locateLockers } from '../host/locate.ts';
import { HostReader } from '../host/read.ts';
import { system } from '../host/system.ts';
import { parseContainerSettings, parseSettings } from '../host/settings.ts';
import type { StartDecision } from './decide-start.ts';
import { decideStart } from './decide-start.ts';

const usage = `Usage: lockerd-lockers --name=NAME

Prints which lockers a container has that is started by lxc-start(1), for locker-pre-start. Each
line begins with a word that says what it is:

  problem TEXT                    why the container must not start, before anything is changed
  say TEXT                        what the administrator should hear
  missing TEXT                    why it must not start, after what is left of it was taken away
  wormhole PATH                   where the container sees its lockers; without this line it has
                                  no wormhole
  locker MODE KIND NEED PATH      a locker: "rw" or "ro"; "configured", "own" or "shared";
                                  "strict" or "soft", with which the container starts without it

Environment:
  LOCKERD_ROOT=DIR   read the host's files below DIR

Exit status: 0 the lines are complete, 2 wrong usage.
`;

/** Whether a name fits LXC and one path component; a name with a leading dot is no container. */
function isContainerName(name: string): boolean {
  const fits = name !== '' && name.length <= 255 && fitsUnitFile(name);
  return fits && !/^\.|\/|\ufffd/.test(name);
}

/** Reads the host's files about one container and decides. */
function decide(name: string, root: string): StartDecision {
  const host = new HostReader(root);
  const { host: hostSettings, defaults, problems } = parseSettings(host.hostSettings());
  const own = host.containerSettings(name);
  const container = parseContainerSettings(own.file, defaults);
  const { lockers, settings } = locateLockers(host, hostSettings);
  const mountPoints = host.mountPoints();
  const decision = decideStart({
    name,
    host: settings,
    settings: container.settings,
    problems: [...(own.problem === undefined ? [] : [own.problem]), ...container.problems],
    lockers,
    isMounted: (path) => mountPoints.has(host.realPath(path)),
    isThere: (path) => host.isThere(path),
  });
  const heard = [...host.problems, ...problems].map(formatProblem);
  return { ...decision, says: [...heard, ...decision.says] };
}

/** Formats the decision, one line per statement. No text from outside can start a line of its own. */
export function startLines(name: string, root: string): string[] {
  if (!isContainerName(name)) return ['problem a container of this name cannot have lockers'];
  const { problems, says, missing, insidePath, lockers } = decide(name, root);
  const texts = (word: string, all: readonly string[]): string[] =>
    all.map((text) => `${word} ${printable(text)}`);
  return [
    ...texts(
      'problem',
      problems.map((problem: Problem) => formatProblem(problem)),
    ),
    ...texts('say', says),
    ...texts('missing', missing),
    ...(insidePath === undefined ? [] : [`wormhole ${insidePath}`]),
    ...lockers.map(
      ({ mode, kind, strict, path }) =>
        `locker ${mode} ${kind} ${strict ? 'strict' : 'soft'} ${path}`,
    ),
  ];
}

/** The whole program: takes the arguments and returns the exit status. */
export function main(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): number {
  const [first = ''] = args;
  if (first === '--help' || first === '-h') {
    system.print('output', usage);
    return 0;
  }
  if (first === '--version') {
    system.print('output', `lockerd-lockers ${LOCKERD_VERSION}\n`);
    return 0;
  }
  if (args.length !== 1 || !first.startsWith('--name=')) {
    system.print('error', usage);
    return 2;
  }
  const root = withoutTrailingSlashes(environment['LOCKERD_ROOT'] ?? '');
  const lines = startLines(first.slice('--name='.length), root);
  system.print('output', lines.map((line) => `${line}\n`).join(''));
  return 0;
}
