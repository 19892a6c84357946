/**
 * Holds a container's unit. `lxc@.service.d/50-lockerd.conf` starts no container that has a file `.away`
 * in /var/lib/lockerd/moves, unless it has a file `.here` in /run/lockerd/moves as well, which a boot takes away.
 */
import { mkdirSync } from 'node:fs';
import { removeFile, replaceFile } from '../host/replace-file.ts';
import { movesDirectory } from '../model/path.ts';
import { escapeInstance } from '../model/unit-name.ts';
import { runDirectory } from './record.ts';

const away = (container: string): string => `${movesDirectory}/${escapeInstance(container)}.away`;
const here = (container: string): string => `${runDirectory}/${escapeInstance(container)}.here`;

/** From now on the unit cannot start, also after a crash of the host. @param why for who looks */
export function hold(container: string, why: string): void {
  replaceFile(away(container), `${why}\n`);
  removeFile(here(container));
}

/** Lets a held unit start, in this boot only. */
export function allowForNow(container: string): void {
  makeRunDirectory();
  replaceFile(here(container), '');
}

/** Lets the unit start. */
export function release(container: string): void {
  removeFile(away(container));
  removeFile(here(container));
}

/** Nobody but root reaches sockets and locks of moves. */
export function makeRunDirectory(): void {
  mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
}
