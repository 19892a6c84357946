/** Drop-ins of the host that take the place of lockerd's own or undo what they say. */
import { shellWord } from '../model/shell-quote.ts';
import { containerUnit } from '../model/unit-name.ts';
import { printable } from '../model/unit-syntax.ts';
import type { Subject } from './subject.ts';
import { dropInsOf, unitAssignments } from '../host/unit-text.ts';

/** Our own drop-ins by name. */
const ours = [
  '30-lockerd.conf',
  '40-limits.conf',
  '50-lockerd.conf',
  '60-container.conf',
  '70-memory.conf',
];

/** The last of ours that says what an admin's may not undo. */
const lastOfOurs = '60-container.conf';

/** Settings that undo ours when they come later, and why. */
const overriding: Readonly<Record<string, string>> = {
  Type: 'the unit is then active before the container runs',
  NotifyAccess: 'nobody can then report that the container runs',
  ExecStart: 'the container is then started otherwise',
  ExecStop: 'the guest is then stopped otherwise, and twice',
  KillMode: 'a stop then kills the guest, or leaves it running',
  KillSignal: 'the guest then gets another signal than it shuts down on',
  SendSIGKILL: 'a guest that does not shut down then runs on',
  Delegate: 'systemd then takes the control groups of the guest away',
  OOMPolicy: 'one process killed for want of memory then stops the whole guest',
  RuntimeDirectory: 'the unit then has no place for its sockets and its log',
};

const itsNamespace = 'lockers that are attached later then do not appear in the container';
const itsRights = 'lxc-start then has not the rights that it needs';

/** Settings that harm wherever they come, and why. */
const harming: Readonly<Record<string, string>> = {
  DelegateSubgroup: 'LXC then finds its own control group occupied',
  PrivateTmp: itsNamespace,
  PrivateMounts: itsNamespace,
  PrivateDevices: itsNamespace,
  ProtectSystem: itsNamespace,
  ProtectHome: itsNamespace,
  ProtectKernelTunables: itsNamespace,
  ProtectControlGroups: itsNamespace,
  ReadOnlyPaths: itsNamespace,
  InaccessiblePaths: itsNamespace,
  PrivateNetwork: 'LXC then finds no bridge',
  User: itsRights,
  DynamicUser: itsRights,
  NoNewPrivileges: itsRights,
  CapabilityBoundingSet: itsRights,
  RestrictNamespaces: itsRights,
  SystemCallFilter: itsRights,
  DefaultDependencies: 'nothing then stops the container before file systems are unmounted',
};

/** Settings that switch something off, which is what each unit has without them. */
const off = /^(?:|no|false|off|0)$/i;

export function checkDropIns(subject: Subject): void {
  const { containers, isWanted } = subject;
  check(subject, undefined, ['lxc@.service.d', 'service.d']);
  check(subject, undefined, ['lxc.service.d', 'service.d']);
  for (const { name } of containers.filter((each) => isWanted(each.name))) {
    check(subject, name, [`${containerUnit(name)}.d`, 'lxc@.service.d']);
  }
}

function check(
  { host, findings }: Subject,
  container: string | undefined,
  directories: readonly string[],
): void {
  const [own = ''] = directories;
  for (const { name, path, hidden } of dropInsOf(host, directories)) {
    // What is in the template's directory is told once, of the host.
    if (container !== undefined && !path.includes(`/${own}/`)) continue;
    const masked = hidden.find((each) => each.startsWith('/usr/lib/') || each.startsWith('/run/'));
    if (ours.includes(name) && masked !== undefined && path.startsWith('/etc/')) {
      const what = `the file takes the place of ${printable(masked)}`;
      const other = path.slice(0, -name.length) + `80-${name}`;
      const remedy = `give it another name: mv ${shellWord(path)} ${shellWord(other)}`;
      findings.add('drop-in-masked', container, { file: path, line: 0 }, what, remedy);
    }
    if (isOurs(name, path)) continue;
    for (const { key, value, line } of unitAssignments(host.readText(path).text ?? '')) {
      const why = whyHarmful(own, name, key, value);
      if (why === undefined) continue;
      const what = `${key}=${printable(value.slice(0, 80))}: ${why}`;
      const remedy = `remove the line, then run: systemctl daemon-reload`;
      findings.add('drop-in-defeats', container, { file: path, line }, what, remedy);
    }
  }
}

function isOurs(name: string, path: string): boolean {
  return ours.includes(name) && !path.startsWith('/etc/');
}

function whyHarmful(
  directory: string,
  name: string,
  key: string,
  value: string,
): string | undefined {
  if (directory === 'lxc.service.d') {
    const isRun =
      ['ExecStart', 'ExecStop'].includes(key) && !/^(?:|\/(?:usr\/)?bin\/true)$/.test(value);
    return isRun && name > '50-lockerd.conf'
      ? 'lxc.service then starts or kills containers behind the back of their units'
      : undefined;
  }
  if (Object.hasOwn(overriding, key) && name > lastOfOurs) {
    return isHarmless(key, value) ? undefined : overriding[key];
  }
  if (!Object.hasOwn(harming, key)) return undefined;
  // Of these two, "no" is what harms and what does not.
  if (key === 'DefaultDependencies') return off.test(value) ? harming[key] : undefined;
  return off.test(value) ? undefined : harming[key];
}

/** The values that lockerd's own drop-ins have. */
function isHarmless(key: string, value: string): boolean {
  const same: Readonly<Record<string, RegExp>> = {
    Type: /^notify$/,
    NotifyAccess: /^(?:main|exec|all)$/,
    KillMode: /^mixed$/,
    SendSIGKILL: /^(?:yes|true|on|1)$/i,
    Delegate: /^(?:yes|true|on|1)$/i,
    OOMPolicy: /^continue$/,
  };
  return same[key]?.test(value) ?? false;
}
