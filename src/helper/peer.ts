/** Uids have 32 bits, and the last one stands for none. */
const uidMax = 2 ** 32 - 2;

/**
 * User id of the peer from the instance name that systemd gives a service of an `Accept=yes`
 * socket, from the kernel's SO_PEERCRED: `NR-PID-UID`, with systemd 257 `NR-PID_PIDFDID-UID`, and
 * since 258 with the socket's cookie, `NR-COOKIE-PID_PIDFDID-UID`, where old kernels have no
 * PIDFDID. Undefined for every other name.
 */
export function peerOf(instance: string): number | undefined {
  const number = '[0-9]{1,20}';
  const form = new RegExp(`^${number}-(?:${number}-)?${number}(?:_${number})?-([0-9]{1,10})$`);
  const uid = form.exec(instance)?.[1];
  return uid === undefined || Number(uid) > uidMax ? undefined : Number(uid);
}

/** User id of a user in a text in the form of passwd(5). */
export function parseUserId(passwd: string, user: string): number | undefined {
  for (const line of passwd.split('\n')) {
    const [name, , uid = ''] = line.split(':');
    if (name === user && /^[0-9]+$/.test(uid)) return Number(uid);
  }
  return undefined;
}
