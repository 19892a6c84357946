import { expect, test } from 'vitest';

import { parseSignal, signalName, whyNotForwarded } from '../../src/model/signal.ts';

test.each([
  ['SIGPWR', 30],
  ['sigpwr', 30],
  ['SigPwr', 30],
  ['SIGHUP', 1],
  ['SIGIOT', 6],
  ['SIGCLD', 17],
  ['SIGPOLL', 29],
  ['SIGIO', 29],
  ['SIGSYS', 31],
  ['SIGSTKFLT', 16],
  ['SIGRTMIN+0', 34],
  ['SIGRTMIN+3', 37],
  ['sigrtmin+30', 64],
  ['SIGRTMIN+0x3', 37],
  ['SIGRTMIN+010', 42],
  ['SIGRTMAX-0', 64],
  ['SIGRTMAX-30', 34],
  ['SigRtMax-14', 50],
  ['30', 30],
  ['030', 24],
  ['0x1e', 30],
  ['0', 0],
  ['64', 64],
  ['999', 999],
  ['2147483647', 2147483647],
])('%s is %d', (text, number) => {
  expect(parseSignal(text)).toBe(number);
});

test.each([
  '',
  'PWR',
  'SIG',
  'SIGFOO',
  'SIGPWR ',
  ' SIGPWR',
  'SIG30',
  'SIGEMT',
  'SIGINFO',
  'SIGLOST',
  'SIGUNUSED',
  'S\u0131GPWR',
  'SIGRTMIN',
  'SIGRTMAX',
  'SIGRTMIN+',
  'SIGRTMIN+31',
  'SIGRTMIN-1',
  'SIGRTMAX+1',
  'SIGRTMIN+ 1',
  'SIGRTMIN++1',
  'RTMIN+3',
  '+30',
  '-1',
  ' 30',
  '30x',
  '0x',
  '08',
  '2147483648',
  '99999999999999999999',
  `SIG${'X'.repeat(1 << 20)}`,
])('%.20s is refused', (text) => {
  expect(parseSignal(text)).toBeUndefined();
});

test.each([
  [1, 'SIGHUP'],
  [6, 'SIGABRT'],
  [15, 'SIGTERM'],
  [17, 'SIGCHLD'],
  [29, 'SIGIO'],
  [30, 'SIGPWR'],
  [31, 'SIGSYS'],
  [32, '32'],
  [33, '33'],
  [34, 'SIGRTMIN+0'],
  [37, 'SIGRTMIN+3'],
  [64, 'SIGRTMIN+30'],
])('%d is %s for systemd', (number, name) => {
  expect(signalName(number)).toBe(name);
  expect(parseSignal(name)).toBe(number);
});

test.each([0, -1, 65, 1.5, Number.NaN])('there is no name for %d', (number) => {
  expect(() => signalName(number)).toThrow(RangeError);
});

test('says which signals lxc-start keeps to itself', () => {
  const kept = Array.from({ length: 64 }, (_, i) => i + 1).filter(
    (signal) => whyNotForwarded(signal) !== undefined,
  );
  expect(kept.map(signalName)).toEqual([
    'SIGHUP',
    'SIGILL',
    'SIGBUS',
    'SIGKILL',
    'SIGSEGV',
    'SIGCHLD',
    'SIGSTOP',
    'SIGWINCH',
    '32',
    '33',
  ]);
  expect(whyNotForwarded(1)).toBe('lxc-start passes SIGHUP on as SIGTERM');
  expect(whyNotForwarded(9)).toContain('cannot be handled');
});
