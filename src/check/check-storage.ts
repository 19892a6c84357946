/** Whether the host has what a container is made of: root file system, volume, image, mount sources. */
import { cleanAbsolutePath, isAtOrBelow } from '../model/path.ts';
import type { Located } from '../model/problem.ts';
import { parseRootfs } from '../model/rootfs.ts';
import { shellWord } from '../model/shell-quote.ts';
import { mountUnit } from '../model/unit-name.ts';
import { printable } from '../model/unit-syntax.ts';
import type { CheckId } from './catalog.ts';
import type { CheckedContainer, Subject } from './subject.ts';
import { presenceOf } from './subject.ts';

export function checkStorage(subject: Subject, container: CheckedContainer): void {
  const { config } = container.facts;
  if (config.rootfsPath !== undefined) checkRootfs(subject, container, config.rootfsPath);
  const places = new Map(
    config.mountEntries.map((entry) => [entry.value.split(/[ \t]+/)[0] ?? '', entry]),
  );
  for (const path of container.unit.startPaths) {
    const at = places.get(path) ?? { file: config.mountFstab?.value ?? config.file, line: 0 };
    checkPath(
      subject,
      container,
      { ...at, value: path },
      {
        id: 'source-missing',
        what: `the source ${printable(path)} of a mount is not there`,
        remedy: 'make it, mount it, or write "optional" among the options of the entry',
      },
    );
  }
}

interface Missing {
  readonly id: CheckId;
  readonly what: string;
  readonly remedy: string;
}

function checkRootfs(
  subject: Subject,
  container: CheckedContainer,
  rootfsPath: Located<string>,
): void {
  const parsed = parseRootfs(rootfsPath.value);
  if ('reason' in parsed) return;
  const { type, paths, devices } = parsed.rootfs;
  const isImage = type === 'loop' || type === 'nbd';
  for (const path of paths) {
    // A hook may make what the unit does not wait for.
    if (!container.unit.requiredPaths.includes(path)) continue;
    const shown = printable(path);
    checkPath(
      subject,
      container,
      { ...rootfsPath, value: path },
      {
        id: isImage ? 'image-missing' : 'rootfs-missing',
        what: isImage
          ? `the image ${shown} is not there`
          : `the root file system ${shown} is not there`,
        remedy: 'correct lxc.rootfs.path, or restore what was there',
      },
    );
  }
  for (const device of devices) {
    if (!container.unit.devices.includes(device)) continue;
    // systemd opens it on demand.
    if (subject.facts.host.crypttab?.has(device) === true) continue;
    checkPath(
      subject,
      container,
      { ...rootfsPath, value: device },
      {
        id: 'volume-missing',
        what: `the volume ${printable(device)} is not there`,
        remedy:
          'run "lvs" or "lsblk" to see which there are; activate it, or correct lxc.rootfs.path',
      },
    );
  }
}

/** What is below a mount that is not there now says nothing. */
function checkPath(
  { root, files, facts, findings, mountPoints, isRunning }: Subject,
  { name }: CheckedContainer,
  { value: path, file, line }: Located<string>,
  missing: Missing,
): void {
  const at = { file, line };
  // Devices are the running host's.
  if (path.startsWith('/dev/') && !isRunning) return;
  const real = facts.realPath(path);
  const unmounted = facts.host.fstab.find(({ target }) => {
    const clean = cleanAbsolutePath(target);
    return (
      clean !== undefined && clean !== '/' && isAtOrBelow(real, clean) && !mountPoints.has(clean)
    );
  });
  if (unmounted !== undefined) {
    const what = `${printable(path)} is below ${printable(unmounted.target)}, which is not mounted now`;
    findings.add(
      'not-seen',
      name,
      at,
      what,
      `run: systemctl start ${shellWord(mountUnit(unmounted.target))}`,
    );
    return;
  }
  const presence = presenceOf({ root, files }, path);
  if (presence === 'there') return;
  if (presence === 'absent') findings.add(missing.id, name, at, missing.what, missing.remedy);
  else {
    const what = `${printable(path)} cannot be looked at: ${presence.why}`;
    findings.add('not-seen', name, at, what, 'run the check as root, when the file system answers');
  }
}
