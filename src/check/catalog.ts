/**
 * Every check of `lockerctl check`: how much it matters, and why. lockerctl-check(8) has the same ones, a
 * test compares.
 */

/** `error`: a container does not start. `warning`: something will go wrong. `info`: good to know. */
export type Severity = 'error' | 'warning' | 'info';

interface Check {
  readonly severity: Severity;
  /** Why it matters, in sentences. */
  readonly why: string;
}

export const checks = {
  'config-refused': {
    severity: 'error',
    why: 'The unit of the container refuses to start until this is mended.',
  },
  'old-key': {
    severity: 'error',
    why: 'Since version 3, LXC refuses a configuration that has a key of LXC 0.9 to 2.',
  },
  'cgroup1-refused': {
    severity: 'error',
    why: 'The installed LXC knows no limits of cgroup v1 and refuses the configuration.',
  },
  'cgroup1-key': {
    severity: 'warning',
    why: 'LXC 7 refuses a configuration with limits of cgroup v1: after that upgrade the container does not start.',
  },
  'config-suspect': {
    severity: 'warning',
    why: 'LXC or lockerd takes this otherwise than it was surely meant.',
  },
  'classic-hooks': {
    severity: 'warning',
    why: 'While it has these hooks, lockerd gives the container no lockers, and can attach none.',
  },
  'host-refused': {
    severity: 'error',
    why: 'What cannot be read or named has no effect, for one container or for all of them.',
  },
  'host-suspect': {
    severity: 'warning',
    why: 'What concerns no container in particular is not as it was surely meant.',
  },
  'boot-skipped': {
    severity: 'warning',
    why: 'The container has lxc.start.auto = 1, but the next boot does not start it.',
  },
  'not-seen': {
    severity: 'info',
    why: 'This could not be looked at, so the checks that need it say nothing.',
  },
  'lxc-missing': { severity: 'error', why: 'Without lxc-start no container starts.' },
  'lxc-old': {
    severity: 'error',
    why: 'lockerd needs LXC 4: earlier ones lack what its units tell them.',
  },
  'lxc-newer': {
    severity: 'info',
    why: 'This LXC may refuse or add keys that this lockerd does not know.',
  },
  'kernel-namespace': {
    severity: 'error',
    why: 'LXC cannot make a container without this kind of namespace.',
  },
  'cgroup-missing': {
    severity: 'error',
    why: 'Without control groups LXC starts no container.',
  },
  'cgroup-controller': {
    severity: 'warning',
    why: 'Limits of this controller have no effect, or make LXC refuse the start.',
  },
  'cgroup-fstab': {
    severity: 'error',
    why: 'systemd mounts the control groups. This mount fails, and the host boots into emergency mode, or hides what systemd has mounted.',
  },
  'rootfs-missing': { severity: 'error', why: 'LXC cannot start without the root file system.' },
  'volume-missing': {
    severity: 'error',
    why: 'The start waits for the device for 90 seconds and then fails.',
  },
  'image-missing': { severity: 'error', why: 'LXC cannot start without the image.' },
  'image-partitioned': {
    severity: 'error',
    why: 'LXC mounts the whole image and finds no file system at its beginning.',
  },
  'source-missing': {
    severity: 'error',
    why: 'LXC does not start when the source of a mount is missing.',
  },
  'bridge-missing': {
    severity: 'error',
    why: 'The start waits for bridge-timeout, and then LXC fails for want of the interface.',
  },
  'bridge-down': {
    severity: 'info',
    why: 'The host has a configuration for the interface. Until it is up, containers cannot start.',
  },
  'hwaddr-random': {
    severity: 'info',
    why: 'At each start LXC makes up another hardware address: leases, firewalls and switches see a new machine.',
  },
  'hwaddr-double': {
    severity: 'warning',
    why: "Two machines with one hardware address on a network lose each other's packets.",
  },
  'init-missing': {
    severity: 'error',
    why: 'LXC starts this program as the first process of the guest.',
  },
  'halt-unheard': {
    severity: 'warning',
    why: 'A guest that does not shut down on its halt signal is killed after stop-timeout, at each stop and each shutdown of the host.',
  },
  'cap-sys-boot': {
    severity: 'warning',
    why: 'Without CAP_SYS_BOOT a reboot inside the guest fails, and so does the last step of a shutdown.',
  },
  'memory-over-host': {
    severity: 'warning',
    why: 'The kernel never reaches a limit above the memory of the host, so nothing is limited.',
  },
  'cpus-over-host': {
    severity: 'warning',
    why: 'cgroup v1 refuses processors that the host does not have, and LXC with it; cgroup v2 ignores them.',
  },
  'subid-refused': {
    severity: 'error',
    why: 'Where newuidmap is installed, LXC maps only ids that are reserved for root, and fails otherwise.',
  },
  'subid-unreserved': {
    severity: 'warning',
    why: 'useradd may give the ids to a user of the host, to whom files and processes of the guest then belong.',
  },
  'stop-timeout': {
    severity: 'warning',
    why: "When the time of the host's shutdown is over, systemd cuts the power, whoever still runs.",
  },
  'locker-unprotected': {
    severity: 'warning',
    why: 'Without nosuid and nodev, root of a guest can make himself root of the host with the help of any user of it.',
  },
  'locker-absent': {
    severity: 'warning',
    why: 'The locker cannot be mounted. A container whose own or configured locker it is does not start.',
  },
  'store-refused': {
    severity: 'warning',
    why: 'No locker can be made in the store, and none from it can grow or be copied, until this is mended.',
  },
  'change-unfinished': {
    severity: 'warning',
    why: 'A change of a locker is under way, or was killed and not brought to an end: a part of a locker may be left.',
  },
  'read-only-unlocked': {
    severity: 'warning',
    why: 'Read-only is only advice then: root in a privileged container can make the locker writable.',
  },
  'second-starter': {
    severity: 'warning',
    why: 'A container that something else starts runs outside its unit, which then cannot start it, and nothing stops it in time.',
  },
  'init-script': {
    severity: 'info',
    why: 'The init script is not run any more. Its name and its runlevel links still work.',
  },
  'also-libvirt': {
    severity: 'warning',
    why: 'If both start the container, two systems write to one root file system.',
  },
  'also-incus': {
    severity: 'warning',
    why: 'If both start the container, two systems have one name, and may have one address or root file system.',
  },
  'also-pacemaker': {
    severity: 'warning',
    why: 'lockerd may start the container here, at boot or when its data comes, while the cluster runs it on another host.',
  },
  'cluster-enabled': {
    severity: 'warning',
    why: 'Only the cluster starts the container. The boot tries it as well, and its unit refuses that.',
  },
  'cluster-mount': {
    severity: 'warning',
    why: 'A file system of a disk that two nodes have in common is lost when both mount it.',
  },
  'cluster-absent': {
    severity: 'warning',
    why: 'Only the cluster starts the container, and it does not know of it.',
  },
  'cluster-files': {
    severity: 'info',
    why: 'Where another node has other ones, the container has other settings, limits or lockers there.',
  },
  'moved-away': {
    severity: 'info',
    why: 'The unit of the container does not start here, so that it does not run on two hosts.',
  },
  'drop-in-masked': {
    severity: 'warning',
    why: "A file of the same name in a directory that goes before takes the place of lockerd's own.",
  },
  'drop-in-defeats': {
    severity: 'warning',
    why: "The setting comes after lockerd's own, or harms what the unit of a container has to do.",
  },
} as const satisfies Readonly<Record<string, Check>>;

export type CheckId = keyof typeof checks;
