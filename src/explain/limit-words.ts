/** What limits of processors, disks and tasks mean in words. */
import { formatBytes } from '../model/memory-limit.ts';

/** What a line of a device says: the words for its number, and the device. */
interface DeviceValue {
  readonly number: string;
  readonly device: string;
}

function deviceValue(value: string): DeviceValue {
  const [device = '', number = ''] = value.split(' ');
  return { device, number };
}

function bytesOf(number: string): string {
  return /^\d{1,20}$/.test(number) ? formatBytes(BigInt(number)) : number;
}

/** What came and what went, as sentences without their beginning. */
export interface DeviceWords {
  readonly came: (value: string) => string;
  readonly went: (value: string) => string;
}

function atMost(verb: string, preposition: string, unit: string): DeviceWords {
  const isBytes = unit === '/s';
  return {
    came: (value) => {
      const { device, number } = deviceValue(value);
      if (number === 'infinity') return `${verb} ${preposition} ${device} without a limit`;
      const amount = `${isBytes ? bytesOf(number) : number}${unit}`;
      return `${verb} ${preposition} ${device} at most ${amount}`;
    },
    went: (value) => {
      const { device, number } = deviceValue(value);
      const amount = `${isBytes ? bytesOf(number) : number}${unit}`;
      return `does not have the limit of ${amount} for what it ${verb} ${preposition} ${device} any more`;
    },
  };
}

/** By the settings of a unit. */
export const deviceWords = {
  IODeviceWeight: {
    came: (value) => {
      const { device, number } = deviceValue(value);
      return `has a weight of ${number} on ${device}`;
    },
    went: (value) => `does not have a weight of its own on ${deviceValue(value).device} any more`,
  },
  IOReadBandwidthMax: atMost('reads', 'from', '/s'),
  IOWriteBandwidthMax: atMost('writes', 'to', '/s'),
  IOReadIOPSMax: atMost('reads', 'from', ' times a second'),
  IOWriteIOPSMax: atMost('writes', 'to', ' times a second'),
} as const satisfies Readonly<Record<string, DeviceWords>>;
