import { signalName, whyNotForwarded } from '../model/signal.ts';
import type { GuestInit } from '../model/sight.ts';
import type { ContainerSettings } from '../host/settings.ts';
import type { HaltPlan } from './container.ts';

const SIGCONT = 18;
export const SIGPWR = 30;
export const SIGRTMIN_3 = 37;

/**
 * Chooses the halt signal. lxc-start in the foreground forwards what it receives, so KillSignal=
 * does the work; stop-guest chooses at stop time where the signal cannot travel so or the guest's
 * init is not known for certain: any program but systemd may become systemd, or another init.
 */
export function planHalt(
  signal: number | undefined,
  init: GuestInit,
  ready: ContainerSettings['ready'],
): HaltPlan {
  if (signal !== undefined) {
    if (whyNotForwarded(signal) !== undefined) {
      // SIGCONT follows stop-guest's signal and means nothing to a guest that runs already.
      return { signal: signalName(SIGCONT), heardBy: [signal], isSentAtStop: true };
    }
    return { signal: signalName(signal), heardBy: [signal], isSentAtStop: false };
  }
  if (init === 'systemd') {
    return { signal: signalName(SIGRTMIN_3), heardBy: [SIGRTMIN_3], isSentAtStop: false };
  }
  // Only systemd reports that it has booted, and a stop before that report runs no ExecStop=.
  if (ready === 'booted') {
    return { signal: signalName(SIGRTMIN_3), heardBy: [SIGRTMIN_3], isSentAtStop: true };
  }
  // systemd handles SIGPWR as well, but does not shut down on it.
  return { signal: signalName(SIGPWR), heardBy: [SIGRTMIN_3, SIGPWR], isSentAtStop: true };
}
