/** Asks `lvs` and `vgs`, and reads what they report. */

const asJson = ['--reportformat', 'json', '--units', 'b', '--nosuffix'];

/** A logical volume, as far as it matters here. */
export interface LogicalVolume {
  readonly name: string;
  readonly uuid: string;
  /** Bytes; of a copy in a volume group without thin pools, what is kept for differences. */
  readonly size: bigint;
  /** Of a copy in a volume group without thin pools: bytes of the original when it was copied. */
  readonly originSize?: bigint;
  /** The volume that it is a copy of; empty for none. */
  readonly origin: string;
  readonly tags: readonly string[];
  /** Per cent of its space that is taken; undefined where LVM does not say. */
  readonly dataPercent?: number;
  readonly createdSec: bigint;
  readonly pool: string;
  readonly isActive: boolean;
  /** Its space has overflowed; LVM knows that only of one that is active. */
  readonly isInvalid: boolean;
}

const volumeFields =
  'lv_name,lv_uuid,lv_size,origin,origin_size,lv_tags,data_percent,lv_time,pool_lv,lv_active,lv_snapshot_invalid';

export interface VolumeGroup {
  readonly size: bigint;
  readonly free: bigint;
  readonly extent: bigint;
}

const groupFields = 'vg_size,vg_free,vg_extent_size';

/** Arguments of lvs(8) for {@link parseVolumes}. */
export function volumesIn(group: string): string[] {
  return [...asJson, '--config', 'report/time_format="%s"', '-o', volumeFields, '--', group];
}

/** Arguments of vgs(8) for {@link parseGroup}. */
export function aboutGroup(group: string): string[] {
  return [...asJson, '-o', groupFields, '--', group];
}

/** Rows of a report; throws an Error for what is none. */
function rowsOf(text: string, kind: 'lv' | 'vg'): Readonly<Record<string, unknown>>[] {
  const value = JSON.parse(text) as { report?: Partial<Record<string, unknown>>[] };
  const rows = value.report?.[0]?.[kind];
  if (!Array.isArray(rows)) throw new Error(`LVM did not report any "${kind}"`);
  return rows as Readonly<Record<string, unknown>>[];
}

function textOf(row: Readonly<Record<string, unknown>>, field: string): string {
  const value = row[field];
  if (typeof value !== 'string') throw new Error(`LVM did not report "${field}"`);
  return value;
}

function bytesOf(row: Readonly<Record<string, unknown>>, field: string): bigint {
  const text = textOf(row, field);
  if (!/^[0-9]{1,20}$/.test(text)) throw new Error(`LVM reported "${text}" as "${field}"`);
  return BigInt(text);
}

export function parseVolumes(text: string): LogicalVolume[] {
  return rowsOf(text, 'lv').map((row) => {
    const percent = textOf(row, 'data_percent');
    const created = textOf(row, 'lv_time');
    return {
      name: textOf(row, 'lv_name'),
      uuid: textOf(row, 'lv_uuid'),
      size: bytesOf(row, 'lv_size'),
      ...(textOf(row, 'origin_size') === '' ? {} : { originSize: bytesOf(row, 'origin_size') }),
      origin: textOf(row, 'origin'),
      tags: textOf(row, 'lv_tags').split(',').filter(Boolean),
      ...(percent === '' ? {} : { dataPercent: Number(percent) }),
      createdSec: /^[0-9]{1,15}$/.test(created) ? BigInt(created) : 0n,
      pool: textOf(row, 'pool_lv'),
      isActive: textOf(row, 'lv_active') === 'active',
      isInvalid: textOf(row, 'lv_snapshot_invalid') === 'snapshot invalid',
    };
  });
}

/** Undefined where there is no such volume group. */
export function parseGroup(text: string): VolumeGroup | undefined {
  const [row] = rowsOf(text, 'vg');
  if (row === undefined) return undefined;
  return {
    size: bytesOf(row, 'vg_size'),
    free: bytesOf(row, 'vg_free'),
    extent: bytesOf(row, 'vg_extent_size'),
  };
}
