/** Lockers whose device the host does not have, and read-only ones that the kernel cannot lock. */
import { devicePath } from '../model/device-path.ts';
import { printable } from '../model/unit-syntax.ts';
import type { Subject } from './subject.ts';
import { presenceOf } from './subject.ts';

export function checkLockers(subject: Subject): void {
  if (!subject.isRunning) return;
  checkDevices(subject);
  checkLock(subject);
}

const namespacesFile = '/proc/sys/user/max_user_namespaces';

/** mount.lockerd locks mounts by a way through a user namespace. */
function checkLock({ host, containers, isWanted, findings }: Subject): void {
  if (host.readText(namespacesFile).text?.trim() !== '0') return;
  for (const { name, unit } of containers) {
    const locker = unit.wormhole?.attachments.find(({ readOnly }) => readOnly)?.locker;
    if (locker === undefined || !isWanted(name)) continue;
    const what = `the kernel cannot lock the read-only locker "${printable(locker)}" without user namespaces`;
    const remedy =
      'set user.max_user_namespaces above 0 in /etc/sysctl.d, and restart the container';
    findings.add('read-only-unlocked', name, { file: namespacesFile, line: 0 }, what, remedy);
  }
}

function checkDevices(subject: Subject): void {
  const { facts, findings, mountPoints } = subject;
  for (const { name, path, file, line } of facts.host.lockers.values()) {
    if (file !== '/etc/fstab' || mountPoints.has(path)) continue;
    const entry = facts.host.fstab.find((each) => each.line === line);
    const device = entry === undefined ? undefined : devicePath(entry.source);
    // systemd opens it on demand.
    if (device === undefined || facts.host.crypttab?.has(device) === true) continue;
    if (presenceOf(subject, device) !== 'absent') continue;
    const what = `the locker "${printable(name)}" is on ${printable(entry?.source ?? '')}, which is not there`;
    const remedy = 'correct the line, activate the volume, or write "nofail" among its options';
    findings.add('locker-absent', undefined, { file, line }, what, remedy);
  }
}
