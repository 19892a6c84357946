/** Disk images with partition tables, written byte by byte: also those that no tool would write. */
import fs from 'node:fs';
import { crc32 } from 'node:zlib';

const mib = 1024 * 1024;

/** A partition by its first sector and their number, of 512 bytes or as the table counts. */
export interface PartitionEntry {
  readonly start: number | bigint;
  readonly sectors: number | bigint;
  /** The type in an MBR. */
  readonly type?: number;
}

/** The first sector of a disk with an MBR; at most four partitions. */
export function mbr(partitions: readonly PartitionEntry[]): Buffer {
  const sector = Buffer.alloc(512);
  for (const [index, { start, sectors, type = 0x83 }] of partitions.entries()) {
    const at = 446 + 16 * index;
    sector[at + 4] = type;
    sector.writeUInt32LE(Number(start), at + 8);
    sector.writeUInt32LE(Number(sectors), at + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

const entrySize = 128;
const entries = 128;
/** The type of Linux's file systems, as it is on the disk. */
const linuxData = Buffer.from('af3dc60f838472478e793d69d8477de4', 'hex');

/** The head of a disk with a GPT, without the second copy at its end. */
export function gpt(
  partitions: readonly PartitionEntry[],
  diskBytes: number,
  sectorSize = 512,
): Buffer {
  const table = Buffer.alloc(entrySize * entries);
  for (const [index, { start, sectors }] of partitions.entries()) {
    const at = entrySize * index;
    linuxData.copy(table, at);
    table.fill(index + 1, at + 16, at + 32);
    table.writeBigUInt64LE(BigInt(start), at + 32);
    table.writeBigUInt64LE(BigInt(start) + BigInt(sectors) - 1n, at + 40);
  }
  const last = Math.floor(diskBytes / sectorSize) - 1;
  const tableSectors = Math.ceil(table.length / sectorSize);
  const header = Buffer.alloc(92);
  header.write('EFI PART', 0, 'latin1');
  header.writeUInt32LE(0x10000, 8);
  header.writeUInt32LE(header.length, 12);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(BigInt(last), 32);
  header.writeBigUInt64LE(BigInt(2 + tableSectors), 40);
  header.writeBigUInt64LE(BigInt(last - tableSectors - 1), 48);
  header.fill(7, 56, 72);
  header.writeBigUInt64LE(2n, 72);
  header.writeUInt32LE(entries, 80);
  header.writeUInt32LE(entrySize, 84);
  header.writeUInt32LE(crc32(table), 88);
  header.writeUInt32LE(crc32(header), 16);
  const head = Buffer.alloc((2 + tableSectors) * sectorSize);
  mbr([{ start: 1, sectors: last, type: 0xee }]).copy(head);
  header.copy(head, sectorSize);
  table.copy(head, 2 * sectorSize);
  return head;
}

/** Makes an image of so many MiB with a partition table, and file systems at some MiB of it. */
export function writeDisk(
  file: string,
  sizeMib: number,
  head: Buffer,
  contents: readonly { readonly atMib: number; readonly from: string }[] = [],
): void {
  const fd = fs.openSync(file, 'w');
  try {
    fs.ftruncateSync(fd, sizeMib * mib);
    fs.writeSync(fd, head, 0, head.length, 0);
    for (const { atMib, from } of contents) {
      const bytes = fs.readFileSync(from);
      fs.writeSync(fd, bytes, 0, bytes.length, atMib * mib);
    }
  } finally {
    fs.closeSync(fd);
  }
}
