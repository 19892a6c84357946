/**
 * The target's side of a move, for as long as one connection lasts. When it ends before the container is this
 * host's for good, what was begun is undone. Should this process be killed as well, lockerd-move expire does it.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { editAutostart } from '../helper/settings-edit.ts';
import { readSettingsFile, writeSettingsFile } from '../host/replace-file.ts';
import { viewLockers } from '../helper/locker-view.ts';
import { lxcpathOf, viewContainer } from '../helper/view.ts';
import { HostReader } from '../host/read.ts';
import { LockerdError } from '../model/errors.ts';
import { decodeContainer } from '../model/facts.ts';
import { containerUnit } from '../model/unit-name.ts';
import {
  parseBelongings,
  pathsOf,
  placeBelongings,
  removeBelongings,
  settingsPath,
  strayBelongings,
  type Belongings,
} from './belongings.ts';
import { endCopies } from './end-copies.ts';
import type { Fields } from './fields.ts';
import { allowForNow, hold, release } from './guard.ts';
import { Incoming } from './incoming.ts';
import { claimLease, endLease, isFresh, monotonicMs, renewLease } from './lease.ts';
import { withMoveLock } from './lock.ts';
import { eachLine, operations, programPath, protocolVersion, type Operation } from './protocol.ts';
import { killUnit, reload, run, startUnit } from './run.ts';
import { checkTarget, isName, type Asked } from './target-checks.ts';
import { checkRoot, keepRoot, leaveRoot, makeRoot, pointToRoot, rootPlace } from './target-root.ts';
import {
  checkLockers,
  makeLockers,
  nameLockers,
  unfinishedNames,
  unnameLockers,
  type WantedLocker,
} from './target-lockers.ts';

type Answer = Readonly<Record<string, unknown>>;

/**
 * How long the source may say nothing, milliseconds. sshd keeps a connection that was cut for hours where the target
 * has nothing to say either.
 */
const silenceMs = 45_000;
/** Seconds that a new connection waits for the end of one that was cut. */
const lockWaitSec = 90;

export const hostLxcpath = (): string => lxcpathOf(new HostReader(''));

/** Bytes and files of a tree, links not followed. */
export async function sizeOf(directory: string): Promise<{ bytes: number; files: number }> {
  const du = async (...options: string[]): Promise<number> => {
    const output = await run('du', [
      '--summarize',
      '--one-file-system',
      ...options,
      '--',
      directory,
    ]);
    return Number.parseInt(output, 10);
  };
  return { bytes: await du('--block-size=1'), files: await du('--inodes') };
}

/** Where each locker is mounted that comes along, by its name. */
function placesOfLockers({ state, lockers }: Incoming): Map<string, string> {
  const known = viewLockers().lockers;
  return new Map(
    Object.entries(lockers).flatMap(([name, unfinished]) => {
      const locker = known.get(state === 'copying' ? unfinished : name);
      return locker === undefined ? [] : [[name, locker.mountPoint]];
    }),
  );
}

/** Undoes what a move has done here, but for the copied files. */
export async function abortIncoming(incoming: Incoming): Promise<void> {
  const { container, state } = incoming;
  endLease(incoming.id);
  await endCopies([incoming.at, incoming.directory, ...placesOfLockers(incoming).values()]);
  if (state === 'copying') {
    await leaveRoot(incoming);
    return;
  }
  hold(container, `a move to this host, ${incoming.id}, has not ended`);
  if (state === 'started') await killUnit(container);
  await leaveRoot(incoming);
  incoming.uninstall();
  // They were made by this move: another container's would have been in the way.
  removeBelongings(container, incoming.files);
  await reload();
  await unnameLockers(incoming.lockers);
  release(container);
}

/** Sets what the source's boot does, where this host would do otherwise. */
async function setAutostart(name: string, wanted: boolean): Promise<void> {
  const generated = `/run/systemd/generator/${containerUnit(name)}.d/60-container.conf`;
  const text = existsSync(generated) ? readFileSync(generated, 'utf8') : '';
  if (decodeContainer(text)?.autostart === wanted) return;
  const { settings } = viewContainer(name);
  const path = settingsPath(name);
  writeSettingsFile(path, editAutostart(readSettingsFile(path), wanted, path, settings.defaults));
  await reload();
}

/** Gives a copy that is whole the container's name; its unit cannot start until release(). */
export async function installIncoming(
  incoming: Incoming,
  belongings: Belongings,
  autostart: boolean,
): Promise<void> {
  const { container, id } = incoming;
  const [stray] = strayBelongings(container);
  if (stray !== undefined) throw new LockerdError('Failed', stray);
  hold(container, `a move to this host, ${id}, has not ended`);
  // What decides about autostart may have to be written.
  incoming.files = [...new Set([settingsPath(container), ...pathsOf(container, belongings)])];
  incoming.install();
  placeBelongings(container, belongings);
  await reload();
  await setAutostart(container, autostart);
}

/** Lockers that the source wants to copy, with the bytes that each is to have. */
function wantedLockers(fields: Fields): WantedLocker[] {
  return Object.entries(fields.record('wanted')).map(([name, size]) => {
    if (/^[1-9]\d{0,15}$/.test(size)) return { name, size: Number(size) };
    throw new LockerdError('InvalidArgs', `locker "${name}" cannot have such a size`);
  });
}

class Receiver {
  readonly #lxcpath = hostLxcpath();
  #incoming: Incoming | undefined;
  #unlock: (() => void) | undefined;
  #work: Promise<unknown> = Promise.resolve();

  /** One request after the other, but for those that only say that the source is there. */
  async answer(op: Operation, fields: Fields): Promise<Answer> {
    if (op === 'ping') {
      const incoming = this.#incoming;
      if (incoming?.state === 'started') renewLease(incoming.id, fields.number('seen'));
      return {};
    }
    const turn = this.#work.then(() => this.#do(op, fields));
    this.#work = turn.catch(() => undefined);
    return turn;
  }

  /** To be called at the end of the connection. */
  async end(): Promise<void> {
    await this.#work;
    if (this.#incoming !== undefined) await abortIncoming(this.#incoming);
    this.#unlock?.();
  }

  async #do(op: Exclude<Operation, 'ping'>, fields: Fields): Promise<Answer> {
    switch (op) {
      case 'hello':
        return this.#hello(fields);
      case 'check':
        return this.#check(fields);
      case 'prepare':
        return this.#prepare(fields);
      case 'flush':
        await this.#flush();
        return {};
      case 'install':
        return this.#install(fields);
      case 'start':
        return this.#start(fields);
      case 'keep':
        return this.#keep();
      case 'abort':
        return this.#abort(fields);
    }
  }

  #present(): Incoming {
    if (this.#incoming === undefined) throw new LockerdError('Failed', 'no move was prepared');
    return this.#incoming;
  }

  async #hello(fields: Fields): Promise<Answer> {
    if (process.geteuid?.() !== 0) throw new LockerdError('AccessDenied', 'only root can receive');
    if (fields.number('protocol') !== protocolVersion) {
      throw new LockerdError('Failed', 'lockerd is of another version there; install the same one');
    }
    await run('rsync', ['--version']).catch(() => {
      throw new LockerdError('Failed', 'there is no rsync; install it');
    });
    const lxc = (await run('lxc-start', ['--version'])).trim();
    return { lockerd: LOCKERD_VERSION, lxc, lxcpath: this.#lxcpath };
  }

  async #check(fields: Fields): Promise<Answer> {
    const name = fields.text('name');
    if (!isName(name)) throw new LockerdError('InvalidArgs', 'a container cannot have this name');
    const left = Incoming.find(this.#lxcpath, fields.id('id'));
    const size = left === undefined ? { bytes: 0, files: 0 } : await sizeOf(left.copy);
    // Zero for a root file system that is a part of the directory.
    const volumeBytes = fields.number('volumeBytes');
    const root =
      volumeBytes > 0
        ? await checkRoot({
            ...{ id: fields.id('id'), name, store: fields.text('store'), size: volumeBytes },
          })
        : { problems: [], warnings: [], isVolume: false };
    const ofRoot = root.isVolume ? 0 : fields.number('rootBytes');
    const asked: Asked = {
      id: fields.id('id'),
      name,
      config: fields.text('config'),
      needs: fields.texts('needs'),
      idmaps: fields.texts('idmaps'),
      lockers: [],
      bytes: fields.number('bytes') + ofRoot,
      files: fields.number('files'),
      leftBytes: size.bytes,
      leftFiles: size.files,
    };
    const { problems, warnings } = checkTarget(asked, this.#lxcpath);
    const { present, problems: ofLockers } = await checkLockers(
      asked.id,
      fields.texts('lockers'),
      wantedLockers(fields),
      fields.text('store'),
    );
    return {
      problems: [...problems, ...ofLockers, ...root.problems],
      warnings: [...warnings, ...root.warnings],
      present,
    };
  }

  /** Where the files of the container are, and those of each locker that comes with it. */
  #where(): { copy: string; root: string; places: Readonly<Record<string, string>> } {
    const incoming = this.#present();
    const places = placesOfLockers(incoming);
    const missing = Object.keys(incoming.lockers).find((name) => !places.has(name));
    if (missing !== undefined) {
      throw new LockerdError('Failed', `there is no locker "${missing}" any more`);
    }
    return { copy: incoming.at, root: rootPlace(incoming), places: Object.fromEntries(places) };
  }

  /** Has everything on the disk that was copied. */
  async #flush(): Promise<void> {
    const { copy, root, places } = this.#where();
    const all = [copy, ...(existsSync(root) ? [root] : []), ...Object.values(places)];
    await run('sync', ['--file-system', '--', ...all]);
  }

  /** Holds the lock of the container until the end of the connection. */
  async #lock(name: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      withMoveLock(name, lockWaitSec, () => {
        resolve();
        return new Promise<void>((unlock) => (this.#unlock = unlock));
      }).catch(reject);
    });
  }

  async #prepare(fields: Fields): Promise<Answer> {
    const name = fields.text('name');
    if (!isName(name)) throw new LockerdError('InvalidArgs', 'a container cannot have this name');
    await this.#lock(name);
    const incoming = Incoming.make(this.#lxcpath, fields.id('id'), name);
    await abortIncoming(incoming);
    if (existsSync(incoming.place)) throw new LockerdError('Failed', `there is ${incoming.place}`);
    this.#incoming = incoming;
    const wanted = wantedLockers(fields);
    const names = unfinishedNames(incoming.id, fields.texts('lockers'));
    incoming.lockers = Object.fromEntries(wanted.map(({ name }) => [name, names[name] ?? '']));
    await makeLockers(incoming.lockers, wanted, fields.text('store'));
    const volumeBytes = fields.number('volumeBytes');
    if (volumeBytes > 0) await makeRoot(incoming, fields.text('store'), volumeBytes);
    return this.#where();
  }

  async #install(fields: Fields): Promise<Answer> {
    const incoming = this.#present();
    await nameLockers(incoming.lockers);
    if (fields.flag('isVolume')) pointToRoot(incoming);
    await installIncoming(incoming, parseBelongings(fields), fields.flag('autostart'));
    return this.#where();
  }

  async #start(fields: Fields): Promise<Answer> {
    const incoming = this.#present();
    const seen = fields.number('seen');
    if (!isFresh(seen)) throw new LockerdError('Failed', 'the order to start came too late');
    await leaveRoot(incoming);
    renewLease(incoming.id, seen);
    incoming.state = 'started';
    const service = ['--quiet', '--collect', `--unit=lockerd-move-${incoming.id}`];
    await run('systemd-run', [...service, '--', programPath, 'expire', incoming.id]);
    allowForNow(incoming.container);
    await startUnit(incoming.container);
    return {};
  }

  async #keep(): Promise<Answer> {
    const incoming = this.#present();
    const { state } = incoming;
    // What the source gives up is on this host's disk.
    if (state === 'installed') {
      await this.#flush();
      await leaveRoot(incoming);
    }
    if (state === 'started' && !claimLease(incoming.id)) {
      throw new LockerdError('Failed', 'the source was not heard for too long');
    }
    // Until the record is gone, all can still be undone; afterwards the container is this host's.
    await keepRoot(incoming);
    release(incoming.container);
    incoming.finish();
    this.#incoming = undefined;
    return {};
  }

  /** Of this or of an earlier connection. `state`: what the target made of the move. */
  async #abort(fields: Fields): Promise<Answer> {
    const name = fields.text('name');
    if (!isName(name)) throw new LockerdError('InvalidArgs', 'a container cannot have this name');
    if (this.#unlock === undefined) await this.#lock(name);
    const id = fields.id('id');
    const incoming = Incoming.find(this.#lxcpath, id);
    this.#incoming = undefined;
    if (incoming === undefined) {
      return { state: existsSync(`${this.#lxcpath}/${name}`) ? 'kept' : 'unknown' };
    }
    await abortIncoming(incoming);
    return { state: 'aborted', copy: incoming.copy };
  }
}

/** Serves one connection to its end. */
export async function receive(input: Readable, output: Writable): Promise<void> {
  const receiver = new Receiver();
  const answer = (n: number, what: Answer): void => {
    output.write(`${JSON.stringify({ ...what, n, now: monotonicMs() })}\n`);
  };
  output.on('error', () => undefined);
  try {
    await eachLine(
      input,
      (fields) => {
        const n = fields.number('n');
        receiver.answer(fields.oneOf('op', operations), fields).then(
          (what) => {
            answer(n, { ok: true, ...what });
          },
          (error: unknown) => {
            answer(n, { error: error instanceof Error ? error.message : String(error) });
          },
        );
      },
      silenceMs,
    );
  } finally {
    await receiver.end();
  }
}
