import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A dbus-daemon of this test's own, that lets everybody do everything. */
export interface PrivateBus {
  readonly address: string;
  /** A directory of this test, gone at the end. */
  readonly directory: string;
  close(): Promise<void>;
}

const config = (socket: string): string => `<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=${socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
`;

async function firstLine(daemon: ChildProcess): Promise<string> {
  let text = '';
  for await (const chunk of daemon.stdout ?? []) {
    text += String(chunk);
    if (text.includes('\n')) break;
  }
  const [line = ''] = text.split('\n');
  if (line === '') throw new Error('dbus-daemon gave no address');
  return line;
}

export async function startPrivateBus(): Promise<PrivateBus> {
  const directory = mkdtempSync(join(tmpdir(), 'lockerd-bus-'));
  const file = join(directory, 'bus.conf');
  writeFileSync(file, config(join(directory, 'bus')));
  const args = [`--config-file=${file}`, '--nofork', '--nopidfile', '--print-address=1'];
  const daemon = spawn('dbus-daemon', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(daemon, 'exit');
  const address = await firstLine(daemon);
  return {
    address,
    directory,
    close: async () => {
      daemon.kill();
      await exited;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
