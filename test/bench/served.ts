/**
 * lockerd's service over fakes of what is outside, for measurements: `served.js BUS-ADDRESS CONTAINERS`.
 * A line on its input asks for figures, or for an event; a line of JSON on its output answers.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { LockerdOnFakes } from '../bus/lockerd-on-fakes.ts';

const [address = '', count = '0'] = process.argv.slice(2);
const containers = Number(count);
const million = 1_000_000;
const service = new LockerdOnFakes(address, {
  'calls-per-second': million,
  'calls-burst': million,
});
service.isRecording = false;
const delay = monitorEventLoopDelay({ resolution: 1 });

/** Half of them run; each has a locker of its own. */
async function define(): Promise<void> {
  const names = Array.from({ length: containers }, (_, index) => `c${index}`);
  await service.defineLockers(Object.fromEntries(names.map((name) => [`${name}_vol`, 'disk'])));
  const setup = (name: string, index: number) =>
    [
      name,
      {
        state: index % 2 === 0 ? 'running' : 'stopped',
        leader: 1000 + index,
        memoryMax: 2n ** 30n,
        lockers: [{ name: `${name}_vol`, readOnly: false }],
      },
    ] as const;
  await service.define(Object.fromEntries(names.map(setup)));
}

/** CPU microseconds of one change of one container, the mean of some. */
function costOfEvent(): number {
  const rounds = 200;
  const before = process.cpuUsage();
  for (let round = 0; round < rounds; round++)
    service.outside.unit('c0', { memoryMax: 2n ** 30n + BigInt(round) });
  const { user, system } = process.cpuUsage(before);
  return (user + system) / rounds;
}

/** The same of a mount and its unmount. */
function costOfMount(): number {
  const rounds = 50;
  const before = process.cpuUsage();
  for (let round = 0; round < rounds; round++) {
    service.outside.mount('/var/locker-mappings/c0/sandbox');
    service.outside.umount('/var/locker-mappings/c0/sandbox');
  }
  const { user, system } = process.cpuUsage(before);
  return (user + system) / rounds / 2;
}

const answers: Readonly<Record<string, () => unknown>> = {
  /** Since the last question. */
  blocked: () => {
    const milliseconds = delay.max / 1e6;
    delay.reset();
    return milliseconds;
  },
  event: costOfEvent,
  mount: costOfMount,
  resident: () => process.memoryUsage.rss(),
  cpu: () => {
    const { user, system } = process.cpuUsage();
    return user + system;
  },
};

await service.start();
await define();
delay.enable();
for await (const line of createInterface(process.stdin))
  console.log(JSON.stringify(answers[line]?.() ?? null));
process.exit(0);
