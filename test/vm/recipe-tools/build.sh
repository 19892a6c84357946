#!/bin/bash
# Builds the disk of virtual test hosts that reach each other: the usual one with sshd, rsync and what tells of ACLs
# and attributes.
# usage: build.sh DIRECTORY IMAGE   (root; the caller holds a lock that keeps out other builders)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
image=$2
export kind='vm tools image'
# shellcheck source-path=SCRIPTDIR source=../../machines/image/tree.sh
. "$here/../../machines/image/tree.sh"
root=$draft/root

unmount() {
  if mountpoint -q "$root"; then umount "$root"; fi
}

begin_draft
trap 'unmount; rm -rf --one-file-system "$draft"' EXIT
step "copy of $image"
cp --sparse=always "$image"/{root.img,vmlinuz,initramfs} "$draft/"
mkdir "$root"
mount -o loop "$draft/root.img" "$root"
cp -L --remove-destination /etc/resolv.conf /etc/hosts "$root/etc/"
quietly within "$root" apt-get update
step 'openssh-server, rsync, acl, attr'
install_packages "$root" openssh-server openssh-client rsync acl attr
slim "$root"
# Each host makes its own, and has no sshd before.
rm -f "$root"/etc/ssh/ssh_host_*
mask "$root" ssh.socket sshd-keygen.service
mkdir -p "$root/etc/systemd/system/ssh.service.d"
printf '[Unit]\nConditionPathExists=/etc/ssh/ssh_host_ed25519_key\n' \
  >"$root/etc/systemd/system/ssh.service.d/keys.conf"
unmount
rmdir "$root"
mv "$draft" "$target"
trap - EXIT

step "finished: $(du -sh "$target" | cut -f1)"
