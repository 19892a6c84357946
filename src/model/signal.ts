/**
 * Signals by name and number, as LXC reads them and systemd writes them, and which signals lxc-start does
 * not forward to the container's init.
 */

import { readUnsigned } from './lxc-keys.ts';

/** Real-time signals as LXC and systemd on Debian see them: glibc keeps 32 and 33 for itself. */
const RTMIN = 34;
const RTMAX = 64;

/** Linux's generic numbering (x86, arm, riscv). The first name of each number is systemd's. */
const NAMES: readonly (readonly string[])[] = [
  [],
  ['HUP'],
  ['INT'],
  ['QUIT'],
  ['ILL'],
  ['TRAP'],
  ['ABRT', 'IOT'],
  ['BUS'],
  ['FPE'],
  ['KILL'],
  ['USR1'],
  ['SEGV'],
  ['USR2'],
  ['PIPE'],
  ['ALRM'],
  ['TERM'],
  ['STKFLT'],
  ['CHLD', 'CLD'],
  ['CONT'],
  ['STOP'],
  ['TSTP'],
  ['TTIN'],
  ['TTOU'],
  ['URG'],
  ['XCPU'],
  ['XFSZ'],
  ['VTALRM'],
  ['PROF'],
  ['WINCH'],
  ['IO', 'POLL'],
  ['PWR'],
  ['SYS'],
];

const NUMBERS = new Map(NAMES.flatMap((names, number) => names.map((name) => [name, number])));

/**
 * Parses a signal as sig_parse() in LXC's confile_utils.c does: `SIGPWR` in any case, `SIGRTMIN+n`,
 * `SIGRTMAX-n` or a plain number. Undefined if LXC refuses the text. A plain number is not checked: 0
 * means "not set", and there are no signals above 64.
 */
export function parseSignal(text: string): number | undefined {
  if (/^[0-9]/.test(text)) {
    const number = readUnsigned(text);
    return number === undefined || number > 0x7fffffff ? undefined : number;
  }
  // C's strcasecmp() folds ASCII only, but toUpperCase() would turn a dotless i into I.
  if (text.length > 64 || !/^[\x20-\x7e]*$/.test(text)) return undefined;
  const name = text.toUpperCase();
  if (!name.startsWith('SIG')) return undefined;
  if (!name.startsWith('SIGRT')) return NUMBERS.get(name.slice(3));
  const fromMin = name.startsWith('SIGRTMIN+');
  if (!fromMin && !name.startsWith('SIGRTMAX-')) return undefined;
  const digits = text.slice('SIGRTMIN+'.length);
  const offset = /^[0-9]/.test(digits) ? readUnsigned(digits) : undefined;
  if (offset === undefined || offset > RTMAX - RTMIN) return undefined;
  return fromMin ? RTMIN + offset : RTMAX - offset;
}

/**
 * The name of a signal for systemd's KillSignal= (systemd.kill(5)): `SIGPWR`, `SIGRTMIN+3`, or the
 * bare number for 32 and 33, which have no name. Throws a RangeError outside 1 to 64.
 */
export function signalName(signal: number): string {
  if (!Number.isInteger(signal) || signal < 1 || signal > RTMAX) {
    throw new RangeError(`there is no signal ${signal}`);
  }
  if (signal >= RTMIN) return `SIGRTMIN+${signal - RTMIN}`;
  const name = NAMES[signal]?.[0];
  return name === undefined ? String(signal) : `SIG${name}`;
}

/**
 * Why a signal that is sent to `lxc-start -F` does not reach the container's init unchanged; undefined
 * if it does. Sources: setup_signal_fd() and signal_handler() in LXC's start.c, signal(7).
 */
export function whyNotForwarded(signal: number): string | undefined {
  const name = signal >= 1 && signal <= RTMAX ? signalName(signal) : String(signal);
  switch (name) {
    case 'SIGKILL':
    case 'SIGSTOP':
      return `${name} cannot be handled, so the container cannot shut down on it`;
    case 'SIGHUP':
      return 'lxc-start passes SIGHUP on as SIGTERM';
    case 'SIGCHLD':
    case 'SIGBUS':
    case 'SIGILL':
    case 'SIGSEGV':
    case 'SIGWINCH':
    case '32':
    case '33':
      return `lxc-start does not pass signal ${name} on to the container`;
    default:
      return undefined;
  }
}
