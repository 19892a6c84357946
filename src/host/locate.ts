/** Where things of the host really are: systemd names mount units after paths without links. */
import type { FstabEntry } from '../model/fstab.ts';
import { parseFstab } from '../model/fstab.ts';
import { escapePath } from '../model/unit-name.ts';
import type { Opened } from '../model/crypttab.ts';
import { crypttabDevices } from '../model/crypttab.ts';
import type { Lockers } from './lockers.ts';
import { findLockers } from './lockers.ts';
import type { HostReader } from './read.ts';
import type { HostSettings } from './settings.ts';

/** Lines of fstab, each with what it is mounted on for systemd-fstab-generator(8). */
function readFstab(host: HostReader): FstabEntry[] {
  return parseFstab(host.text('/etc/fstab') ?? '').map((entry) => {
    if (!entry.target.startsWith('/')) return entry;
    const target = host.realPath(entry.target);
    return target === entry.target ? entry : { ...entry, target, written: entry.target };
  });
}

export interface Located {
  readonly fstab: readonly FstabEntry[];
  readonly lockers: Lockers;
  /** Devices that a line of crypttab(5) makes, by path. */
  readonly crypttab: ReadonlyMap<string, Opened>;
  /** With real paths of directories of the host. */
  readonly settings: HostSettings;
}

/** Finds what is mounted and where, for systemd refuses mount units whose path has a link in it. */
export function locateLockers(host: HostReader, settings: HostSettings): Located {
  const fstab = readFstab(host);
  const real = host.realPath(settings.lockerDirectory);
  const unitFiles = host.mountUnitFiles(`${escapePath(real)}-`);
  const crypttab = crypttabDevices(host.text('/etc/crypttab') ?? '');
  const directory = { written: settings.lockerDirectory, real };
  return {
    fstab,
    crypttab,
    lockers: findLockers(fstab, unitFiles, directory, host.hostMounts(), crypttab),
    settings: {
      ...settings,
      lockerDirectory: real,
      wormholeDirectory: host.realPath(settings.wormholeDirectory),
    },
  };
}
