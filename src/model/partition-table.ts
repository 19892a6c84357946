/** Recognises a disk that is divided into partitions, by its first bytes. */

const signature = Array.from('EFI PART', (character) => character.charCodeAt(0));
const sectorSizes = [512, 4096];
const mbrEntries = 4;
/** No disk of a guest has more, whatever its table says. */
const gptEntriesMax = 128;

/** How much of a disk {@link partitionsOf} needs: a GPT of large sectors with all its entries. */
export const partitionTableBytes = 6 * 4096;

/**
 * Numbers of the partitions that the first bytes of a disk name; empty for a disk that has no partition
 * table, such as one with a file system. A guest may have written them: nothing else is believed.
 * @param diskBytes size of the whole disk
 */
export function partitionsOf(head: Uint8Array, diskBytes: number): number[] {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const sector = sectorSizes.find((size) =>
    signature.every((byte, index) => head[size + index] === byte),
  );
  if (sector !== undefined) return gptPartitions(view, sector);
  return hasExt(view) || hasXfs(view) ? [] : mbrPartitions(view, diskBytes);
}

/** Superblocks of file systems that leave room for a boot sector, or begin with their own. */
function hasExt(view: DataView): boolean {
  return view.byteLength >= 1082 && view.getUint16(1080, true) === 0xef53;
}

function hasXfs(view: DataView): boolean {
  return view.byteLength >= 4 && view.getUint32(0) === 0x58465342;
}

function gptPartitions(view: DataView, sector: number): number[] {
  if (view.byteLength < sector + 92) return [];
  const size = view.getUint32(sector + 84, true);
  const count = Math.min(view.getUint32(sector + 80, true), gptEntriesMax);
  if (size < 128 || size > 4096) return [];
  const numbers: number[] = [];
  for (let index = 0; index < count; index++) {
    // The table follows the header on all disks that anything has made.
    const at = 2 * sector + index * size;
    if (at + 16 > view.byteLength) break;
    if (view.getBigUint64(at) !== 0n || view.getBigUint64(at + 8) !== 0n) numbers.push(index + 1);
  }
  return numbers;
}

/** A boot sector without partitions has code there, which is no such table. */
function mbrPartitions(view: DataView, diskBytes: number): number[] {
  if (view.byteLength < 512 || view.getUint16(510) !== 0x55aa) return [];
  const numbers: number[] = [];
  for (let index = 0; index < mbrEntries; index++) {
    const at = 446 + 16 * index;
    if (![0, 0x80].includes(view.getUint8(at))) return [];
    const start = view.getUint32(at + 8, true);
    if (view.getUint8(at + 4) === 0) continue;
    if (start === 0 || start * 512 >= diskBytes) return [];
    numbers.push(index + 1);
  }
  return numbers;
}
