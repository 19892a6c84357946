import { readFileSync } from 'node:fs';
import path from 'node:path';
import { escapeInstance } from '../../src/model/unit-name.ts';
import type { TestHost } from './test-host.ts';

/** What memory-load.pl does in a guest. */
export type LoadKind = 'steady' | 'busy' | 'saw' | 'growing' | 'locked' | 'file' | 'dirty';

export interface Load {
  readonly kind: LoadKind;
  readonly processes: number;
  readonly mib: number;
  /** Where files go, in the guest. */
  readonly directory?: string;
}

/** The last line of the helper's answer to `balloon`. */
export interface BalloonAnswer {
  readonly ok: boolean;
  readonly error?: string;
  readonly message?: string;
  readonly lowest?: string;
  readonly before?: string;
  readonly limit?: string;
  readonly swap?: string;
  readonly warnings?: readonly string[];
  readonly stallUsec?: number;
  readonly reclaimed?: string;
  /** The lines before the answer. */
  readonly progress: readonly { readonly phase: string; readonly progress: number }[];
}

export interface BalloonOptions {
  readonly swap?: string;
  readonly force?: boolean;
  readonly persist?: boolean;
}

export const mib = 2 ** 20;

/** Not in Node, which starts slowly on an emulated host. */
const client = '/usr/local/bin/ask-helper';
const clientText = `#!/usr/bin/perl
use IO::Socket::UNIX;
my $socket = IO::Socket::UNIX->new('/run/lockerd/helper.sock') or die "helper: $!";
syswrite $socket, "$ARGV[0]\\n";
print while <$socket>;
`;
const loadProgram = path.join(import.meta.dirname, 'guest/memory-load.pl');

/** A container of systemd's or sysvinit's kind, whose memory is changed and used up. */
export class MemoryGuest {
  readonly host: TestHost;
  readonly name: string;
  readonly unit: string;
  #group = '';
  #guestGroup = '';
  #isV2 = false;

  constructor(host: TestHost, name: string) {
    this.host = host;
    this.name = name;
    this.unit = `lxc@${escapeInstance(name)}.service`;
  }

  /** Puts the programs into host and guest; for a host that is off. */
  async prepare(): Promise<void> {
    const text = readFileSync(loadProgram, 'utf8');
    const program = `/var/lib/lxc/${this.name}/rootfs/usr/local/bin/memory-load`;
    await this.host.writeFile(program, text, 0o755);
    await this.host.writeFile(client, clientText, 0o755);
  }

  async start(): Promise<void> {
    await this.host.run('systemctl', ['start', this.unit], { timeoutMs: 180_000 });
    await this.host.waitForGuest(this.name);
    await this.locate();
  }

  /** Finds the unit's control group and the guest's, which is another one after a reboot. */
  async locate(): Promise<void> {
    const group = (await this.host.unit(this.unit))['ControlGroup'] ?? '';
    this.#isV2 = await this.host.exists('/sys/fs/cgroup/cgroup.controllers');
    this.#group = `/sys/fs/cgroup${this.#isV2 ? '' : '/memory'}${group}`;
    const script = 'find "$1" -type d -name "lxc.payload.$2*" | tail -n 1';
    const { stdout } = await this.host.run('sh', ['-c', script, 'sh', this.#group, this.name]);
    this.#guestGroup = stdout.trim();
  }

  get isV2(): boolean {
    return this.#isV2;
  }

  /** Directory of the unit's group, or of the guest's below it. */
  group(part: 'unit' | 'guest' = 'unit'): string {
    return part === 'unit' ? this.#group : this.#guestGroup;
  }

  async file(name: string, part: 'unit' | 'guest' = 'unit'): Promise<string> {
    return (await this.host.readFile(`${this.group(part)}/${name}`)).trim();
  }

  /** The limit in the kernel: bytes or `max`. */
  async kernelLimit(part: 'unit' | 'guest' = 'unit'): Promise<string> {
    const text = await this.file(this.#isV2 ? 'memory.max' : 'memory.limit_in_bytes', part);
    return text.length >= 19 ? 'max' : text;
  }

  async usage(): Promise<number> {
    return Number(await this.file(this.#isV2 ? 'memory.current' : 'memory.usage_in_bytes'));
  }

  /** What systemd calls the limit: bytes or `max`. */
  async systemdLimit(): Promise<string> {
    const text = (await this.host.unit(this.unit))['MemoryMax'] ?? '';
    return text === 'infinity' ? 'max' : text;
  }

  /**
   * The limit as everybody sees it, or what each says where they differ; with the word of
   * "systemctl status", which rounds.
   */
  async limit(): Promise<string> {
    const [kernel, systemd] = [await this.kernelLimit(), await this.systemdLimit()];
    const args = ['status', '--no-pager', this.unit];
    const { stdout } = await this.host.run('systemctl', args, { reject: false });
    // Also "swap max: 1G" may be there.
    const [, word = 'max'] = /Memory: .*?(?<!swap )(?:max|limit): ([^ ,)]+)/.exec(stdout) ?? [];
    // Newer versions of systemd write 2G, older ones 2.0G.
    const shown = word.replace(/\.0(?=[A-Z]$)/, '');
    const isShown = shown === (kernel === 'max' ? 'max' : formatStatus(Number(kernel)));
    if (kernel === systemd && isShown) return kernel;
    return `kernel ${kernel}, show ${systemd}, status ${shown}`;
  }

  /** What a trial could leave behind in the guest's group; empty when it is as LXC made it. */
  async leftovers(): Promise<string[]> {
    const expected: Record<string, RegExp> = this.#isV2
      ? { 'memory.high': /^max$/, 'memory.max': /^max$/, 'cgroup.freeze': /^0$/ }
      : { 'memory.limit_in_bytes': /^9\d{18}$/, 'memory.oom_control': /^oom_kill_disable 0$/m };
    const found: string[] = [];
    for (const [name, pattern] of Object.entries(expected)) {
      const text = await this.file(name, 'guest');
      if (!pattern.test(text)) found.push(`${name}: ${text}`);
    }
    if (await this.host.exists(`/run/lockerd/balloon/${this.unit}/undo`)) found.push('undo');
    return found;
  }

  /** Ends when a balloon has begun to try a limit. */
  async untilTried(): Promise<void> {
    await this.host.waitFor('a limit is tried', async () =>
      this.host.exists(`/run/lockerd/balloon/${this.unit}/undo`),
    );
  }

  /** Processes of the guest that the kernel killed since it started; Infinity when it is gone. */
  async kills(): Promise<number> {
    const script = this.#isV2
      ? 'cat "$1/memory.events"'
      : 'find "$1" -name memory.oom_control -exec cat {} +';
    const args = ['-euc', script, 'sh', this.group('guest')];
    const { stdout, exitCode } = await this.host.run('sh', args, { reject: false });
    if (exitCode !== 0 || stdout === '') return Infinity;
    return [...stdout.matchAll(/^oom_kill (\d+)$/gm)].reduce((sum, [, n]) => sum + Number(n), 0);
  }

  /** Starts a load; ends when it holds what it wants for the first time. */
  async load({ kind, processes, mib: amount, directory = '/var/tmp' }: Load): Promise<void> {
    const output = `/run/memory-load.${this.name}`;
    const script = `: >${output}; lxc-attach -n "$0" --clear-env -- /usr/local/bin/memory-load "$@" >${output} 2>&1 </dev/null &`;
    const args = [kind, String(processes), String(amount), directory];
    await this.host.run('sh', ['-euc', script, this.name, ...args]);
    await this.host.waitFor(`${kind} load is ready`, async () => {
      const text = await this.host.readFile(output);
      if (text.includes('ready')) return true;
      if (text !== '') throw new Error(`memory-load: ${text}`);
      return false;
    });
  }

  /** Ends all loads and removes their files; the guest's cache goes as well. */
  async unload(): Promise<void> {
    const script = `
      for try in $(seq 100); do
        left=
        for p in $(find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null); do
          case $(cat /proc/$p/comm 2>/dev/null) in memory-load) kill -9 $p || :; left=yes ;; esac
        done
        [ -n "$left" ] || break
        sleep 0.05
      done
      rm -f /var/lib/lxc/"$2"/rootfs/var/tmp/load.*
      lxc-attach -n "$2" -- sh -c 'rm -f /dev/shm/load.*' || :`;
    await this.host.run('sh', ['-c', script, 'sh', this.group('guest'), this.name]);
  }

  /** Asks the helper over its socket, as the service does. */
  async balloon(limit: number | 'max', options: BalloonOptions = {}): Promise<BalloonAnswer> {
    const request = {
      verb: 'balloon',
      container: this.name,
      limit: String(limit),
      ...(options.swap === undefined ? {} : { swap: options.swap }),
      force: options.force ?? false,
      persist: options.persist ?? false,
    };
    const args = [JSON.stringify(request)];
    const { stdout } = await this.host.run(client, args, { timeoutMs: 180_000 });
    const lines = stdout.trim().split('\n');
    const answer = JSON.parse(lines.pop() ?? '') as Omit<BalloonAnswer, 'progress'>;
    const progress = lines.map((line) => JSON.parse(line) as BalloonAnswer['progress'][number]);
    return { ...answer, progress };
  }

  /** Lets the guest have all again, whatever a test has set. */
  async reset(): Promise<void> {
    await this.host.run('systemctl', [
      ...['set-property', '--runtime', this.unit, 'MemoryMax=infinity', 'MemorySwapMax=infinity'],
    ]);
  }
}

/** systemd's format_bytes(): one decimal where it is not 0, cut. */
function formatStatus(bytes: number): string {
  const units = ['B', 'K', 'M', 'G', 'T', 'P'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Math.floor(value * 10) / 10}${units[unit] ?? ''}`;
}
