import { execFile } from 'node:child_process';

import type { LxcConfig } from '../../src/model/lxc-config.ts';

/** What LXC makes of a file: the values it prints, or that it refuses or does not survive it. */
type Answer = { readonly stdout: string } | 'refused' | 'crashed';

const SCALARS_AND_LISTS = [
  'lxc.rootfs.path',
  'lxc.init.cmd',
  'lxc.uts.name',
  'lxc.signal.halt',
  'lxc.start.auto',
  'lxc.start.order',
  'lxc.start.delay',
  'lxc.mount.fstab',
  'lxc.group',
  'lxc.mount.entry',
];

/** Interfaces that are asked for in any case, to see that they are absent. */
const USUAL_INDEXES = [0, 1, 2, 3, 4, 8, 10];

/** Asks LXC for everything that we read too. Throws where it does not even run. */
export async function askLxc(path: string, nets: readonly number[]): Promise<Answer> {
  const args = ['-n', 'lockerd-test', `--rcfile=${path}`];
  for (const key of keysToAsk(nets)) args.push('-c', key);
  return new Promise((resolve, reject) => {
    // Relative includes start at the working directory, for the container's unit at the root.
    const options = { cwd: '/', encoding: 'utf8', maxBuffer: 1 << 24, timeout: 30_000 } as const;
    execFile('lxc-info', args, options, (error, stdout, stderr) => {
      if (error === null) resolve({ stdout });
      else if (error.code === 1 && stderr.includes('Failed to load rcfile')) resolve('refused');
      else if (error.signal === 'SIGSEGV') resolve('crashed');
      else reject(new Error(`lxc-info did not run: ${error.message}\n${stderr}`));
    });
  });
}

/** What lxc-info would print for our reading of the configuration. */
export function printLikeLxc(config: LxcConfig): string {
  const rootfs = config.rootfsPath?.value ?? '';
  const values: Record<string, string | number> = {
    'lxc.rootfs.path': rootfs.slice(rootfs.indexOf(':') + 1),
    'lxc.init.cmd': config.initCmd?.value ?? '',
    'lxc.uts.name': config.utsName?.value ?? '',
    'lxc.signal.halt': config.haltSignal?.value ?? 0,
    'lxc.start.auto': Number(config.startAuto),
    'lxc.start.order': config.startOrder,
    // It prints the unsigned number as a signed one.
    'lxc.start.delay': config.startDelaySec | 0,
    'lxc.mount.fstab': config.mountFstab?.value ?? '',
    'lxc.group': config.groups.map((group) => `${group}\n`).join(''),
    'lxc.mount.entry': config.mountEntries.map((entry) => `${entry.value}\n`).join(''),
  };
  for (const net of config.nets) {
    values[`lxc.net.${net.index}.type`] = net.type?.value ?? UNSET;
    values[`lxc.net.${net.index}.link`] = net.link?.value ?? '';
  }
  let text = '';
  for (const key of keysToAsk(config.nets.map((net) => net.index))) {
    const value = values[key];
    if (value !== undefined) text += value === '' ? `${key} =\n` : `${key} = ${value}\n`;
  }
  return text;
}

const UNSET = '(unset)';

/**
 * LXC has two ways to say that an interface has no type: `(null)` where it was cleared, and
 * `empty`, its type number 0, where it was never set. We leave the type out in both cases.
 */
export function withUnsetTypes(stdout: string, config: LxcConfig): string {
  const untyped = new Set(
    config.nets.filter((net) => net.type === undefined).map((net) => net.index),
  );
  return stdout.replaceAll(
    /^(lxc\.net\.([0-9]+)\.type =) ?(\(null\)|empty|)$/gm,
    (line, start: string, index: string) =>
      untyped.has(Number(index)) ? `${start} ${UNSET}` : line,
  );
}

function keysToAsk(nets: readonly number[]): string[] {
  const indexes = [...new Set([...USUAL_INDEXES, ...nets])].sort((a, b) => a - b);
  return [
    ...SCALARS_AND_LISTS,
    ...indexes.flatMap((index) => [`lxc.net.${index}.type`, `lxc.net.${index}.link`]),
  ];
}
