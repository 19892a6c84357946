/** What the page tells in a corner: how jobs ended that somebody has started here. */

import type { Host } from './host.ts';
import { messageOf } from './host.ts';
import type { Job } from './objects.ts';
import { stallWords } from './words.ts';

export interface Notice {
  readonly id: number;
  readonly variant: 'danger' | 'warning' | 'success';
  readonly title: string;
  readonly text: string;
}

interface Started {
  /** What to call it, such as `Start of web`. */
  readonly title: string;
  /** Told before the notice is shown. */
  readonly onEnd?: ((job: Job) => void) | undefined;
}

/** A success is told for so long; what went wrong stays until somebody has read it. */
const successMs = 6000;

const ends: Readonly<Record<string, string>> = {
  cancelled: 'was cancelled',
  timeout: 'took too long',
};

export class Notices {
  readonly #host: Host;
  #notices: readonly Notice[] = [];
  #lastId = 0;
  readonly #listeners = new Set<() => void>();
  /** Jobs that were started here. */
  readonly #jobs = new Map<string, Started>();

  constructor(host: Host) {
    this.#host = host;
    host.subscribe(() => {
      this.#look();
    });
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly snapshot = (): readonly Notice[] => this.#notices;

  add(variant: Notice['variant'], title: string, text = ''): void {
    const id = ++this.#lastId;
    this.#set([...this.#notices, { id, variant, title, text }]);
    if (variant === 'success') {
      window.setTimeout(() => {
        this.remove(id);
      }, successMs);
    }
  }

  remove(id: number): void {
    this.#set(this.#notices.filter((notice) => notice.id !== id));
  }

  #set(notices: readonly Notice[]): void {
    this.#notices = notices;
    for (const listener of this.#listeners) listener();
  }

  /**
   * Starts something and tells how it ends.
   * @param title such as `Start of web`
   * @param start answers with the path of the job
   * @returns whether it was accepted
   */
  async run(
    title: string,
    start: () => Promise<string>,
    onEnd?: (job: Job) => void,
  ): Promise<boolean> {
    try {
      const path = await start();
      this.#jobs.set(path, { title, onEnd });
      this.#look();
      return true;
    } catch (error) {
      this.add('danger', `${title} was refused`, messageOf(error));
      return false;
    }
  }

  /**
   * Has lockerctl start something and wait for its end, for what JSON cannot say: Debian 12's bridge sends no
   * number that is as large as the one that means "no limit".
   * @returns whether it was done
   */
  async runProgram(title: string, args: readonly string[]): Promise<boolean> {
    try {
      await cockpit.spawn(['lockerctl', ...args], { superuser: 'try', err: 'message' });
      this.add('success', `${title}: done`);
      return true;
    } catch (error) {
      this.add('danger', `${title} failed`, messageOf(error));
      return false;
    }
  }

  #look(): void {
    const { jobs, connection } = this.#host.snapshot();
    for (const [path, { title, onEnd }] of this.#jobs) {
      const job = jobs.get(path);
      // The jobs of a service that has gone end without a word.
      if (connection === 'absent') this.#jobs.delete(path);
      if (job === undefined || job.result === '') continue;
      this.#jobs.delete(path);
      onEnd?.(job);
      this.#tell(title, job);
    }
  }

  #tell(title: string, job: Job): void {
    const stood = stallWords(job);
    if (job.result !== 'done') {
      const end = ends[job.result] ?? 'failed';
      this.add('danger', `${title} ${end}`, [job.errorMessage, ...stood].join(' '));
    } else if (job.warnings.length > 0) {
      this.add('warning', title, [...job.warnings, ...stood].join(' '));
    } else {
      this.add('success', `${title}: done`, stood.join(' '));
    }
  }
}
