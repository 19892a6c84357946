/** Whether the root file system is on a disk with partitions, of which the container uses none. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { partitionsOf, partitionTableBytes } from '../model/partition-table.ts';
import { parseRootfs } from '../model/rootfs.ts';
import { printable } from '../model/unit-syntax.ts';
import type { CheckedContainer, Subject } from './subject.ts';
import { presenceOf } from './subject.ts';

export function checkPartitions(subject: Subject, { name, facts }: CheckedContainer): void {
  const { rootfsPath } = facts.config;
  if (rootfsPath === undefined || facts.settings.rootfsPartition !== undefined) return;
  const parsed = parseRootfs(rootfsPath.value);
  if ('reason' in parsed || parsed.rootfs.type !== 'loop') return;
  const [image] = parsed.rootfs.paths;
  // A file system that does not answer is not waited for.
  if (image === undefined || presenceOf(subject, image) !== 'there') return;
  const numbers = partitionsIn(subject.files.locate(subject.root, image));
  if (numbers.length === 0) return;
  subject.findings.add(
    'image-partitioned',
    name,
    rootfsPath,
    `the image ${printable(image)} is a whole disk with the partitions ${numbers.join(' ')}`,
    `write "rootfs-partition = ${numbers.at(-1)}", or another of them, into /etc/lockerd/containers/${printable(name)}.conf`,
  );
}

/** Empty also for what cannot be read, which other checks tell. */
function partitionsIn(path: string): number[] {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return [];
  }
  try {
    const status = fstatSync(fd);
    if (!status.isFile()) return [];
    const head = new Uint8Array(partitionTableBytes);
    return partitionsOf(head.subarray(0, readSync(fd, head, 0, head.length, 0)), status.size);
  } catch {
    return [];
  } finally {
    closeSync(fd);
  }
}
