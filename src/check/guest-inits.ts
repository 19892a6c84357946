/**
 * Inits of guests: how one is told by the guest's files, and what it does on the signals of a stop. What
 * hooks/guest-signals does at a stop must be among the signals here; a test compares.
 */
import type { GuestFiles } from '../host/guest-files.ts';
import { signalName } from '../model/signal.ts';

export type InitKind =
  | 'systemd'
  | 'sysvinit'
  | 'upstart'
  | 'busybox'
  | 'openrc-init'
  | 'procd'
  | 'runit'
  | 's6-svscan'
  | 'dinit'
  | 'sinit';

/** Signals on which each shuts down without any help, by number. */
export const haltSignals: Readonly<Record<InitKind, readonly number[]>> = {
  // SIGRTMIN+3 and +4 in order, +13 and +14 at once.
  systemd: [37, 38, 47, 48],
  sysvinit: [],
  upstart: [],
  busybox: [10, 12, 30],
  'openrc-init': [15],
  procd: [10, 12, 30],
  runit: [],
  's6-svscan': [10, 12, 15, 30],
  dinit: [3, 15],
  sinit: [10],
};

const programs: readonly (readonly [pattern: RegExp, kind: InitKind])[] = [
  [/^systemd$/, 'systemd'],
  [/^(?:busybox|toybox)(?:\.\w+)?$/, 'busybox'],
  [/^openrc-init$/, 'openrc-init'],
  [/^procd$/, 'procd'],
  [/^runit(?:-init)?$/, 'runit'],
  [/^s6-/, 's6-svscan'],
  [/^dinit(?:-init)?$/, 'dinit'],
  [/^sinit$/, 'sinit'],
  [/^upstart$/, 'upstart'],
];

/** What an init that is called "init" has beside it; the first that is there tells. */
const companions: readonly (readonly [path: string, kind: InitKind])[] = [
  ['/sbin/procd', 'procd'],
  ['/etc/runit/2', 'runit'],
  ['/etc/s6-linux-init', 's6-svscan'],
  ['/etc/init/rc-sysinit.conf', 'upstart'],
  // An inittab has also busybox, which may be a file of its own.
  ['/sbin/telinit', 'sysvinit'],
];

/** Programs of many names, which may be hard links. */
const multicallPrograms = ['/bin/busybox', '/usr/bin/busybox', '/bin/toybox', '/usr/bin/toybox'];

/** The kind of the init at a path; undefined for what is not known, such as a script. */
export function initKind(guest: GuestFiles, path: string): InitKind | undefined {
  const { name: program, identity } = guest.find(path, (file) => file) ?? {};
  const known = programs.find(([pattern]) => pattern.test(program ?? ''));
  if (known !== undefined) return known[1];
  if (program !== 'init' && program !== 'sysvinit') return undefined;
  const isMulticall = multicallPrograms.some(
    (other) => guest.find(other, (file) => file.identity) === identity,
  );
  if (isMulticall && identity !== undefined) return 'busybox';
  return companions.find(([companion]) => guest.isThere(companion))?.[1];
}

const SIGINT = 2;
const SIGCONT = 18;
const SIGPWR = 30;

/** Why a guest does not shut down on a signal, and what mends that; undefined where it does. */
interface Deafness {
  readonly what: string;
  readonly remedy: string;
}

/** Whether the guest shuts down on a signal; looks into the guest where its files decide. */
export function whyDeaf(guest: GuestFiles, kind: InitKind, signal: number): Deafness | undefined {
  if (haltSignals[kind].includes(signal)) return undefined;
  if (kind === 'sysvinit' && signal === SIGPWR)
    return whyDeafInittab(guest, powerActions, powerLine);
  if (kind === 'sysvinit' && signal === SIGINT) return whyDeafInittab(guest, keyActions, keyLine);
  if (kind === 'upstart' && signal === SIGPWR) {
    if (guest.isThere('/etc/init/power-status-changed.conf')) return undefined;
    return {
      what: 'the guest has no job of upstart for SIGPWR',
      remedy:
        'write into /etc/init/power-status-changed.conf of the guest: ' +
        '"start on power-status-changed" and "exec /sbin/shutdown -h now"',
    };
  }
  if (kind === 'systemd' && signal === SIGPWR) {
    if (sigpwrUnits.some((path) => guest.isThere(path))) return undefined;
    return {
      what: 'on SIGPWR systemd only starts sigpwr.target, which nothing in the guest uses',
      remedy: 'write lxc.signal.halt = SIGRTMIN+3, or remove the line',
    };
  }
  if (kind === 'runit' && signal === SIGCONT) return whyDeafRunit(guest);
  return deafTo(kind, signal);
}

const sigpwrUnits = [
  '/etc/systemd/system/sigpwr.target',
  '/etc/systemd/system/sigpwr.target.wants',
];

function whyDeafRunit(guest: GuestFiles): Deafness | undefined {
  if (guest.find('/etc/runit/stopit', (file) => file.isThere && file.isExecutable) === true) {
    return undefined;
  }
  return {
    what: 'runit shuts down on SIGCONT only if /etc/runit/stopit is executable',
    remedy: 'run in the guest: install -m 744 /dev/null /etc/runit/stopit',
  };
}

/** What a stop sends to each where the configuration does not say. */
export const defaultSignals: Readonly<Record<InitKind, number>> = {
  systemd: 37,
  sysvinit: SIGPWR,
  upstart: SIGPWR,
  busybox: SIGPWR,
  'openrc-init': 15,
  procd: SIGPWR,
  runit: SIGCONT,
  's6-svscan': 15,
  dinit: 15,
  sinit: 10,
};

function deafTo(kind: InitKind, signal: number): Deafness {
  const reboots = [2, 15].includes(signal) && ['busybox', 'procd'].includes(kind);
  return {
    what: reboots ? `${kind} reboots on this signal` : `${kind} does not shut down on this signal`,
    remedy: `write lxc.signal.halt = ${signalName(defaultSignals[kind])}, or remove the line`,
  };
}

/** Without /etc/powerstatus, SIGPWR means a power failure. `powerfail` is the older word. */
const powerActions = ['powerwait', 'powerfail'];
const powerLine = 'p0::powerwait:/sbin/init 0';
const keyActions = ['ctrlaltdel'];
const keyLine = 'ca::ctrlaltdel:/sbin/init 0';

/** Whether a line of inittab(5) shuts down; a script that is not there does not. */
function whyDeafInittab(
  guest: GuestFiles,
  actions: readonly string[],
  line: string,
): Deafness | undefined {
  const remedy = `write into /etc/inittab of the guest: ${line}`;
  const processes = inittabProcesses(guest.text('/etc/inittab') ?? '', actions);
  if (processes.length === 0) {
    return { what: `the guest's /etc/inittab has no ${actions.join(' or ')} line`, remedy };
  }
  const halts = processes.some((process) => {
    if (/\b(?:tel)?init\s+0\b|\b(?:shutdown\b(?!.*\s-r)|halt|poweroff)\b/.test(process))
      return true;
    const [program = ''] = process.split(/[ \t]+/);
    const isReboot = /\b(?:tel)?init\s+6\b|\b(?:reboot|shutdown)\b/.test(process);
    return !isReboot && program.startsWith('/') && guest.isThere(program);
  });
  if (halts) return undefined;
  return {
    what: `no ${actions.join(' or ')} line of the guest's /etc/inittab shuts the guest down`,
    remedy,
  };
}

/** More lines than init reads in any guest. */
const maxInittabLines = 1000;

function inittabProcesses(text: string, actions: readonly string[]): string[] {
  return text
    .split('\n', maxInittabLines)
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.split(':'))
    .filter(([, , action = '']) => actions.includes(action))
    .map(([, , , ...process]) => process.join(':').replace(/^\+/, '').trim().slice(0, 1000));
}
