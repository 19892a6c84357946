// lockerd's service over fakes, which ends when it is idle: started by the bus, at DBUS_SYSTEM_BUS_ADDRESS.
// It writes a line to the file LOCKERD_TEST_RUNS for each of its runs.

import { appendFileSync, existsSync, rmSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { LockerdOnFakes } from './lockerd-on-fakes.ts';

const { DBUS_SYSTEM_BUS_ADDRESS: address = '', LOCKERD_TEST_RUNS: runs = '' } = process.env;
const million = 1_000_000;
const service = new LockerdOnFakes(address, {
  'calls-per-second': million,
  'calls-burst': million,
  'finished-job-seconds': 0,
});
service.isRecording = false;
// Only where a test wants it, and only once.
const slow = `${runs}.slow`;
if (existsSync(slow)) {
  rmSync(slow);
  await setTimeout(12_000);
}
await service.start({ web: { state: 'stopped' } });
appendFileSync(runs, `${process.pid}\n`);
await service.stopWhenIdle(0);
process.exit(0);
