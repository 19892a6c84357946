import { isAtOrBelow, kernelPaths } from '../model/path.ts';
import { system } from './system.ts';

/** A mounted file system that may keep a reader waiting for ever. */
export interface RiskyMount {
  readonly path: string;
  readonly type: string;
  /** It is not asked. */
  readonly isDistrusted: boolean;
  /** systemd mounts it on demand, but cannot while it waits for its generators. */
  readonly onDemand: boolean;
}

/** Asks which mount points answer, the first one above all; the others may be left out. */
export type Probe = (paths: readonly string[]) => ReadonlySet<string>;

/** An access that would wait for a file system that does not answer. */
export class HungError extends Error {
  override readonly name = 'HungError';
  readonly code = 'EHUNG';
  readonly remedy: string;

  constructor(mount: RiskyMount) {
    super(
      mount.onDemand
        ? `it is below ${mount.path}, which is not mounted now`
        : `it is on the ${mount.type} file system at ${mount.path}, which does not answer`,
    );
    const when = mount.onDemand ? 'is mounted' : 'answers';
    this.remedy = `run "systemctl daemon-reload" when ${mount.path} ${when}`;
  }
}

/** Types that wait for nothing but this kernel. */
const kernelTypes = new Set(
  (
    'bdev binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl ' +
    'hugetlbfs mqueue nsfs proc pstore ramfs rpc_pipefs securityfs selinuxfs sysfs tmpfs tracefs'
  ).split(' '),
);

/** Types that wait for this kernel and its disks. What is in neither list may always hang. */
const diskTypes = new Set(
  (
    'bcachefs btrfs cramfs erofs exfat ext2 ext3 ext4 f2fs iso9660 jfs msdos ntfs3 overlay ' +
    'reiserfs squashfs ubifs udf vfat xfs zfs'
  ).split(' '),
);

/**
 * Disks that are not touched, as if they did not answer: the file systems of some mount points, or
 * all but the one with the root directory. Without that one, nobody lives.
 */
export type Distrusted = ReadonlySet<string> | 'other disks';

interface Mount extends RiskyMount {
  readonly isRisky: boolean;
}

/** Undoes the octal escapes of mountinfo. */
function decode(field: string): string {
  if (!field.includes('\\')) return field;
  return field.replaceAll(/\\([0-7]{3})/g, (_, code: string) =>
    String.fromCharCode(parseInt(code, 8)),
  );
}

/** The mount points of a mount table (proc_pid_mountinfo(5)); the last at a path is on top. */
export class MountTable {
  private readonly mounts = new Map<string, Mount>();
  /** Whether any path needs to be looked at. */
  readonly isRisky: boolean;
  /** Whether a reader may have to wait for anything but the disk with the root directory. */
  readonly mayWait: boolean;

  constructor(mountinfo: string, distrusted: Distrusted = new Set()) {
    const overlays: [Mount, string][] = [];
    const rootDevice = / (\d+:\d+) \S+ \/ [^\n]*$/m.exec(mountinfo)?.[1];
    let mayWait = false;
    for (const line of mountinfo.split('\n')) {
      const fields = line.split(' ');
      const dash = fields.indexOf('-', 6);
      if (dash < 0) continue;
      const [device, path = ''] = [fields[2], decode(fields[4] ?? '')];
      const [type = '', options = ''] = [fields[dash + 1], fields[dash + 3]];
      const onDemand = type === 'autofs' && options.split(',').includes('pgrp=1');
      // Nothing is read below the idle automount of /proc that every host has.
      if (path === '/' || (onDemand && kernelPaths.some((at) => isAtOrBelow(path, at)))) continue;
      const isOther = !kernelTypes.has(type) && !onDemand && device !== rootDevice;
      mayWait ||= isOther;
      const isDistrusted = distrusted === 'other disks' ? isOther : distrusted.has(path);
      const isRisky = isDistrusted || !(kernelTypes.has(type) || diskTypes.has(type));
      const mount = { path, type, onDemand, isDistrusted, isRisky };
      this.mounts.set(path, mount);
      if (type === 'overlay') overlays.push([mount, options]);
    }
    // An overlay waits for its layers, whose mounts may be listed behind it.
    for (const [mount, options] of overlays) {
      if (this.mounts.get(mount.path) !== mount) continue;
      const layers = decode(options)
        .split(/[,:]/)
        .map((layer) => layer.slice(layer.indexOf('=') + 1));
      if (layers.some((layer) => layer.startsWith('/') && this.riskAt(layer) !== undefined)) {
        this.mounts.set(mount.path, { ...mount, isRisky: true });
      }
    }
    this.mayWait = mayWait;
    this.isRisky = [...this.mounts.values()].some((mount) => mount.isRisky);
  }

  /** The risky file system that a path without symbolic links lies on. */
  riskAt(path: string): RiskyMount | undefined {
    for (let at = path; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) {
      const mount = this.mounts.get(at);
      if (mount !== undefined) return mount.isRisky ? mount : undefined;
    }
    return undefined;
  }

  /** Mount points of all risky file systems that can be asked. */
  riskyPaths(): string[] {
    return [...this.mounts.values()]
      .filter((mount) => mount.isRisky && !mount.onDemand && !mount.isDistrusted)
      .map((mount) => mount.path);
  }
}

const deadlineSec = 2;

/**
 * One process for each mount asks it for a name that no cache knows, and writes its number. They
 * are not waited for: what sleeps in the kernel cannot even be killed. None of them holds what the
 * one that started this waits for.
 */
const probeProgram = `
use strict;
$SIG{PIPE} = 'IGNORE';
pipe(my $in, my $out) or exit 1;
my @children;
for my $index (0 .. $#ARGV) {
    my $child = fork;
    next if !defined $child;
    push @children, $child;
    next if $child;
    close STDIN; close STDOUT; close STDERR; close $in;
    lstat "$ARGV[$index]/.lockerd-$$";
    syswrite $out, "$index\\n";
    exit 0;
}
close $out;
my ($answers, $end, $others) = ('', time + ${deadlineSec}, 4);
my $started = time;
for (;;) {
    my $bits = '';
    vec($bits, fileno $in, 1) = 1;
    my $found = select $bits, undef, undef, 0.05;
    if ($found > 0) { last if !sysread $in, $answers, 4096, length $answers; }
    elsif ($answers =~ /^0$/m) { last if --$others <= 0; }
    last if time > $end;
}
print $answers;
kill 'KILL', @children;
`;

/** Asks mounts in processes of their own, for a few seconds at the most. */
export const probeMounts: Probe = (paths) => {
  const command = ['/usr/bin/perl', '-e', probeProgram, '--', ...paths];
  const output = system.outputOf(command, deadlineSec + 3);
  // Where nobody can ask, files are read as if all were well.
  if (output === undefined) return new Set(paths);
  const answered = new Set(output.split('\n'));
  return new Set(paths.filter((_, index) => answered.has(String(index))));
};

/** Keeps a reader from file systems that do not answer. */
export class MountGuard {
  private readonly table: MountTable;
  private readonly probe: Probe;
  private readonly answers = new Map<string, boolean>();
  private readonly idle = new Set<string>();
  /** Whether an idle automount is worth another look. */
  isNoted = true;

  constructor(mountinfo: string, probe: Probe = probeMounts, distrusted?: Distrusted) {
    this.table = new MountTable(mountinfo, distrusted);
    this.probe = probe;
  }

  get isNeeded(): boolean {
    return this.table.isRisky;
  }

  /** Whether a reader may have to wait for anything but the disk with the root directory. */
  get mayWait(): boolean {
    return this.table.mayWait;
  }

  /** Throws a HungError for a path that must not be touched; the path has no symbolic links. */
  check(path: string): void {
    const mount = this.table.riskAt(path);
    if (mount === undefined) return;
    if (mount.onDemand && this.isNoted) this.idle.add(mount.path);
    if (mount.onDemand || mount.isDistrusted || !this.doesAnswer(mount.path))
      throw new HungError(mount);
  }

  /** The mount point of the file system that may hang and that a path without links lies on. */
  riskAt(path: string): string | undefined {
    return this.table.riskAt(path)?.path;
  }

  /** Mount points of automounts that {@link check} was asked about while they were idle. */
  get idleAutomounts(): readonly string[] {
    return [...this.idle].sort();
  }

  private doesAnswer(path: string): boolean {
    const known = this.answers.get(path);
    if (known !== undefined) return known;
    // All at once, so that they hang at the same time and not one after the other.
    const others = this.table.riskyPaths().filter((one) => one !== path && !this.answers.has(one));
    const asked = [path, ...others.slice(0, 255)];
    const answered = this.probe(asked);
    const isWhole = !answered.has(path);
    for (const one of asked) {
      // Where the first one answered at once, the others had too little time to be called hung.
      if (answered.has(one)) this.answers.set(one, true);
      else if (isWhole) this.answers.set(one, false);
    }
    return answered.has(path);
  }
}
