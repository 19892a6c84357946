/** A guest with one of each kind of file, and what tells whether a copy of it is whole. */

import { offline } from '../machines/support.ts';
import type { TestHost } from '../machines/test-host.ts';

/** Goes on from the last number that is on the disk, and says which run has written each of them. */
const counter = `#!/bin/sh
read -r run </proc/sys/kernel/random/uuid
number=$(tail -n 1 /numbers 2>/dev/null)
number=\${number%% *}
while :; do
    number=$((\${number:-0} + 1))
    echo "$number $run" >>/numbers
    busybox usleep 10000
done
`;

/** Of each kind of file one, with what can be on it; \`$1\` is the root file system, \`$2\` is added to ids. */
const oddities = `
cd "$1"
mkdir odd && cd odd
echo text >file && ln file link && ln -s ../bin symbolic && ln -s /nowhere dangling
echo other >owned && chown $((1234 + $2)):$((4321 + $2)) owned
cp owned setuid && chmod 4755 setuid
setfattr -n user.note -v hello file
setfacl -m u:$((7 + $2)):r file && mkdir -m 2775 directory && setfacl -d -m g:$((8 + $2)):rwx directory
mknod null c 1 3 && mkfifo fifo
truncate -s 20M sparse && printf end >>sparse
: >'name with
a newline, $(reboot) and *'
printf 'bytes' >"$(printf 'bytes-\\377')"
`;

/** All that a tree is, without what its guest writes while it runs. */
const describeTree = `
cd "$1" && find . -xdev ! -name numbers ! -path './dev*' ! -path './run*' ! -name shutdown-marker ! -path ./config \\
    -printf '%p %y %m %U %G %n %l\\n' | LC_ALL=C sort
find . -xdev -type f ! -name numbers ! -name shutdown-marker -printf '%p\\0' | LC_ALL=C sort -z | xargs -0 sha256sum
find . -xdev \\( -type b -o -type c \\) -path '*odd*' -exec stat -c '%n %t:%T' '{}' +
find . -xdev -path '*odd*' -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m - 2>/dev/null
find . -xdev -path '*odd*' ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfacl -n -p
[ "$(stat -c %b "$2/odd/sparse")" -lt 1000 ] && echo sparse
stat -c %i "$2/odd/file" "$2/odd/link" | uniq | wc -l
`;

/** A guest that counts, with ids that are moved by `shift` on the disk. */
export async function createOddGuest(
  host: TestHost,
  name: string,
  config: string[] = [],
  shift = 0,
): Promise<void> {
  await host.createContainer(name, 'busybox', { config: [...offline, ...config] });
  const rootfs = `/var/lib/lxc/${name}/rootfs`;
  await host.writeFile(`${rootfs}/bin/count`, counter, 0o755);
  await host.shell(`echo '::respawn:/bin/count' >>${rootfs}/etc/inittab`);
  if (shift > 0) {
    await host.shell(`chown -R ${shift}:${shift} ${rootfs} && chmod 755 /var/lib/lxc/${name}`);
  }
  await host.run('sh', ['-euc', oddities, 'sh', rootfs, String(shift)]);
}

/** All of a container's directory as text. */
export async function treeOf(host: TestHost, name: string): Promise<string> {
  return treeAt(host, `/var/lib/lxc/${name}`, 'rootfs');
}

/** All of a directory as text. @param rootfs where in it such a guest has its root directory */
export async function treeAt(host: TestHost, path: string, rootfs = '.'): Promise<string> {
  const args = ['-euc', describeTree, 'sh', path, rootfs];
  return (await host.run('sh', args, { timeoutMs: 120_000 })).stdout;
}

/** A tree without what its guest writes at each boot. */
export function withoutLogs(tree: string): string {
  return tree
    .split('\n')
    .filter((line) => !/ ?\.\/(?:rootfs\/)?var\//.test(line))
    .join('\n');
}

/** The numbers that the guest's counter has written, in whole lines. */
export function numbersIn(text: string): number[] {
  const lines = text.slice(0, Math.max(text.lastIndexOf('\n'), 0)).split('\n');
  return lines.filter((line) => line !== '').map((line) => Number.parseInt(line, 10));
}
