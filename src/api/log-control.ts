/** Words of the interface org.freedesktop.LogControl1 that systemd defines for services. */

export const logControlPath = '/org/freedesktop/LogControl1';
export const logControl = 'org.freedesktop.LogControl1';

/** As syslog(3) names its priorities, which are the indices. */
export const logLevels = [
  'emerg',
  'alert',
  'crit',
  'err',
  'warning',
  'notice',
  'info',
  'debug',
] as const;
export type LogLevel = (typeof logLevels)[number];

/** Those of systemd's targets that lockerd has. */
export const logTargets = ['journal', 'null'] as const;
export type LogTarget = (typeof logTargets)[number];
