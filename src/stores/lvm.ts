/**
 * Stores of logical volumes: `lvm` takes them from a volume group, `lvm-thin` from a thin pool.
 *
 * A locker NAME is the volume locker-NAME; tags tell what is ours: `lockerd.locker` is on each, and
 * `lockerd.change=ID` on what an unfinished change has made, from the moment on at which it exists. A copy is
 * a volume with the tag `lockerd.snapshot=SNAPSHOT`, and LVM itself knows whose copy it is.
 */

import type { VolumeStore } from '../host/store-settings.ts';
import { LockerdError } from '../model/errors.ts';
import { formatBytes } from '../model/memory-limit.ts';
import { copyDevice } from './copy-device.ts';
import type {
  Driver,
  Leftover,
  Making,
  MountSource,
  NewLocker,
  StoredLocker,
  StoredSnapshot,
  StoreSpace,
  Undone,
} from './driver.ts';
import {
  checkFileSystemSize,
  growFileSystem,
  makeFileSystem,
  renewFileSystem,
} from './file-systems.ts';
import type { Layer } from './layer.ts';
import type { LogicalVolume, VolumeGroup } from './lvm-report.ts';
import { aboutGroup, parseGroup, parseVolumes, volumesIn } from './lvm-report.ts';
import { throwFull } from './space.ts';
import type { Tools } from './tools.ts';
import { ToolError } from './tools.ts';

const lockerTag = 'lockerd.locker';
const snapshotTag = 'lockerd.snapshot=';

function changeTag(change: string): string {
  return `lockerd.change=${change}`;
}

function volumeOf(locker: string): string {
  return `locker-${locker}`;
}

/** Parts of names that lvm(8) keeps for itself. */
const reserved =
  /_(?:cdata|cmeta|corig|cvol|imeta|iorig|mimage|mlog|pmspare|rimage|rmeta|tdata|tmeta|vdata|vorigin|wcorig)/;

/** DM_NAME_LEN of the kernel, without the NUL and what LVM puts behind the names of originals and copies. */
const mapperNameMax = 127 - '-real'.length;

/** Name of a volume for the kernel, in which LVM doubles each dash. */
function mapperName(group: string, volume: string): string {
  return [group, volume].map((part) => part.replaceAll('-', '--')).join('-');
}

/** Space for the differences of a copy: a fifth of the original. */
const copyPart = 5n;
const copyMin = 64n * 1024n * 1024n;

/** From this part of a pool that is taken on, nothing new is put into it; per cent. */
const poolFull = 95;

/** Options of lvcreate(8) for a new volume of a store. @param size bytes */
export function placeFor({ thinPool }: VolumeStore, size: bigint): string[] {
  if (thinPool !== undefined) return ['--virtualsize', `${size}b`, '--thinpool', thinPool];
  // An old signature in these blocks must neither survive nor be asked about.
  return ['--wipesignatures', 'y', '--zero', 'y', '--size', `${size}b`];
}

export class LvmDriver implements Driver {
  readonly settings: VolumeStore;
  readonly modules: readonly string[];
  readonly #tools: Tools;

  constructor(settings: VolumeStore, tools: Tools) {
    this.settings = settings;
    // lvcreate looks for the latter even where it makes a thin snapshot.
    this.modules = settings.type === 'lvm-thin' ? ['dm_thin_pool', 'dm_snapshot'] : ['dm_snapshot'];
    this.#tools = tools;
  }

  private get isThin(): boolean {
    return this.settings.type === 'lvm-thin';
  }

  private full(volume: string): string {
    return `${this.settings.volumeGroup}/${volume}`;
  }

  private device(volume: string): string {
    return `/dev/${this.full(volume)}`;
  }

  // What is there

  private async group(): Promise<VolumeGroup> {
    const { name, volumeGroup } = this.settings;
    const noGroup = (cause?: unknown): LockerdError =>
      new LockerdError(
        'NoSuchStore',
        `store "${name}" is not there: this host has no volume group "${volumeGroup}"; see "vgs"`,
        { cause },
      );
    const report = await this.#tools.run('vgs', aboutGroup(volumeGroup)).catch((error: unknown) => {
      throw error instanceof ToolError ? noGroup(error) : error;
    });
    const group = parseGroup(report);
    if (group === undefined) throw noGroup();
    return group;
  }

  private async volumes(): Promise<LogicalVolume[]> {
    try {
      const report = await this.#tools.run('lvs', volumesIn(this.settings.volumeGroup));
      return parseVolumes(report);
    } catch (error) {
      // A group that is not there is reported in words of ours.
      if (error instanceof ToolError) await this.group();
      throw error;
    }
  }

  private pool(volumes: readonly LogicalVolume[]): LogicalVolume {
    const { name, volumeGroup, thinPool = '' } = this.settings;
    const pool = volumes.find((volume) => volume.name === thinPool);
    if (pool !== undefined) return pool;
    throw new LockerdError(
      'NoSuchStore',
      `store "${name}" is not there: volume group "${volumeGroup}" has no thin pool "${thinPool}"`,
    );
  }

  async space(): Promise<StoreSpace> {
    const { fileSystem } = this.settings;
    if (!this.isThin) {
      const { size, free } = await this.group();
      return { size, free, fileSystem };
    }
    const { size, dataPercent = 0 } = this.pool(await this.volumes());
    // LVM reports hundredths of a per cent.
    const free = (size * BigInt(10_000 - Math.round(dataPercent * 100))) / 10_000n;
    return { size, free, fileSystem };
  }

  async lockers(): Promise<StoredLocker[]> {
    const volumes = await this.volumes();
    return volumes
      .filter(({ name, tags }) => name.startsWith('locker-') && tags.includes(lockerTag))
      .map(({ name, size }) => ({
        locker: name.slice('locker-'.length),
        size,
        snapshots: volumes.filter((volume) => volume.origin === name).flatMap(snapshotOf),
      }));
  }

  private async find(locker: string): Promise<LogicalVolume | undefined> {
    return (await this.volumes()).find(({ name }) => name === volumeOf(locker));
  }

  /** Throws NoSuchSnapshot. */
  private async findSnapshot(locker: string, snapshot: string): Promise<LogicalVolume | undefined> {
    return (await this.volumes()).find(
      ({ origin, tags }) =>
        origin === volumeOf(locker) && tags.includes(`${snapshotTag}${snapshot}`),
    );
  }

  // Sizes

  checkName(locker: string): void {
    const volume = volumeOf(locker);
    const isLong = mapperName(this.settings.volumeGroup, volume).length > mapperNameMax;
    if (!isLong && !reserved.test(volume)) return;
    const why = isLong ? 'is too long' : 'has a part that LVM keeps for itself';
    throw new LockerdError('InvalidArgs', `no volume can be named "${volume}", which ${why}`);
  }

  async check(
    locker: string,
    size: bigint,
    now = 0n,
  ): Promise<{ size: bigint; warnings: string[] }> {
    const { name, volumeGroup, fileSystem } = this.settings;
    this.checkName(locker);
    checkFileSystemSize(fileSystem, size);
    const { extent, free } = await this.group();
    const rounded = ((size + extent - 1n) / extent) * extent;
    const warnings =
      rounded === size ? [] : [`the size is ${rounded} bytes, as volumes are made of ${extent}`];
    if (this.isThin) {
      warnings.push(...(await this.checkPool(rounded, now)));
    } else if (rounded - now > free) {
      throw new LockerdError(
        'NoSpace',
        `store "${name}" has ${formatBytes(free)} left; ask for less, or give volume group ` +
          `"${volumeGroup}" another disk (vgextend)`,
      );
    }
    if (now > 0n && rounded > now) await this.refuseCopied(locker);
    return { size: rounded, warnings };
  }

  /** Throws LockerBusy for a volume that LVM does not grow while it is in use, as it has copies on write. */
  private async refuseCopied(locker: string): Promise<void> {
    if (this.isThin) return;
    const copies = (await this.volumes()).filter(({ origin }) => origin === volumeOf(locker));
    if (copies.length === 0) return;
    const names = copies.map((copy) => snapshotOf(copy)[0]?.name ?? this.full(copy.name));
    throw new LockerdError(
      'LockerBusy',
      `locker "${locker}" has snapshots (${names.join(', ')}), with which LVM grows no volume of this kind; ` +
        'destroy them first, or restore one into a new locker',
    );
  }

  /** A pool may have promised more than it has, but no single volume may be larger than it. */
  private async checkPool(size: bigint, now: bigint): Promise<string[]> {
    const { name, thinPool = '' } = this.settings;
    const volumes = await this.volumes();
    const pool = this.pool(volumes);
    const full = (pool.dataPercent ?? 0) >= poolFull;
    if (full || size > pool.size) {
      throw new LockerdError(
        'NoSpace',
        full
          ? `${pool.dataPercent ?? 0} % of store "${name}" are taken; make thin pool "${thinPool}" larger (lvextend)`
          : `thin pool "${thinPool}" of store "${name}" has ${formatBytes(pool.size)} in all; ask for less, or ` +
              'make it larger (lvextend)',
      );
    }
    const promised = volumes
      .filter((volume) => volume.pool === thinPool)
      .reduce((sum, volume) => sum + volume.size, 0n);
    return promised - now + size > pool.size
      ? [`the volumes of store "${name}" are larger than it when all of them are full`]
      : [];
  }

  // Making

  /** The options of lvcreate that no new volume is without. */
  private newVolume(volume: string, tags: readonly string[]): string[] {
    const all = tags.flatMap((tag) => ['--addtag', tag]);
    return ['--quiet', '--yes', '--name', volume, ...all];
  }

  private async makeVolume(
    locker: string,
    size: bigint,
    { change, signal }: Making,
  ): Promise<void> {
    const { volumeGroup } = this.settings;
    const tags = [lockerTag, changeTag(change)];
    const place = placeFor(this.settings, size);
    const args = [...this.newVolume(volumeOf(locker), tags), ...place, '--', volumeGroup];
    await this.lvm('lvcreate', args, signal);
  }

  /** Runs a tool that may find no space. */
  private async lvm(
    program: 'lvcreate' | 'lvextend',
    args: readonly string[],
    signal?: AbortSignal,
  ): Promise<void> {
    try {
      await this.#tools.run(program, args, { signal });
    } catch (error) {
      throwFull(this.settings.name, error);
    }
  }

  async create({ locker, size, root, layer }: NewLocker, making: Making): Promise<void> {
    making.progress('volume', 0);
    await this.makeVolume(locker, size, making);
    const device = this.device(volumeOf(locker));
    await layer.make(device, making.signal);
    making.progress('file-system', 0.5);
    const opened = await layer.open(device);
    try {
      await makeFileSystem(this.#tools, this.settings.fileSystem, opened, root, making.signal);
    } finally {
      await layer.close();
    }
  }

  source(locker: string, layer: Layer): MountSource {
    const what = layer.source(this.device(volumeOf(locker)));
    return { what, type: this.settings.fileSystem, options: [], needs: [] };
  }

  async finish(change: string): Promise<void> {
    for (const { name } of await this.madeBy(change)) {
      await this.#tools.run('lvchange', [
        '--quiet',
        '--deltag',
        changeTag(change),
        '--',
        this.full(name),
      ]);
    }
  }

  private async madeBy(change: string): Promise<LogicalVolume[]> {
    return (await this.volumes()).filter(({ tags }) => tags.includes(changeTag(change)));
  }

  async undo({ change, locker, snapshot }: Undone): Promise<Leftover | undefined> {
    if (snapshot !== undefined) await this.resume(locker);
    for (const { name } of await this.madeBy(change)) {
      await this.#tools.run('lvremove', ['--quiet', '--yes', '--', this.full(name)]);
    }
    return undefined;
  }

  async grow(
    locker: string,
    size: bigint,
    layer: Layer,
    mountPoint: string | undefined,
  ): Promise<void> {
    const volume = volumeOf(locker);
    const now = await this.find(locker);
    if (now === undefined) throw this.gone(locker);
    if (now.size < size) {
      await this.lvm('lvextend', ['--quiet', '--size', `${size}b`, '--', this.full(volume)]);
    } else await this.resume(locker);
    const device = this.device(volume);
    const opened = await layer.open(device);
    await layer.grow(device);
    try {
      await growFileSystem(this.#tools, this.settings.fileSystem, opened, mountPoint);
    } finally {
      if (mountPoint === undefined) await layer.close();
    }
  }

  /** Lets a volume go on that stands still since LVM was killed while it changed it. */
  private async resume(locker: string): Promise<void> {
    await this.#tools.run('lvchange', ['--quiet', '--refresh', '--', this.full(volumeOf(locker))]);
  }

  private gone(locker: string): LockerdError {
    const { volumeGroup } = this.settings;
    return new LockerdError(
      'NoSuchLocker',
      `volume group "${volumeGroup}" has no volume "${volumeOf(locker)}" any more; see "lvs"`,
    );
  }

  async rename(from: string, to: string): Promise<void> {
    const names = new Set((await this.volumes()).map(({ name }) => name));
    if (!names.has(volumeOf(from)) && names.has(volumeOf(to))) return;
    const args = ['--quiet', '--', this.settings.volumeGroup, volumeOf(from), volumeOf(to)];
    await this.#tools.run('lvrename', args);
  }

  // Copies

  async snapshot(locker: string, snapshot: string, { change, progress }: Making): Promise<void> {
    progress('volume', 0);
    const now = await this.find(locker);
    if (now === undefined) throw this.gone(locker);
    const tags = [`${snapshotTag}${snapshot}`, changeTag(change)];
    const size = now.size / copyPart > copyMin ? now.size / copyPart : copyMin;
    // LVM stops the file system meanwhile, so that the copy is whole.
    const space = this.isThin ? [] : ['--size', `${size}b`];
    const args = [...this.newVolume(`lockersnap-${change}`, tags), '--snapshot', ...space];
    await this.lvm('lvcreate', [...args, '--', this.full(volumeOf(locker))]);
  }

  async restore(
    { locker, snapshot }: { locker: string; snapshot: string },
    to: string,
    layer: Layer,
    making: Making,
  ): Promise<void> {
    const copy = await this.findSnapshot(locker, snapshot);
    const problem = copy === undefined ? undefined : snapshotOf(copy)[0]?.problem;
    if (copy === undefined || problem !== undefined) {
      throw copy === undefined
        ? new LockerdError('NoSuchSnapshot', `locker "${locker}" has no snapshot "${snapshot}"`)
        : new LockerdError('Failed', `snapshot "${snapshot}" of locker "${locker}": ${problem}`);
    }
    making.progress('copy', 0);
    const device = this.device(volumeOf(to));
    if (this.isThin) {
      const tags = [lockerTag, changeTag(making.change)];
      // A snapshot is not activated by default; a locker is.
      const active = ['--snapshot', '--setactivationskip', 'n', '--activate', 'y'];
      const args = [...this.newVolume(volumeOf(to), tags), ...active, '--', this.full(copy.name)];
      await this.lvm('lvcreate', args, making.signal);
    } else {
      const size = copy.originSize ?? copy.size;
      await this.makeVolume(to, size, making);
      await copyDevice(this.device(copy.name), device, Number(size), making);
    }
    making.progress('file-system', 0);
    await layer.renew(device);
    const opened = await layer.open(device);
    try {
      await renewFileSystem(this.#tools, this.settings.fileSystem, opened);
    } finally {
      await layer.close();
    }
  }

  async destroy(locker: string, snapshot?: string): Promise<void> {
    const found =
      snapshot === undefined ? await this.find(locker) : await this.findSnapshot(locker, snapshot);
    if (found === undefined) return;
    const isOurs = found.tags.some((tag) => tag === lockerTag || tag.startsWith(snapshotTag));
    if (!isOurs) {
      throw new LockerdError(
        'Failed',
        `lockerd has not made volume "${this.full(found.name)}"; remove it with lvremove`,
      );
    }
    await this.#tools.run('lvremove', ['--quiet', '--yes', '--', this.full(found.name)]);
  }

  place(locker: string): string {
    return this.device(volumeOf(locker));
  }
}

/** The snapshot that a volume is; none for any other volume. */
function snapshotOf(volume: LogicalVolume): StoredSnapshot[] {
  const tag = volume.tags.find((one) => one.startsWith(snapshotTag));
  const isUnfinished = volume.tags.some((one) => one.startsWith(changeTag('')));
  if (tag === undefined || isUnfinished) return [];
  const { size, originSize, dataPercent = 0, createdSec, isInvalid } = volume;
  const problem = isInvalid
    ? 'more has changed since than it has space for, so that it is lost'
    : undefined;
  return [
    {
      name: tag.slice(snapshotTag.length),
      createdUsec: createdSec * 1_000_000n,
      size: originSize ?? size,
      used: (size * BigInt(Math.round(dataPercent * 100))) / 10_000n,
      ...(problem === undefined ? {} : { problem }),
    },
  ];
}
