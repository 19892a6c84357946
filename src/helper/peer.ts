/**
 * User id of the peer from the instance name that systemd gives a service of an `Accept=yes`
 * socket: `NR-PID-UID`, from the kernel's SO_PEERCRED (the second part has more in it since systemd
 * 257). Undefined for every other name.
 */
export function peerOf(instance: string): number | undefined {
  const uid = /^[0-9]+-[0-9_]+-([0-9]{1,10})$/.exec(instance)?.[1];
  return uid === undefined ? undefined : Number(uid);
}

/** User id of a user in a text in the form of passwd(5). */
export function parseUserId(passwd: string, user: string): number | undefined {
  for (const line of passwd.split('\n')) {
    const [name, , uid = ''] = line.split(':');
    if (name === user && /^[0-9]+$/.test(uid)) return Number(uid);
  }
  return undefined;
}
