/** Names that somebody mistyped: which ones there are that are near. */

import { errorNames } from '../api/names.ts';
import { DBusError } from '../bus/values.ts';
import type { Service, Snapshot } from './lockerd-client.ts';
import { didYouMean } from './suggest.ts';

/** Guesses by what the service has; asks it once. */
export class NameGuess {
  readonly #service: Service;
  #snapshot: Promise<Snapshot> | undefined;

  constructor(service: Service) {
    this.#service = service;
  }

  /** `Did you mean "web"?` for an error that says that there is no such container or locker. */
  async hint(
    errorName: string,
    names: {
      readonly container: string;
      readonly locker?: string | undefined;
      /** Containers that the same command names rightly: they are not meant twice. */
      readonly others?: readonly string[];
    },
  ): Promise<string | undefined> {
    const isContainer = errorName === errorNames.NoSuchContainer;
    if (!isContainer && errorName !== errorNames.NoSuchLocker) return undefined;
    this.#snapshot ??= this.#service.snapshot();
    try {
      const { containers, lockers } = await this.#snapshot;
      const known = isContainer ? containers : lockers;
      const word = isContainer ? names.container : (names.locker ?? '');
      return didYouMean(
        word,
        known
          .map(({ name }) => name)
          .filter((name) => !isContainer || names.others?.includes(name) !== true),
      );
    } catch (error) {
      // The error that is to be explained is the one that counts.
      if (error instanceof DBusError) return undefined;
      throw error;
    }
  }
}
