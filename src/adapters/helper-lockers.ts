/** The helper's verbs about lockers as such: one connection a request. */

import { lockerHealths } from '../model/locker-words.ts';
import type {
  ForgottenLocker,
  LockerLook,
  LockersPort,
  LockerSnapshot,
  Store,
  TellProgress,
} from '../core/locker-ports.ts';
import { askHelper, textsOf, type AskOptions, type Json } from './helper-socket.ts';

/**
 * How long the helper may be silent, milliseconds. It tells of its progress while it copies, makes a file
 * system or waits for another request.
 */
const silenceMs = {
  change: 180_000,
  // A mount or store that hangs is given up by the helper itself.
  look: 120_000,
  list: 120_000,
} as const;

export class HelperLockers implements LockersPort {
  readonly #socketPath: string;
  readonly #silenceMs: Readonly<Record<keyof typeof silenceMs, number>>;

  constructor(socketPath: string, silence: Partial<Record<keyof typeof silenceMs, number>> = {}) {
    this.#socketPath = socketPath;
    this.#silenceMs = { ...silenceMs, ...silence };
  }

  async create(
    { size, ...request }: Parameters<LockersPort['create']>[0],
    progress: TellProgress,
    signal: AbortSignal,
  ): ReturnType<LockersPort['create']> {
    const { locker, store, owner, mode, encrypt, container, creator } = request;
    // The helper refuses a request with a member too many.
    const fields = {
      ...{ locker, store, size: String(size), owner, mode, encrypt, creator: String(creator) },
      ...(container === '' ? {} : { container }),
    };
    return this.#change('create-locker', fields, { progress, signal });
  }

  async grow(
    { locker, size }: Parameters<LockersPort['grow']>[0],
    progress: TellProgress,
  ): ReturnType<LockersPort['grow']> {
    return this.#change('grow-locker', { locker, size: String(size) }, { progress });
  }

  async rename({
    locker,
    name,
  }: Parameters<LockersPort['rename']>[0]): ReturnType<LockersPort['rename']> {
    return this.#change('rename-locker', { locker, name });
  }

  async snapshot(
    { locker, snapshot, freeze }: Parameters<LockersPort['snapshot']>[0],
    progress: TellProgress,
    signal: AbortSignal,
  ): ReturnType<LockersPort['snapshot']> {
    return this.#change('snapshot-locker', { locker, snapshot, freeze }, { progress, signal });
  }

  async snapshots(locker: string): ReturnType<LockersPort['snapshots']> {
    const { snapshots } = await this.#ask('list-snapshots', { locker }, 'list');
    return objectsOf(snapshots).flatMap(snapshotOf);
  }

  async restore(
    { locker, snapshot, name, creator }: Parameters<LockersPort['restore']>[0],
    progress: TellProgress,
    signal: AbortSignal,
  ): ReturnType<LockersPort['restore']> {
    const fields = { locker, snapshot, name, creator: String(creator) };
    return this.#change('restore-locker', fields, { progress, signal });
  }

  async forget(locker: string): ReturnType<LockersPort['forget']> {
    const answer = await this.#ask('forget-locker', { locker }, 'change');
    return { warnings: textsOf(answer, 'warnings'), place: textOf(answer, 'place') ?? 'its store' };
  }

  async adopt(
    { locker, store, creator }: Parameters<LockersPort['adopt']>[0],
    progress: TellProgress,
  ): ReturnType<LockersPort['adopt']> {
    return this.#change('adopt-locker', { locker, store, creator: String(creator) }, { progress });
  }

  async stores(): ReturnType<LockersPort['stores']> {
    const answer = await this.#ask('list-stores', {}, 'list');
    const stores = objectsOf(answer['stores']).flatMap(storeOf);
    // What cannot be understood of the settings is none to choose.
    const [only, ...others] = stores.filter(({ type }) => type !== '');
    const chosen = textOf(answer, 'defaultStore') ?? (others.length === 0 ? only?.name : undefined);
    return stores.map((store) => ({ ...store, isDefault: store.name === chosen }));
  }

  async look(lockers: readonly string[]): ReturnType<LockersPort['look']> {
    const found = new Map<string, LockerLook>();
    await this.#ask('look-lockers', { lockers }, 'look', {
      line: ({ locker, seen }) => {
        if (typeof locker === 'string' && isObject(seen)) found.set(locker, lookOf(seen));
      },
    });
    return found;
  }

  /**
   * Destroys a locker or one of its snapshots, for root alone: the helper refuses lockerd itself.
   * @param request `snapshot` empty for the locker with all that it has
   */
  async destroy(
    { locker, store, snapshot }: Readonly<Record<'locker' | 'store' | 'snapshot', string>>,
    progress: TellProgress,
  ): ReturnType<LockersPort['rename']> {
    const fields = { locker, store, ...(snapshot === '' ? {} : { snapshot }) };
    return this.#change('destroy-locker', fields, { progress });
  }

  async #change(
    verb: string,
    fields: Json,
    options: Pick<AskOptions, 'progress' | 'signal'> = {},
  ): Promise<{ readonly warnings: readonly string[] }> {
    const answer = await this.#ask(verb, fields, 'change', { ...options, awaitsEnd: true });
    return { warnings: textsOf(answer, 'warnings') };
  }

  #ask(
    verb: string,
    fields: Json,
    kind: keyof typeof silenceMs,
    options: Omit<AskOptions, 'silenceMs'> = {},
  ): Promise<Json> {
    return askHelper(this.#socketPath, verb, fields, {
      ...options,
      silenceMs: this.#silenceMs[kind],
    });
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function objectsOf(value: unknown): Json[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function textOf(values: Json, key: string): string | undefined {
  const text = values[key];
  return typeof text === 'string' ? text : undefined;
}

/** A decimal number that fits D-Bus type `t`, as the helper writes numbers that may be large. */
function bytesOf(values: Json, key: string): bigint | undefined {
  const text = textOf(values, key);
  if (text === undefined || !/^\d{1,20}$/.test(text)) return undefined;
  const bytes = BigInt(text);
  return bytes < 2n ** 64n ? bytes : undefined;
}

function uidOf(values: Json, key: string): number | undefined {
  const uid = Number(values[key] ?? Number.NaN);
  return Number.isInteger(uid) && uid >= 0 && uid < 2 ** 32 - 1 ? uid : undefined;
}

function snapshotOf(values: Json): LockerSnapshot[] {
  const name = textOf(values, 'name');
  if (name === undefined) return [];
  const [createdUsec, size, used] = ['createdUsec', 'size', 'used'].map((key) =>
    bytesOf(values, key),
  );
  return [{ name, createdUsec, size, used }];
}

function storeOf(values: Json): Store[] {
  const name = textOf(values, 'name');
  if (name === undefined) return [];
  const [size, free, maxSize] = ['size', 'free', 'maxSize'].map((key) => bytesOf(values, key));
  return [
    {
      ...{ name, size, free, maxSize },
      type: textOf(values, 'type') ?? '',
      fileSystem: textOf(values, 'fileSystem') ?? '',
      isDefault: false,
      problem: textOf(values, 'problem') ?? '',
      forgotten: objectsOf(values['forgotten']).flatMap(forgottenOf),
    },
  ];
}

function forgottenOf(values: Json): ForgottenLocker[] {
  const name = textOf(values, 'name');
  if (name === undefined) return [];
  return [{ name, size: bytesOf(values, 'size'), creator: uidOf(values, 'creator') }];
}

function lookOf(seen: Json): LockerLook {
  const { snapshots } = seen;
  const known: Record<keyof LockerLook, unknown> = {
    size: bytesOf(seen, 'size'),
    used: bytesOf(seen, 'used'),
    available: bytesOf(seen, 'available'),
    fileSystem: textOf(seen, 'fileSystem'),
    device: textOf(seen, 'device'),
    health: lockerHealths.find((health) => health === seen['health']) ?? 'unknown',
    store: textOf(seen, 'store'),
    creator: uidOf(seen, 'creator'),
    snapshots: Array.isArray(snapshots) ? textsOf(seen, 'snapshots') : undefined,
  };
  const entries = Object.entries(known).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as unknown as LockerLook;
}
