/** Uids have 32 bits, and the highest value means no uid. */
const uidMax = 2 ** 32 - 2;

/**
 * User id of the peer, from the instance name that systemd gives a service of an `Accept=yes` socket;
 * systemd takes it from SO_PEERCRED. The forms are `NR-PID-UID`, with systemd 257
 * `NR-PID_PIDFDID-UID`, and since 258, with the socket's cookie, `NR-COOKIE-PID_PIDFDID-UID`. Old
 * kernels have no PIDFDID. Undefined for any other name.
 */
export function peerOf(instance: string): number | undefined {
  const number = '[0-9]{1,20}';
  const form = new RegExp(`^${number}-(?:${number}-)?${number}(?:_${number})?-([0-9]{1,10})$`);
  const uid = form.exec(instance)?.[1];
  return uid === undefined || Number(uid) > uidMax ? undefined : Number(uid);
}

/** Looks up a user's id in text of the form of passwd(5); undefined if there is no such user. */
export function parseUserId(passwd: string, user: string): number | undefined {
  for (const line of passwd.split('\n')) {
    const [name, , uid = ''] = line.split(':');
    if (name === user && /^[0-9]+$/.test(uid)) return Number(uid);
  }
  return undefined;
}
