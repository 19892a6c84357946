/** The partition that is a container's root file system, where lxc.rootfs.path is a whole disk. */
import type { Problem } from '../model/problem.ts';
import { parseRootfs } from '../model/rootfs.ts';
import type { ContainerFacts, Partition } from './container.ts';

/** What the setting `rootfs-partition` means for a container; pure. */
export function decidePartition({
  config,
  settings: { rootfsPartition },
}: Pick<ContainerFacts, 'config' | 'settings'>): {
  readonly partition?: Partition;
  readonly problems: readonly Problem[];
} {
  if (rootfsPartition === undefined) return { problems: [] };
  const disk = diskOf(config.rootfsPath?.value);
  if (disk !== undefined)
    return { partition: { number: rootfsPartition.value, disk }, problems: [] };
  const problem = {
    file: rootfsPartition.file,
    line: rootfsPartition.line,
    reason: '"rootfs-partition" needs a root file system in a disk image or on a block device',
    remedy: 'remove it, or write lxc.rootfs.path = loop:IMAGE or lvm:DEVICE',
  };
  return { problems: [problem] };
}

function diskOf(rootfsPath: string | undefined): string | undefined {
  const parsed = rootfsPath === undefined ? undefined : parseRootfs(rootfsPath);
  if (parsed === undefined || 'reason' in parsed) return undefined;
  const { type, paths, devices } = parsed.rootfs;
  if (type === 'loop') return paths[0];
  return type === 'device' || type === 'lvm' ? devices[0] : undefined;
}
