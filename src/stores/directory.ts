/**
 * Stores of type `directory`: a locker NAME is the directory PATH/NAME of a file system with project quotas,
 * as ext4 and xfs have them, with a project of its own. A snapshot is a copy of all files, with a project of
 * its own as well, whose blocks are shared where the file system can do that.
 *
 * lockerd removes no files. A copy that was not finished stays, and the error says where.
 */

import { chmodSync, lchownSync, mkdirSync, readFileSync, renameSync, rmdirSync } from 'node:fs';
import { codeOf } from '../model/errno.ts';
import { LockerdError } from '../model/errors.ts';
import type { Leftover, Making, NewLocker, Undone } from './driver.ts';
import { PrivateMounts, privatePlace } from './private-mounts.ts';
import type { Copy } from './tree-driver.ts';
import { TreeDriver } from './tree-driver.ts';

/** Projects of lockers have numbers from here on; admins write small ones into projid(5). */
const firstProject = 1_000_000;

const kibibyte = 1024n;

/** Rows of `repquota -P -n -v -O csv`, by project: bytes used, and the limit where there is one. */
export function parseProjects(text: string): Map<string, { used: bigint; limit?: bigint }> {
  const projects = new Map<string, { used: bigint; limit?: bigint }>();
  for (const line of text.split('\n')) {
    const [project = '', , , used = '', , limit = ''] = line.split(',');
    const id = /^#(\d{1,10})$/.exec(project)?.[1];
    if (id === undefined || !/^\d+$/.test(used) || !/^\d+$/.test(limit)) continue;
    projects.set(id, {
      used: BigInt(used) * kibibyte,
      ...(limit === '0' ? {} : { limit: BigInt(limit) * kibibyte }),
    });
  }
  return projects;
}

/** Numbers of projects that admins have given out. */
function namedProjects(): string[] {
  try {
    return readFileSync('/etc/projid', 'utf8')
      .split('\n')
      .flatMap((line) => /^[^#:]+:(\d+)/.exec(line)?.[1] ?? []);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}

const longMs = 24 * 60 * 60 * 1000;

export class DirectoryDriver extends TreeDriver {
  readonly modules: readonly string[] = [];

  protected checkMount(type: string, options: readonly string[]): string | undefined {
    if (type !== 'ext4' && type !== 'xfs') return `is ${type}, and neither ext4 nor xfs`;
    if (options.some((option) => option === 'prjquota' || option === 'pquota')) return undefined;
    const first = type === 'ext4' ? ', after "tune2fs -O project,quota" on its device' : '';
    return `has no project quotas; mount it with the option "prjquota"${first}`;
  }

  private async projects() {
    const args = ['-P', '-n', '-v', '-O', 'csv', this.path];
    return parseProjects(await this.tools.run('repquota', args));
  }

  private async projectOf(path: string): Promise<string> {
    const text = await this.tools.run('lsattr', ['-p', '-d', '--', path]);
    return /^\s*(\d+)/.exec(text)?.[1] ?? '0';
  }

  protected async usage(paths: readonly string[]): Promise<ReadonlyMap<string, Copy>> {
    const projects = await this.projects();
    const found = new Map<string, Copy>();
    for (const path of paths) {
      const project = projects.get(await this.projectOf(path));
      if (project !== undefined) found.set(path, { ...project, own: project.used });
    }
    return found;
  }

  private async limit(project: string, size: bigint): Promise<void> {
    const blocks = (size / kibibyte).toString();
    await this.tools.run('setquota', ['-P', project, '0', blocks, '0', '0', this.path]);
  }

  /** Gives an empty directory a project of its own, which all that comes into it gets too. */
  private newProject(path: string): Promise<string> {
    // Another one would take the same number.
    return this.tools.alone(() => this.takeProject(path));
  }

  private async takeProject(path: string): Promise<string> {
    const used = new Set([...(await this.projects()).keys(), ...namedProjects()]);
    let project = firstProject;
    while (used.has(project.toString())) project++;
    await this.tools.run('chattr', ['-p', project.toString(), '+P', '--', path]);
    return project.toString();
  }

  /** Where something is made before it has its name. */
  private unfinished(directory: string, change: string): string {
    return `${directory}/.unfinished-${change}`;
  }

  async create({ locker, size, root }: NewLocker, { change, progress }: Making): Promise<void> {
    progress('volume', 0);
    const path = this.unfinished(this.path, change);
    mkdirSync(path, { mode: 0o700 });
    await this.limit(await this.newProject(path), size);
    lchownSync(path, root.uid, root.gid);
    chmodSync(path, root.mode);
    renameSync(path, this.place(locker));
  }

  async grow(locker: string, size: bigint): Promise<void> {
    await this.limit(await this.projectOf(this.place(locker)), size);
  }

  /** Copies a tree into a new directory. Whoever has it may change it meanwhile, also into links. */
  private async copy(from: string, to: string, making: Making): Promise<void> {
    making.progress('copy', 0);
    await PrivateMounts.with(this.tools, async (mounts) => {
      const options = 'remount,bind,ro,nosuid,nodev,noexec,nosymfollow';
      await mounts.run('mount', ['--bind', '--', from, privatePlace]);
      await mounts.run('mount', ['-o', options, '--', privatePlace]);
      const args = ['--archive', '--reflink=auto', '--one-file-system', '--no-target-directory'];
      await mounts.run('cp', [...args, '--', `${privatePlace}/.`, to], {
        timeoutMs: longMs,
        signal: making.signal,
      });
    });
  }

  async snapshot(locker: string, snapshot: string, making: Making): Promise<void> {
    const directory = this.snapshotsOf(locker);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const path = this.unfinished(directory, making.change);
    mkdirSync(path, { mode: 0o700 });
    await this.newProject(path);
    const { limit = 0n } = (await this.usage([this.place(locker)])).get(this.place(locker)) ?? {};
    await this.copy(this.place(locker), path, making);
    renameSync(path, this.newSnapshotPath(locker, snapshot, limit));
  }

  protected async copyBack(from: string, to: string, size: bigint, making: Making): Promise<void> {
    const path = this.unfinished(this.path, making.change);
    mkdirSync(path, { mode: 0o700 });
    const project = await this.newProject(path);
    if (size > 0n) await this.limit(project, size);
    await this.copy(from, path, making);
    renameSync(path, to);
  }

  /** Removes a directory that has nothing in it, with the limit of its project. */
  private async removeEmpty(path: string): Promise<Leftover | undefined> {
    if (this.statOf(path) === undefined) return undefined;
    const project = await this.projectOf(path);
    try {
      rmdirSync(path);
    } catch (error) {
      if (codeOf(error) !== 'ENOTEMPTY') throw error;
      return { what: path, remedy: `rm -r --one-file-system -- ${path}` };
    }
    if (Number(project) >= firstProject) await this.limit(project, 0n);
    return undefined;
  }

  async undo({ change, locker, snapshot }: Undone): Promise<Leftover | undefined> {
    const isCopy = snapshot !== undefined;
    const directory = isCopy ? this.snapshotsOf(locker) : this.path;
    const done = isCopy ? this.findSnapshot(locker, snapshot)?.path : this.place(locker);
    const left = await this.removeEmpty(this.unfinished(directory, change));
    if (left !== undefined) return left;
    const leftToo = done === undefined ? undefined : await this.removeEmpty(done);
    if (isCopy) this.removeEmptySnapshots(locker);
    return leftToo;
  }

  async destroy(locker: string, snapshot?: string): Promise<void> {
    const path =
      snapshot === undefined ? this.place(locker) : this.findSnapshot(locker, snapshot)?.path;
    const left = path === undefined ? undefined : await this.removeEmpty(path);
    if (left === undefined) {
      this.removeEmptySnapshots(locker);
      return;
    }
    throw new LockerdError(
      'Failed',
      `${left.what} has files in it, and lockerd removes none; to do it yourself: ${left.remedy}`,
    );
  }
}
