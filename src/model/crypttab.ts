/** Who opens an encrypted volume: the boot, or whoever needs it (`noauto`). */
export type Opened = 'boot' | 'demand';

/** Devices that crypttab(5) has a line for, as paths. */
export function crypttabDevices(text: string): ReadonlyMap<string, Opened> {
  const devices = new Map<string, Opened>();
  for (const line of text.split('\n')) {
    const [name = '', , , options = ''] = line.trim().split(/[ \t]+/);
    if (name === '' || name.startsWith('#')) continue;
    const opened = options.split(',').includes('noauto') ? 'demand' : 'boot';
    devices.set(`/dev/mapper/${name}`, opened);
  }
  return devices;
}
