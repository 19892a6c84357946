import type { Located, Problem } from './problem.ts';

/** One `lxc.net.N.*` interface, with the fields that matter for ordering. */
export interface NetInterface {
  readonly index: number;
  readonly type?: Located<string>;
  /** The host device the interface is attached to: a bridge for veth, the parent for macvlan. */
  readonly link?: Located<string>;
}

/** A line whose key is one of several. */
export interface KeyedLine {
  /** The whole key. */
  readonly key: string;
  readonly located: Located<string>;
}

/**
 * One container's configuration after includes, clears and repeats, as LXC understands it
 * (lxc.container.conf(5)). Values are as LXC holds them: quotes stripped, nothing unescaped. A key
 * that is absent or was cleared is undefined or an empty list.
 */
export interface LxcConfig {
  /** Absolute path of the container's own configuration file. */
  readonly file: string;
  /** The whole value of lxc.rootfs.path, type prefix included. */
  readonly rootfsPath?: Located<string>;
  readonly initCmd?: Located<string>;
  /** The log file that the admin has configured for LXC. */
  readonly logFile?: Located<string>;
  readonly utsName?: Located<string>;
  /** Signal number of lxc.signal.halt; Linux x86 numbering, 1 to 64. */
  readonly haltSignal?: Located<number>;
  /** Signal number of lxc.signal.reboot, as it is configured. */
  readonly rebootSignal?: Located<number>;
  readonly startAuto: boolean;
  readonly startOrder: number;
  /** Seconds LXC would wait before it starts the next container. */
  readonly startDelaySec: number;
  readonly groups: readonly string[];
  readonly mountEntries: readonly Located<string>[];
  readonly mountFstab?: Located<string>;
  /** Values of the hooks that run on the host while a container starts, and of post-stop. */
  readonly hooks: readonly Located<string>[];
  /** Hooks that run on the host before LXC needs what they may make there, with their keys. */
  readonly makers?: readonly { readonly key: string; readonly hook: Located<string> }[];
  /** Lines of lxc.cgroup.dir and its like, with their keys. */
  readonly groupDirectories?: readonly KeyedLine[];
  /** Values of lxc.idmap, such as `u 0 100000 65536`. */
  readonly idmaps: readonly Located<string>[];
  readonly nets: readonly NetInterface[];
  /** Lines of `lxc.cgroup.memory.*` and `lxc.cgroup2.memory.*`. */
  readonly memory: readonly KeyedLine[];
  /** The same of the controllers cpu, cpuset, io, blkio and pids. */
  readonly limits?: readonly KeyedLine[];
  /** Every file that was read, the container's own first. */
  readonly files: readonly string[];
  /**
   * Why LXC would refuse this configuration; empty when it would accept it. In file order, with the
   * limits of cgroup v1 at the end of their file.
   */
  readonly problems: readonly Problem[];
  /** Lines that LXC accepts but that the admin surely did not mean. */
  readonly warnings: readonly Problem[];
}
