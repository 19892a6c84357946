/** What the page tells in a corner: how jobs ended that somebody has started here. */

import type { Host } from './host.ts';
import { messageOf } from './host.ts';

export interface Notice {
  readonly id: number;
  readonly variant: 'danger' | 'warning' | 'success';
  readonly title: string;
  readonly text: string;
}

/** A success is told for so long; what went wrong stays until somebody has read it. */
const successMs = 6000;

export class Notices {
  readonly #host: Host;
  #notices: readonly Notice[] = [];
  #lastId = 0;
  readonly #listeners = new Set<() => void>();
  /** Jobs that were started here, with what to call them. */
  readonly #jobs = new Map<string, string>();

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

  /** Starts something and tells how it ends. @param title such as `Start of web` */
  async run(title: string, start: () => Promise<string>): Promise<boolean> {
    try {
      const path = await start();
      this.#jobs.set(path, title);
      this.#look();
      return true;
    } catch (error) {
      this.add('danger', `${title} was refused`, messageOf(error));
      return false;
    }
  }

  #look(): void {
    const { jobs, connection } = this.#host.snapshot();
    for (const [path, title] of this.#jobs) {
      const job = jobs.get(path);
      if (connection === 'absent') this.#jobs.delete(path);
      if (job === undefined || job.result === '') continue;
      this.#jobs.delete(path);
      const stall = job.stallUsec === undefined ? undefined : Math.round(job.stallUsec / 1000);
      const stood = stall ? [`The guest stood still for ${stall} ms.`] : [];
      if (job.result !== 'done') {
        const ends: Readonly<Record<string, string>> = {
          cancelled: 'was cancelled',
          timeout: 'took too long',
        };
        const end = ends[job.result] ?? 'failed';
        this.add('danger', `${title} ${end}`, [job.errorMessage, ...stood].join(' '));
      } else if (job.warnings.length > 0) {
        this.add('warning', title, [...job.warnings, ...stood].join(' '));
      } else {
        this.add('success', `${title}: done`, stood.join(' '));
      }
    }
  }
}
