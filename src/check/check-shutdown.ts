/** Whether the guests' time to shut down fits into that of the host. */
import { parseTimespan } from '../model/timespan.ts';
import type { Place } from './findings.ts';
import type { CheckedContainer, Subject } from './subject.ts';
import { dropInsOf, unitAssignments } from '../host/unit-text.ts';

/** What units/system gives a guest without a setting. */
const defaultStopUsec = 120_000_000n;

/** The targets that a shutdown of the host ends in. */
const targets = ['poweroff.target', 'reboot.target', 'halt.target'];

interface HostLimit {
  readonly usec: bigint;
  readonly place: Place;
}

export function checkShutdown(subject: Subject): void {
  const { containers, findings } = subject;
  const limit = hostLimit(subject);
  if (limit === undefined) return;
  const stops = containers.filter(({ unit }) => unit.problems.length === 0);
  let isTooLong = false;
  for (const container of stops) {
    const usec = stopUsec(container);
    if (usec !== null && usec <= limit.usec) continue;
    isTooLong = true;
    const { name, facts } = container;
    const what =
      `stop-timeout is ${facts.settings.stopTimeout ?? '120s'}, ` +
      `and ${limit.place.file}:${limit.place.line} gives the whole host ${seconds(limit.usec)}`;
    const file = `/etc/lockerd/containers/${name}.conf`;
    findings.add('stop-timeout', name, { file, line: 0 }, what, 'write a shorter stop-timeout');
  }
  const sum = sumOfRanks(stops);
  if (isTooLong || sum === undefined || sum <= limit.usec) return;
  findings.add(
    'stop-timeout',
    undefined,
    limit.place,
    `containers that stop one after the other may take ${seconds(sum)} together, ` +
      `and the whole host has ${seconds(limit.usec)}`,
    'give containers that do not need each other the same lxc.start.order, or shorten stop-timeout',
  );
}

function seconds(usec: bigint): string {
  return `${usec / 1_000_000n} s`;
}

/** Null for a guest that may take for ever. */
function stopUsec({ facts }: CheckedContainer): bigint | null {
  const { stopTimeout } = facts.settings;
  return stopTimeout === undefined ? defaultStopUsec : (parseTimespan(stopTimeout) ?? null);
}

/** Containers of one rank stop at the same time, ranks one after the other. */
function sumOfRanks(containers: readonly CheckedContainer[]): bigint | undefined {
  const longest = new Map<number, bigint>();
  for (const container of containers) {
    const usec = stopUsec(container);
    if (usec === null) return undefined;
    const rank = container.unit.startsAfter.length;
    if (usec > (longest.get(rank) ?? 0n)) longest.set(rank, usec);
  }
  return [...longest.values()].reduce((sum, usec) => sum + usec, 0n);
}

/** The shortest JobTimeoutSec= of the targets; undefined where none is known. */
function hostLimit({ host }: Subject): HostLimit | undefined {
  const limits = targets.flatMap((target): HostLimit[] => {
    const unitFile = ['/etc/systemd/system', '/run/systemd/system', '/usr/lib/systemd/system']
      .map((directory) => `${directory}/${target}`)
      .find((path) => host.isThere(path));
    const paths = [
      ...(unitFile === undefined ? [] : [unitFile]),
      ...dropInsOf(host, [`${target}.d`]).map(({ path }) => path),
    ];
    const last = paths
      .flatMap((file) =>
        unitAssignments(host.readText(file).text ?? '').map((each) => ({ ...each, file })),
      )
      .filter(({ key }) => key === 'JobTimeoutSec')
      .at(-1);
    const usec = last === undefined ? undefined : parseTimespan(last.value);
    // systemd takes 0 for no limit.
    return last === undefined || typeof usec !== 'bigint' || usec === 0n
      ? []
      : [{ usec, place: { file: last.file, line: last.line } }];
  });
  return limits.sort((a, b) => (a.usec < b.usec ? -1 : 1))[0];
}
