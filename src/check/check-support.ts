/** Whether the host has LXC, and its kernel what LXC needs. */
import { lxcRelease, releaseInLibrary } from '../host/lxc-release.ts';
import type { Subject } from './subject.ts';
import { presenceOf } from './subject.ts';

export function checkSupport(subject: Subject): void {
  checkLxc(subject);
  checkFstab(subject);
  if (!subject.isRunning) {
    const what = 'there is no /proc of a running host here';
    const remedy = 'run the check on the host itself, without LOCKERD_ROOT';
    subject.findings.add('not-seen', undefined, { file: '/proc', line: 0 }, what, remedy);
    return;
  }
  checkNamespaces(subject);
  checkControlGroups(subject);
}

/** The first release that lockerd works with. */
const oldestMajor = 4;
const libraryMaxBytes = 16 * 1024 * 1024;

function checkLxc(subject: Subject): void {
  const { host, findings } = subject;
  const program = { file: '/usr/bin/lxc-start', line: 0 };
  if (presenceOf(subject, program.file) === 'absent') {
    findings.add('lxc-missing', undefined, program, 'LXC is not installed', 'run: apt install lxc');
    return;
  }
  for (const directory of host.libraryDirectories()) {
    const file = `${directory}/liblxc.so.1`;
    const bytes = host.bytes(file, libraryMaxBytes);
    const found = bytes === undefined ? undefined : releaseInLibrary(bytes);
    if (found === undefined || Number.parseInt(found.name, 10) >= oldestMajor) continue;
    const what = `LXC ${found.name} is installed`;
    findings.add(
      'lxc-old',
      undefined,
      { file, line: 0 },
      what,
      'upgrade the host to LXC 4 or later',
    );
  }
  const release = lxcRelease(host)();
  if (release?.isNewer !== true) return;
  const what = `LXC ${release.name} is newer than this lockerd`;
  findings.add('lxc-newer', undefined, program, what, 'upgrade lockerd when there is a newer one');
}

function checkFstab({ facts, findings }: Subject): void {
  for (const { target, type, line } of facts.host.fstab) {
    if (type !== 'cgroup' && type !== 'cgroup2') continue;
    const what = `the line mounts control groups at ${target}`;
    findings.add('cgroup-fstab', undefined, { file: '/etc/fstab', line }, what, 'remove the line');
  }
}

/** Namespaces that each container has, and the one of those with ids of their own. */
const namespaces = ['mnt', 'pid', 'uts', 'ipc', 'net'];

function checkNamespaces({ host, findings, containers }: Subject): void {
  const mapped = containers.find(({ facts }) => facts.config.idmaps.length > 0);
  for (const kind of mapped === undefined ? namespaces : [...namespaces, 'user']) {
    const file = `/proc/self/ns/${kind}`;
    if (host.isThere(file)) continue;
    const what = `the kernel has no ${kind} namespaces`;
    const remedy = 'boot a kernel that has them; "lxc-checkconfig" names its options';
    findings.add('kernel-namespace', undefined, { file, line: 0 }, what, remedy);
  }
}

const unified = '/sys/fs/cgroup/cgroup.controllers';

/** Controllers that LXC or the balloon use; on cgroup v2 the kernel has the freezer in any case. */
const controllers1 = ['memory', 'devices', 'freezer'];
const controllers2 = ['memory'];

function checkControlGroups({ host, findings, mountPoints }: Subject): void {
  const words = new Set(
    [...mountPoints]
      .filter((path) => path.startsWith('/sys/fs/cgroup/'))
      .flatMap((path) => path.slice(path.lastIndexOf('/') + 1).split(',')),
  );
  const found2 = (host.readText(unified).text ?? '').trim().split(/\s+/).filter(Boolean);
  const isUnified = host.isThere(unified);
  if (!isUnified && words.size === 0) {
    const at = { file: '/sys/fs/cgroup', line: 0 };
    const remedy = 'run: systemctl status -- -.mount; boot a kernel with control groups';
    findings.add('cgroup-missing', undefined, at, 'no control groups are mounted', remedy);
    return;
  }
  const missing = isUnified
    ? controllers2.filter((name) => !found2.includes(name))
    : controllers1.filter((name) => !words.has(name));
  for (const name of missing) {
    const at = { file: isUnified ? unified : '/sys/fs/cgroup', line: 0 };
    const what = `the controller "${name}" is not there`;
    const remedy = `look for cgroup_disable= in /proc/cmdline; some kernels need cgroup_enable=${name}`;
    findings.add('cgroup-controller', undefined, at, what, remedy);
  }
}
