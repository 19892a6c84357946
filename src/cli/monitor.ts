/** "monitor": the service's signals as lines, until it is ended. */

import { interfaces, unknownFigure, unknownId } from '../api/names.ts';
import { parsePath } from '../api/paths.ts';
import type { Signal } from '../bus/connection.ts';
import { type Variant, type VariantMap } from '../bus/values.ts';
import type { JsonMode, JsonValue } from './json.ts';
import { formatProgress } from './run-job.ts';
import { nameOf } from './object-info.ts';
import type { Service } from './lockerd-client.ts';
import { formatLimit } from './size.ts';
import type { Terminal } from './terminal.ts';
import { escapeText } from './text.ts';
import { formatClock } from './time.ts';

/** A value of the bus without its types. */
function plain(value: unknown): JsonValue {
  if (isVariant(value)) return plain(value.value);
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Uint8Array) return [...value];
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
  }
  return value as JsonValue;
}

function isVariant(value: unknown): value is Variant {
  return (
    typeof value === 'object' &&
    value !== null &&
    'signature' in value &&
    'value' in value &&
    !Array.isArray(value)
  );
}

/** A job's number goes with its kind; containers and lockers are known by their names. */
function label(path: string): string {
  const kind = parsePath(path)?.kind;
  if (kind === 'manager') return 'lockerd';
  return kind === 'job' || kind === 'locker' ? `${kind} ${nameOf(path)}` : nameOf(path);
}

/** `StateChangeTimestamp` as `state change timestamp`. */
function words(property: string): string {
  return property.replaceAll(/(?<=[a-z])[A-Z]/g, ' $&').toLowerCase();
}

function valueText(property: string, { signature, value }: Variant): string {
  if (signature === 't' && property.endsWith('Limit')) return formatLimit(value as bigint);
  if (['Size', 'Used', 'Available'].includes(property)) {
    return value === unknownFigure ? 'unknown' : formatLimit(value as bigint);
  }
  if (property === 'Creator' && value === unknownId) return 'nobody';
  if (property === 'Progress') return formatProgress(value as number) || 'unknown';
  if (signature === 'b') return value === true ? 'yes' : 'no';
  if (signature === 'as') return (value as string[]).join(',') || 'none';
  if (signature === 'ao') return (value as string[]).map(nameOf).join(',') || 'none';
  if (signature === 'a(sob)') {
    const uses = value as [string, string, boolean][];
    return uses.map(([name, , readOnly]) => name + (readOnly ? ':ro' : '')).join(',') || 'none';
  }
  if (signature === 'a(ob)') {
    const uses = value as [string, boolean][];
    return (
      uses.map(([path, readOnly]) => nameOf(path) + (readOnly ? ':ro' : '')).join(',') || 'none'
    );
  }
  if (typeof value === 'string') return value === '' ? 'none' : value;
  if (Array.isArray(value)) return value.filter((item) => item !== '').join(': ') || 'none';
  return String(value);
}

/** Properties that say nothing beside the others: the clock stands before the line. */
const silent = new Set(['StateChangeTimestamp']);

/** What happened, one line each; none for a signal that says nothing to people. */
export function describeSignal(signal: Signal): string[] {
  const { member, body } = signal;
  switch (member) {
    case 'JobNew': {
      const [id, , verb, container] = body as [number, string, string, string];
      return [`job ${id} new: ${verb} ${container}`.trimEnd()];
    }
    case 'JobRemoved': {
      const [id, , verb, container, result, error] = body as [number, ...string[]];
      const reason = error === undefined || error === '' ? '' : ` (${error})`;
      const what = `${verb ?? ''} ${container ?? ''}`.trimEnd();
      return [`job ${id} ${result ?? ''}: ${what}${reason}`];
    }
    case 'PermissionsChanged':
      return ['permissions may have changed'];
    case 'PropertiesChanged': {
      const [, changed] = body as [string, VariantMap];
      return Object.entries(changed)
        .filter(([property]) => !silent.has(property))
        .map(([property, value]) => {
          return `${label(signal.path)}: ${words(property)} ${valueText(property, value)}`;
        });
    }
    case 'InterfacesAdded':
    case 'InterfacesRemoved': {
      const [path] = body as [string];
      // A job has signals of its own.
      if (parsePath(path)?.kind === 'job') return [];
      return [`${label(path)} ${member === 'InterfacesAdded' ? 'came' : 'went'}`];
    }
    default:
      return [];
  }
}

/** A signal as --json has it, but for the time. */
function signalJson(signal: Signal): Readonly<Record<string, JsonValue>> {
  const { path, member, body } = signal;
  const base = { path, interface: signal.interface, signal: member };
  switch (member) {
    case 'JobNew':
    case 'JobRemoved': {
      const [id, , verb, container, result, error] = body as [number, ...string[]];
      return { ...base, job: id, verb, container, result, error };
    }
    case 'PropertiesChanged': {
      const [changedInterface, changed, invalidated] = body;
      const changes = { changed: plain(changed), invalidated: plain(invalidated) };
      return {
        ...base,
        object: label(path),
        changed_interface: plain(changedInterface),
        ...changes,
      };
    }
    default:
      return { ...base, arguments: plain(body) };
  }
}

/** Whether a signal is one of the service's own or one about its objects. */
function isOurs({ interface: name }: Signal): boolean {
  return (
    name === interfaces.manager ||
    name === 'org.freedesktop.DBus.Properties' ||
    name === 'org.freedesktop.DBus.ObjectManager'
  );
}

/** Prints signals until `signal` fires. */
export async function monitor(
  service: Service,
  terminal: Terminal,
  json: JsonMode | undefined,
  signal: AbortSignal,
): Promise<void> {
  const print = (lines: readonly string[], value: Readonly<Record<string, JsonValue>>): void => {
    const now = new Date();
    if (json) terminal.printJson({ time_usec: BigInt(now.getTime()) * 1000n, ...value }, json);
    else terminal.print(...lines.map((line) => `${formatClock(now)} ${escapeText(line)}`));
  };
  await service.onOwnerChanged((present) => {
    print([`lockerd ${present ? 'came' : 'went'}`], { signal: 'NameOwnerChanged', present });
  });
  await service.onSignal({}, (received) => {
    if (!isOurs(received)) return;
    const lines = describeSignal(received);
    if (json || lines.length > 0) print(lines, signalJson(received));
  });
  // A service that has ended for want of work would say nothing.
  await service.managerProperties();
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => {
      resolve();
    });
  });
}
