/**
 * Runs a program that reads or writes the files of a guest where it can reach nothing else of the host: it sees one
 * directory, programs below /usr, and maybe one socket. Its mounts are its own and end with it.
 */

/** How the program sees the directory. */
export interface Jailed {
  /** Or a block device with a file system. */
  readonly directory: string;
  /** Its name in the root directory that the program sees. */
  readonly name: string;
  readonly isReadOnly: boolean;
  /** A socket that the program sees as /socket. */
  readonly socket?: string;
}

/** Arguments: directory, its name, `ro` or `rw`, socket or nothing, then the command. */
const script = `
set -eu
directory=$1 name=$2 mode=$3 socket=$4
shift 4
mkdir -p -m 0700 /run/lockerd/moves/jail
mount -t tmpfs -o mode=0700,size=1M,nosuid tmpfs /run/lockerd/moves/jail
cd /run/lockerd/moves/jail
mkdir "$name" dev etc usr
if [ -b "$directory" ]; then
    # Where its guest has it mounted, this is the same file system, without what the guest has mounted there.
    mount -o nosuid,nodev "$directory" "$name"
else
    mount --bind "$directory" "$name"
fi
programs() {
    mount --bind "/$1" "$1"
    # Who writes files by names that others have chosen must not reach these.
    [ "$mode" = ro ] || mount -o remount,bind,ro "$1"
}
[ "$mode" = rw ] || mount -o remount,bind,ro "$name"
programs usr
for at in bin sbin lib lib64 lib32 libx32; do
    if [ -L "/$at" ]; then cp -P "/$at" .
    elif [ -d "/$at" ]; then mkdir "$at"; programs "$at"; fi
done
: >dev/null
mount --bind /dev/null dev/null
[ ! -e /etc/ld.so.cache ] || cp /etc/ld.so.cache etc/
echo 'root:x:0:0:root:/:/bin/sh' >etc/passwd
if [ -n "$socket" ]; then
    : >socket
    mount --bind "$socket" socket
fi
exec chroot . "$@"
`;

/** The program and the arguments that run a command there. */
export function inJail(
  { directory, name, isReadOnly, socket = '' }: Jailed,
  command: readonly string[],
): { program: string; args: string[] } {
  const mode = isReadOnly ? 'ro' : 'rw';
  const shell = ['sh', '-c', script, 'sh', directory, name, mode, socket];
  // What outlived this process would still write at the other end when that has undone everything.
  const together = ['--pdeathsig', 'KILL', '/usr/bin/unshare', '--mount'];
  return { program: '/usr/bin/setpriv', args: [...together, ...shell, ...command] };
}
