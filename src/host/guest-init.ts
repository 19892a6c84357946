import { HungError } from './mounts.ts';
import type { Files, OpenDirectory } from './files.ts';
import type { GuestInit } from '../model/sight.ts';
import type { Status } from './system-calls.ts';

/** What a guest's init is, and why that cannot be told where the guest or its storage is odd. */
export interface FoundInit {
  readonly init: GuestInit;
  /** Undefined also where the root file system is simply not there yet. */
  readonly why?: string;
  /** Where it lies does not answer. */
  readonly isHung?: boolean;
}

/** As many links as the kernel follows, and by far more parts than a path to an init has. */
const maxLinks = 40;
const maxParts = 256;
/** Layers of an overlay. */
const maxTrees = 64;

/** The guest made more of its path than anybody would follow. */
class BudgetError extends Error {
  override readonly name = 'BudgetError';
}

/** A directory of the guest in the trees that have it, the first one on top. */
type Level = readonly OpenDirectory[];

/**
 * One walk through the trees of a guest. The guest may change them at any time, so each part is
 * looked for in an open directory, and no symbolic link is ever followed by the kernel: it could
 * lead anywhere on the host.
 */
export class Walk {
  private readonly files: Files;
  private readonly bases: readonly (string | undefined)[];
  private readonly roots: Level;
  private level: Level;
  private readonly done: string[] = [];
  private parts = 0;

  constructor(files: Files, trees: readonly string[]) {
    this.files = files;
    const layers = trees.slice(0, maxTrees);
    // A tree that hangs may have the init, whatever the others have.
    this.bases = layers.map((tree) => files.baseOf(tree));
    const roots: OpenDirectory[] = [];
    for (const tree of layers) {
      try {
        roots.push(files.openDirectory(tree));
      } catch {
        // It is not there yet.
      }
    }
    this.roots = roots;
    this.level = roots;
  }

  close(): void {
    this.leave();
    for (const directory of this.roots) this.files.closeDirectory(directory);
  }

  private leave(): void {
    if (this.level !== this.roots) {
      for (const directory of this.level) this.files.closeDirectory(directory);
    }
    this.level = this.roots;
  }

  toRoot(): void {
    this.leave();
    this.done.length = 0;
  }

  /** Goes to the directory above, which the root directory has not. */
  up(): void {
    const parts = this.done.slice(0, -1);
    this.toRoot();
    for (const part of parts) this.enter(part);
  }

  enter(part: string): void {
    this.spend();
    this.check(part);
    const next: OpenDirectory[] = [];
    for (const directory of this.level) {
      try {
        next.push(this.files.openDirectoryIn(directory, part));
      } catch {
        // Not in this layer, or no directory there.
      }
    }
    this.leave();
    this.level = next;
    this.done.push(part);
  }

  /** Target of a symbolic link in this directory; "absent", or "no-link" for anything else. */
  look(part: string): 'absent' | 'no-link' | { readonly target: string } {
    this.spend();
    this.check(part);
    for (const directory of this.level) {
      try {
        const found = this.files.linkIn(directory, part);
        if (found !== 'absent') return found;
      } catch {
        // Not in this layer: the next one may have it.
      }
    }
    return 'absent';
  }

  /** Text of a regular file in this directory; undefined where the top layer has none to read. */
  read(part: string, maxBytes: number): string | undefined {
    return this.ofTopLayer(part, (directory) => this.files.readIn(directory, part, maxBytes));
  }

  stat(part: string): Status | undefined {
    return this.ofTopLayer(part, (directory) => this.files.statIn(directory, part));
  }

  private ofTopLayer<T>(part: string, ask: (directory: OpenDirectory) => T): T | undefined {
    this.spend();
    this.check(part);
    for (const directory of this.level) {
      try {
        if (this.files.linkIn(directory, part) !== 'absent') return ask(directory);
      } catch {
        return undefined;
      }
    }
    return undefined;
  }

  private spend(): void {
    if (++this.parts > 2 * maxParts) {
      throw new BudgetError(`the path has more than ${maxParts} parts, links included`);
    }
  }

  private check(part: string): void {
    for (const base of this.bases) this.files.checkEntry(base, [...this.done, part]);
  }
}

function partsOf(path: string): string[] {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .reverse();
}

/** Where a path of the guest led. */
interface Resolved {
  /** The last part, in the directory that the walk is in now. */
  readonly name: string;
  readonly isThere: boolean;
  readonly links: number;
}

/** Follows a path of the guest to its end and leaves the walk in the directory of the last part. */
export function resolveIn(walk: Walk, path: string): Resolved {
  const todo = partsOf(path);
  let links = 0;
  // The program that the last link named, whether or not it can be seen.
  let name = todo[0] ?? '';
  for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
    if (part === '..') {
      walk.up();
      continue;
    }
    const seen = walk.look(part);
    if (seen === 'absent') return { name, isThere: false, links };
    if (seen === 'no-link') {
      if (todo.length > 0) walk.enter(part);
      continue;
    }
    if (++links > maxLinks) throw new BudgetError(`more than ${maxLinks} symbolic links`);
    const target = partsOf(seen.target);
    if (todo.length === 0) name = target[0] ?? '';
    if (seen.target.startsWith('/')) walk.toRoot();
    todo.push(...target);
  }
  return { name, isThere: true, links };
}

function follow(walk: Walk, path: string): GuestInit {
  const { name, isThere, links } = resolveIn(walk, path);
  if (name === 'systemd' && (isThere || links > 0)) return 'systemd';
  return isThere ? 'other' : 'unknown';
}

/**
 * Looks for the guest's init as LXC runs it: lxc.init.cmd or /sbin/init. The trees are directories
 * of the host, the one that wins first. Links are followed inside them only, by their text. What
 * the guest can make of its files costs no more than a few hundred system calls.
 */
export function findGuestInit(
  files: Files,
  trees: readonly string[],
  initCmd: string | undefined,
): FoundInit {
  const path = (initCmd ?? '/sbin/init').split(' ', 1)[0] ?? '';
  if (trees.length === 0 || !path.startsWith('/')) return { init: 'unknown' };
  let walk: Walk | undefined;
  try {
    walk = new Walk(files, trees);
    return { init: follow(walk, path) };
  } catch (error) {
    if (error instanceof HungError) return { init: 'unknown', why: error.message, isHung: true };
    if (error instanceof BudgetError) return { init: 'unknown', why: error.message };
    return { init: 'unknown' };
  } finally {
    walk?.close();
  }
}
