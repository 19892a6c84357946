/** Lockers of a container that is moved, as the source has them. */
import { HelperLockers } from '../adapters/helper-lockers.ts';
import { storesSocket } from '../api/names.ts';
import type { LockerLook } from '../core/locker-ports.ts';
import { hostMounts } from '../helper/context.ts';
import { attachedTo } from '../helper/locker-users.ts';
import { viewLockers } from '../helper/locker-view.ts';
import { mountAt } from '../host/mountinfo.ts';
import { isNewName } from '../model/new-name.ts';
import { sizeOf } from './receiver.ts';

/** A locker whose data goes along. */
export interface CopiedLocker {
  readonly name: string;
  /** Where the host has it mounted. */
  readonly mountPoint: string;
  /** Bytes that it is to have at the target. */
  readonly size: number;
  /** Bytes of files that are in it. */
  readonly used: number;
}

const mebibyte = 1024 * 1024;

/** File systems keep a part of their size for themselves, and another one more than this one. @param bytes here */
export function sizeThere(bytes: number): number {
  return Math.ceil((bytes * (1 + 1 / 16)) / mebibyte + 16) * mebibyte;
}

/**
 * Reads all about lockers that a target does not have.
 * @returns `problems`: why one cannot be copied, by its name
 */
export async function readLockers(
  container: string,
  names: readonly string[],
): Promise<{ lockers: CopiedLocker[]; problems: Map<string, string> }> {
  const view = viewLockers();
  const mounts = hostMounts();
  const helper = new HelperLockers(storesSocket);
  const looks = names.length === 0 ? new Map<string, LockerLook>() : await helper.look(names);
  const lockers: CopiedLocker[] = [];
  const problems = new Map<string, string>();
  for (const name of names) {
    const refuse = (why: string): void => void problems.set(name, `locker "${name}" ${why}`);
    const known = view.lockers.get(name);
    const mount = known === undefined ? undefined : mountAt(mounts, known.mountPoint);
    const others = attachedTo(view, name, mounts)
      .filter((other) => other.container !== container && !other.readOnly)
      .map((other) => other.container);
    const { encrypt = 'no' } = known?.origin ?? {};
    if (known === undefined || mount === undefined) refuse('is not mounted here');
    else if (!isNewName(name)) refuse('has a name that no store takes; make it there by hand');
    else if (encrypt !== 'no') refuse('is encrypted; make an encrypted one there, and copy it');
    else if (others.length > 0) {
      refuse(`is also attached to ${others.join(', ')}, which could write to it meanwhile`);
    } else {
      const { bytes: used } = await sizeOf(known.mountPoint);
      // A directory of a larger file system has no size of its own, unless a store gave it one.
      const isWhole = mount.root === '/' || known.origin !== undefined;
      const size = Number((isWhole ? looks.get(name)?.size : undefined) ?? 0);
      lockers.push({
        name,
        mountPoint: known.mountPoint,
        size: sizeThere(Math.max(size, used)),
        used,
      });
    }
  }
  return { lockers, problems };
}
