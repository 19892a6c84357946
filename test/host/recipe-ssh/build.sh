#!/bin/bash
# Builds the root tree of test hosts that reach each other: the usual one with sshd and rsync.
# usage: build.sh DIRECTORY IMAGE   (root; the caller holds a lock that keeps out other builders)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
image=$2
export kind=ssh-image
# shellcheck source-path=SCRIPTDIR source=../../machines/image/tree.sh
. "$here/../../machines/image/tree.sh"
host=$draft/host

begin_draft
step "copy of $image"
cp -a "$image" "$host"
cp -L --remove-destination /etc/resolv.conf /etc/hosts "$host/etc/"
quietly within "$host" apt-get update
step 'openssh-server, rsync, btrfs-progs'
install_packages "$host" openssh-server openssh-client rsync acl attr btrfs-progs
slim "$host"
# A test gives each host the other one's.
rm -f "$host"/etc/ssh/ssh_host_*
mask "$host" ssh.socket
mv "$host" "$target"
step "finished: $(du -sh "$target" | cut -f1)"
