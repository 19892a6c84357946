/** Limits beside those of memory as systemd's properties and settings. */
import type { LimitName } from '../model/guest-limits.ts';
import { deviceLimits, listedNumbers, listText, noLimit } from '../model/guest-limits.ts';
import { unlimited } from '../model/memory-limit.ts';
import { Variant } from '../bus/values.ts';
import { bytesProperty } from '../systemd/properties.ts';
import type { LastingLimit } from '../balloon/lasting.ts';

/** How systemd calls each in a unit file; its properties are called the same but for one. */
export const settingNames: Readonly<Record<LimitName, string>> = {
  'cpu-quota': 'CPUQuota',
  'cpu-weight': 'CPUWeight',
  cpus: 'AllowedCPUs',
  'memory-nodes': 'AllowedMemoryNodes',
  'io-weight': 'IOWeight',
  'io-read-bytes': 'IOReadBandwidthMax',
  'io-write-bytes': 'IOWriteBandwidthMax',
  'io-read-operations': 'IOReadIOPSMax',
  'io-write-operations': 'IOWriteIOPSMax',
  tasks: 'TasksMax',
};

/** One bit for each processor, the lowest first. */
function bitsOf(numbers: readonly number[]): Uint8Array {
  const bits = new Uint8Array(Math.floor(Math.max(-1, ...numbers) / 8) + 1);
  for (const number of numbers)
    bits[Math.floor(number / 8)] = (bits[Math.floor(number / 8)] ?? 0) | (1 << (number % 8));
  return bits;
}

function numberOf(text: string): bigint {
  return text === noLimit ? unlimited : BigInt(text);
}

function listLimit(setting: string, text: string): LastingLimit {
  const numbers = text === noLimit ? [] : listedNumbers(text);
  return {
    setting,
    // As systemd writes it.
    line: `${setting}=${listText(numbers).replaceAll(',', ' ')}`,
    property: [setting, new Variant('ay', bitsOf(numbers))],
  };
}

function deviceLimit(setting: string, text: string): LastingLimit {
  const limits = [...(deviceLimits(text) ?? [])].map(
    ([device, limit]) => [`/dev/block/${device}`, numberOf(limit)] as const,
  );
  const [first] = limits.filter(([, limit]) => limit !== unlimited);
  return {
    setting,
    line: first === undefined ? `${setting}=` : `${setting}=${first.join(' ')}`,
    property: [setting, new Variant('a(st)', limits)],
  };
}

/** A limit by its text, which has been checked. */
export function lastingLimit(name: LimitName, text: string): LastingLimit {
  const setting = settingNames[name];
  switch (name) {
    case 'cpus':
    case 'memory-nodes':
      return listLimit(setting, text);
    case 'io-read-bytes':
    case 'io-write-bytes':
    case 'io-read-operations':
    case 'io-write-operations':
      return deviceLimit(setting, text);
    case 'cpu-quota':
      return {
        setting,
        line: text === noLimit ? `${setting}=` : `${setting}=${BigInt(text) / 10_000n}%`,
        property: bytesProperty('CPUQuotaPerSecUSec', numberOf(text)),
      };
    case 'cpu-weight':
    case 'io-weight':
      return {
        setting,
        line: `${setting}=${text}`,
        property: bytesProperty(setting, BigInt(text)),
      };
    case 'tasks':
      return {
        setting,
        line: `${setting}=${text === noLimit ? 'infinity' : text}`,
        property: bytesProperty(setting, numberOf(text)),
      };
  }
}
