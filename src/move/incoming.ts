/**
 * A copy at the target: the directory `.lockerd-move-ID` beside the containers, which nothing takes for one. It has
 * a record of its own, and the copy in `container`, which gets the container's name by a rename and loses it by
 * another. Nothing in it is ever removed but the record, and the directory when it is empty.
 */
import { lstatSync, mkdirSync, readFileSync, readdirSync, renameSync, rmdirSync } from 'node:fs';
import { syncDirectory } from '../host/write-file.ts';
import { removeFile, replaceFile } from '../host/replace-file.ts';
import { codeOf } from '../model/errno.ts';
import { LockerdError } from '../model/errors.ts';
import { Fields } from './fields.ts';
import { isName, isThere } from './target-checks.ts';

const states = [
  /** It has no name yet, or none any more. */
  'copying',
  /** It may have the container's name, and cannot start. */
  'installed',
  /** It may run, until the lease ends. */
  'started',
] as const;

export type IncomingState = (typeof states)[number];

const recordName = 'move.json';

export class Incoming {
  readonly id: string;
  readonly container: string;
  readonly #lxcpath: string;
  #state: IncomingState;
  #files: readonly string[];
  #lockers: Readonly<Record<string, string>>;
  #rootStore: string;

  private constructor(
    lxcpath: string,
    id: string,
    container: string,
    state: IncomingState,
    files: readonly string[],
    lockers: Readonly<Record<string, string>>,
    rootStore: string,
  ) {
    this.#lxcpath = lxcpath;
    this.id = id;
    this.container = container;
    this.#state = state;
    this.#files = files;
    this.#lockers = lockers;
    this.#rootStore = rootStore;
  }

  static #directory(lxcpath: string, id: string): string {
    return `${lxcpath}/.lockerd-move-${id}`;
  }

  /** The copy of an earlier try; undefined where there is none. Throws Failed for a strange one. */
  static find(lxcpath: string, id: string): Incoming | undefined {
    const directory = Incoming.#directory(lxcpath, id);
    let text: string;
    try {
      const { uid, mode } = lstatSync(directory);
      if (uid !== 0 || (mode & 0o777) !== 0o700) {
        throw new LockerdError('Failed', `${directory} is not as it was made`);
      }
      text = readFileSync(`${directory}/${recordName}`, 'utf8');
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined;
      throw error;
    }
    const fields = Fields.parse(text);
    const container = fields.text('container');
    if (!isName(container)) throw new LockerdError('Failed', `${directory} names no container`);
    const files = fields.texts('files');
    const state = fields.oneOf('state', states);
    return new Incoming(
      lxcpath,
      id,
      container,
      state,
      files,
      fields.record('lockers'),
      fields.text('rootStore'),
    );
  }

  /** Makes the directory, or finds that of an earlier try. */
  static make(lxcpath: string, id: string, container: string): Incoming {
    const directory = Incoming.#directory(lxcpath, id);
    const found = Incoming.find(lxcpath, id);
    if (found !== undefined) {
      if (found.container === container) return found;
      throw new LockerdError('Failed', `${directory} is that of "${found.container}"`);
    }
    // What was killed between the two has left an empty one.
    if (isThere(directory)) rmdirSync(directory);
    // Programs of the guest that are setuid are nobody's but root's here.
    mkdirSync(directory, { mode: 0o700 });
    const made = new Incoming(lxcpath, id, container, 'copying', [], {}, '');
    mkdirSync(made.copy, { mode: 0o700 });
    made.state = 'copying';
    return made;
  }

  get #own(): string {
    return Incoming.#directory(this.#lxcpath, this.id);
  }

  /** Has the copy, and nothing else but the record. */
  get directory(): string {
    return this.#own;
  }

  /** Where the files are copied to. */
  get copy(): string {
    return `${this.#own}/container`;
  }

  /** Where they are while the copy has the container's name. */
  get place(): string {
    return `${this.#lxcpath}/${this.container}`;
  }

  /** Where they are now. */
  get at(): string {
    return this.state === 'copying' ? this.copy : this.place;
  }

  get state(): IncomingState {
    return this.#state;
  }

  /** Is on the disk before it has an effect. */
  set state(state: IncomingState) {
    this.#state = state;
    this.#write();
  }

  /** Paths of what the container has outside its directory, which are removed when it is not to be here. */
  get files(): readonly string[] {
    return this.#files;
  }

  /** Is on the disk before any of them is. */
  set files(files: readonly string[]) {
    this.#files = files;
    this.#write();
  }

  /** Lockers that come along, with the names that they have until the container has its own. */
  get lockers(): Readonly<Record<string, string>> {
    return this.#lockers;
  }

  /** Is on the disk before any of them is made. */
  set lockers(lockers: Readonly<Record<string, string>>) {
    this.#lockers = lockers;
    this.#write();
  }

  /** The store whose volume has the root file system; empty for a directory. */
  get rootStore(): string {
    return this.#rootStore;
  }

  set rootStore(store: string) {
    this.#rootStore = store;
    this.#write();
  }

  #write(): void {
    const { id, container, state, files, lockers, rootStore } = this;
    const text = JSON.stringify({ id, container, state, files, lockers, rootStore });
    replaceFile(`${this.#own}/${recordName}`, `${text}\n`);
  }

  /** Gives the copy the container's name. Throws Failed where something has it. */
  install(): void {
    this.state = 'installed';
    if (isThere(this.place)) throw new LockerdError('Failed', `there is ${this.place} meanwhile`);
    renameSync(this.copy, this.place);
    syncDirectory(this.#lxcpath);
  }

  /** Takes the name away. What has the name without being this copy stays. */
  uninstall(): void {
    if (this.state !== 'copying' && !isThere(this.copy) && isThere(this.place)) {
      renameSync(this.place, this.copy);
      syncDirectory(this.#lxcpath);
    }
    this.state = 'copying';
  }

  /** The container is this host's: nothing tells of the move any more. */
  finish(): void {
    removeFile(`${this.#own}/${recordName}`);
    rmdirSync(this.#own);
  }
}

/** All copies on this host that have no end yet. */
export function allIncoming(lxcpath: string): Incoming[] {
  return readdirSync(lxcpath).flatMap((name) => {
    const [, id] = /^\.lockerd-move-([0-9a-f]{16})$/.exec(name) ?? [];
    return id === undefined ? [] : (Incoming.find(lxcpath, id) ?? []);
  });
}
