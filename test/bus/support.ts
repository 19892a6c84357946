import type { ChildProcess } from 'node:child_process';
import path from 'node:path';
import { expect } from 'vitest';
import type { ServiceConnection } from '../../src/bus/connection.ts';
import { DBusError, type VariantMap } from '../../src/bus/values.ts';
import { busDaemon, type PrivateBus } from './bus.ts';

export const service = {
  destination: 'org.lockerd1.Test',
  path: '/org/lockerd1',
  interface: 'org.lockerd1.Test',
} as const;

/** The service of service.ts in a process of its own. */
export interface TestService {
  readonly process: ChildProcess;
  /** What it wrote to its standard error. */
  readonly log: () => string;
  /** Fails when the process is not there any more, or does not answer its next caller. */
  readonly expectAlive: () => Promise<void>;
}

export async function startTestService(bus: PrivateBus): Promise<TestService> {
  const loader = path.resolve(import.meta.dirname, '../typescript.mjs');
  const program = path.resolve(import.meta.dirname, 'service.ts');
  const child = bus.spawn([process.execPath, '--import', loader, program, bus.address]);
  let log = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (log += text));
  child.stdout?.resume();
  await bus.waitForName(service.destination);
  const expectAlive = async (): Promise<void> => {
    const caller = await bus.connect();
    try {
      const [bumps] = await caller.call({ ...service, member: 'Counts' });
      expect(bumps, log).toBeTypeOf('number');
      expect(child.exitCode, log).toBeNull();
      expect(child.signalCode, log).toBeNull();
    } finally {
      caller.close();
    }
  };
  return { process: child, log: () => log, expectAlive };
}

/** How often the service's Bump ran, and how many of its Sleeps were aborted. */
export async function counts(
  connection: ServiceConnection,
): Promise<{ bumps: number; aborted: number }> {
  const [bumps, aborted] = await connection.call({ ...service, member: 'Counts' });
  return { bumps: bumps as number, aborted: aborted as number };
}

/** The error that a call is answered with. */
export async function errorOf(reply: Promise<unknown>): Promise<DBusError> {
  const outcome = await reply.then(
    (value) => value,
    (error: unknown) => error,
  );
  if (outcome instanceof DBusError) return outcome;
  throw new Error(`no D-Bus error but ${String(outcome)}`, { cause: outcome });
}

/** What the bus keeps for a connection that does not read. */
export async function unreadBytes(connection: ServiceConnection, name: string): Promise<number> {
  const ask = async (member: string, body: readonly string[]): Promise<VariantMap> => {
    const [figures] = await connection.call({
      destination: 'org.freedesktop.DBus',
      path: '/org/freedesktop/DBus',
      interface: 'org.freedesktop.DBus.Debug.Stats',
      member,
      signature: body.map(() => 's').join(''),
      body,
    });
    return figures as VariantMap;
  };
  if (busDaemon === 'dbus-daemon') {
    const { OutgoingBytes: bytes } = await ask('GetConnectionStats', [name]);
    return bytes?.value as number;
  }
  const { 'org.bus1.DBus.Debug.Stats.PeerAccounting': all } = await ask('GetStats', []);
  const peers = all?.value as [string, unknown, Record<string, number>][];
  return peers.find(([own]) => own === name)?.[2]['OutgoingBytes'] ?? 0;
}

/** What a program has printed, and its exit status. */
export interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Settles when the program has ended. */
export function collect(child: ChildProcess): Promise<Run> {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject).once('close', (status) => {
      resolve({ status, stdout, stderr });
    });
  });
}
