/** Which devices and interfaces the host itself makes, as far as its configuration names them. */
import type { HostReader } from './read.ts';

/**
 * Whether a block device is there under a name that systemd has no unit for: a link that udev did
 * not make, or a device that udev does not tell systemd of. Before udev runs, nobody knows.
 */
export function isWithoutUnit(
  host: Pick<HostReader, 'blockDevice' | 'isThere' | 'readText' | 'linkTarget'>,
  path: string,
): boolean {
  const number = host.blockDevice(path);
  if (number === undefined || !host.isThere('/run/udev/data')) return false;
  const sysfs = `/sys/dev/block/${number}`;
  // Such as a loop device without a file, which may get one.
  if (host.readText(`${sysfs}/size`).text?.trim() === '0') return false;
  const known = host.readText(`/run/udev/data/b${number}`).text?.split('\n') ?? [];
  if (known.includes('E:SYSTEMD_READY=0')) return false;
  const kernelName = host.linkTarget(sysfs)?.replace(/^.*\//s, '').replaceAll('!', '/');
  const names = [...(kernelName === undefined ? [] : [`S:${kernelName}`]), ...known];
  return !known.includes('G:systemd') || !names.includes(path.replace(/^\/dev\//, 'S:'));
}

/** Where the programs that set up networks have their configuration. */
const networkDirectories = [
  '/etc/network/interfaces.d',
  '/etc/systemd/network',
  '/run/systemd/network',
  '/usr/lib/systemd/network',
  '/etc/netplan',
  '/etc/NetworkManager/system-connections',
  '/run/NetworkManager/system-connections',
  '/etc/libvirt/qemu/networks',
];

/** More files than any host has there that is not under attack. */
const maxFiles = 1000;

/** Whether a word of the network configuration is an interface; reads it when first asked. */
export function interfaceNames(host: HostReader): (name: string) => boolean {
  let words: ReadonlySet<string> | undefined;
  return (name) => {
    words ??= new Set(networkTexts(host).flatMap((text) => text.split(/[\s"'<>=:,;/[\]{}]+/)));
    return words.has(name);
  };
}

function networkTexts(host: HostReader): string[] {
  const files = networkDirectories
    .flatMap((directory) => host.list(directory).map((name) => `${directory}/${name}`))
    .slice(0, maxFiles);
  return ['/etc/network/interfaces', ...files].map((path) => {
    const text = host.readText(path).text ?? '';
    return text.replaceAll(/^[ \t]*#.*$/gm, '');
  });
}
