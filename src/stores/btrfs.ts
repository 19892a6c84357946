/**
 * Stores of type `btrfs`: a locker NAME is the subvolume PATH/NAME with a limit of its quota group, and a
 * snapshot of it a read-only subvolume in PATH/.snapshots/NAME.
 */

import { chmodSync, lchownSync, mkdirSync } from 'node:fs';
import { LockerdError } from '../model/errors.ts';
import type { Leftover, Making, NewLocker, Undone } from './driver.ts';
import type { Copy } from './tree-driver.ts';
import { TreeDriver } from './tree-driver.ts';
import { ToolError } from './tools.ts';

/** The root directory of each subvolume has this inode. */
const subvolumeInode = 256n;

/** What the quota group of a subvolume says, in bytes. */
interface QuotaGroup {
  readonly referenced: bigint;
  readonly exclusive: bigint;
  readonly limit?: bigint;
}

/** Rows of `btrfs qgroup show -re --raw`, by subvolume id; what stands above them is left out. */
export function parseQuotaGroups(text: string): Map<string, QuotaGroup> {
  const groups = new Map<string, QuotaGroup>();
  for (const line of text.split('\n')) {
    const [, id, referenced, exclusive, limit] =
      /^0\/(\d+)\s+(\d+)\s+(\d+)\s+(none|\d+)(?:\s|$)/.exec(line) ?? [];
    if (id === undefined || referenced === undefined || exclusive === undefined) continue;
    groups.set(id, {
      referenced: BigInt(referenced),
      exclusive: BigInt(exclusive),
      ...(limit === undefined || limit === 'none' ? {} : { limit: BigInt(limit) }),
    });
  }
  return groups;
}

export class BtrfsDriver extends TreeDriver {
  readonly modules: readonly string[] = [];

  protected checkMount(type: string): string | undefined {
    return type === 'btrfs' ? undefined : `is ${type} and not btrfs`;
  }

  /** Switches quotas on where they are off, which counts all that is there already. */
  private async enableQuotas(): Promise<void> {
    try {
      await this.tools.run('btrfs', ['qgroup', 'show', this.path]);
    } catch (error) {
      if (!(error instanceof ToolError)) throw error;
      await this.tools.run('btrfs', ['quota', 'enable', this.path]);
    }
  }

  private async groups(): Promise<Map<string, QuotaGroup>> {
    try {
      const args = ['qgroup', 'show', '-r', '--raw', this.path];
      return parseQuotaGroups(await this.tools.run('btrfs', args));
    } catch (error) {
      // Without quotas nothing is known.
      if (error instanceof ToolError) return new Map();
      throw error;
    }
  }

  private async idOf(path: string): Promise<string> {
    const text = await this.tools.run('btrfs', ['inspect-internal', 'rootid', path]);
    return text.trim();
  }

  protected async usage(paths: readonly string[]): Promise<ReadonlyMap<string, Copy>> {
    const groups = await this.groups();
    const found = new Map<string, Copy>();
    for (const path of paths) {
      const group = groups.get(await this.idOf(path));
      if (group === undefined) continue;
      const { referenced, exclusive, limit } = group;
      found.set(path, {
        used: referenced,
        own: exclusive,
        ...(limit === undefined ? {} : { limit }),
      });
    }
    return found;
  }

  private async limit(path: string, size: bigint): Promise<void> {
    await this.tools.run('btrfs', ['qgroup', 'limit', size.toString(), path]);
  }

  async create({ locker, size, root }: NewLocker, { progress }: Making): Promise<void> {
    progress('volume', 0);
    await this.tools.alone(() => this.enableQuotas());
    const path = this.place(locker);
    await this.tools.run('btrfs', ['subvolume', 'create', path]);
    await this.limit(path, size);
    // Nobody else can reach it yet. What changes the owner may clear bits of the mode.
    lchownSync(path, root.uid, root.gid);
    chmodSync(path, root.mode);
  }

  async grow(locker: string, size: bigint): Promise<void> {
    await this.limit(this.place(locker), size);
  }

  async snapshot(locker: string, snapshot: string, { progress }: Making): Promise<void> {
    progress('volume', 0);
    mkdirSync(this.snapshotsOf(locker), { recursive: true, mode: 0o700 });
    const { limit = 0n } = (await this.usage([this.place(locker)])).get(this.place(locker)) ?? {};
    const target = this.newSnapshotPath(locker, snapshot, limit);
    await this.tools.run('btrfs', ['subvolume', 'snapshot', '-r', this.place(locker), target]);
  }

  protected async copyBack(from: string, to: string, size: bigint): Promise<void> {
    await this.tools.run('btrfs', ['subvolume', 'snapshot', from, to]);
    if (size > 0n) await this.limit(to, size);
  }

  /** Deletes a subvolume with its quota group; does nothing where there is none. */
  private async remove(path: string): Promise<void> {
    const stat = this.statOf(path);
    if (stat === undefined) return;
    if (!stat.isDirectory() || stat.ino !== subvolumeInode) {
      throw new LockerdError('Failed', `${path} is no subvolume, and nothing of lockerd's`);
    }
    const group = `0/${await this.idOf(path)}`;
    await this.tools.run('btrfs', ['subvolume', 'delete', '--commit-after', path]);
    // Newer kernels do this themselves, and the group stays while the subvolume is being cleaned up.
    await this.tools.run('btrfs', ['qgroup', 'destroy', group, this.path]).catch(() => undefined);
  }

  async undo({ locker, snapshot }: Undone): Promise<Leftover | undefined> {
    const path =
      snapshot === undefined ? this.place(locker) : this.findSnapshot(locker, snapshot)?.path;
    if (path !== undefined) await this.remove(path);
    this.removeEmptySnapshots(locker);
    return undefined;
  }

  async destroy(locker: string, snapshot?: string): Promise<void> {
    await this.undo({ change: '', locker, ...(snapshot === undefined ? {} : { snapshot }) });
  }
}
