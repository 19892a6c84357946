/** Names of Linux's errno values on amd64 and arm64, for an engine that tells the numbers alone. */
const first = (
  'EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ' +
  'ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ' +
  'ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP'
).split(' ');

/** Others that a file system may answer with. */
const later: Readonly<Record<number, string>> = {
  61: 'ENODATA',
  71: 'EPROTO',
  74: 'EBADMSG',
  75: 'EOVERFLOW',
  84: 'EILSEQ',
  95: 'ENOTSUP',
  107: 'ENOTCONN',
  110: 'ETIMEDOUT',
  112: 'EHOSTDOWN',
  113: 'EHOSTUNREACH',
  116: 'ESTALE',
  117: 'EUCLEAN',
  121: 'EREMOTEIO',
  122: 'EDQUOT',
};

export function errnoName(errno: number): string {
  return first[errno - 1] ?? later[errno] ?? `errno ${errno}`;
}
