#!/bin/bash
# Builds the root tree of a Debian host with LXC as an admin has it before lockerd comes.
# usage: build.sh DIRECTORY FRESH-IMAGE HOST-IMAGE    (root; the directory appears only when it is
#                                 complete; the guests are those of the namespace host's image)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
export kind='package image'
fresh=$2
guests=$3/usr/share/testguests
# shellcheck source-path=SCRIPTDIR source=../../machines/image/tree.sh
. "$here/../../machines/image/tree.sh"
root=$draft/root

begin_draft
step 'LXC, polkit, Node'
cp -a "$fresh" "$root"
cp -L --remove-destination /etc/resolv.conf /etc/hosts "$root/etc/"
quietly within "$root" apt-get update
install_packages "$root" lxc polkitd nodejs busybox-static dnsmasq-base iptables uidmap apparmor
rm -f "$root"/var/cache/apt/archives/*.deb "$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
printf 'lxc.net.0.type = veth\nlxc.net.0.link = lxcbr0\nlxc.net.0.flags = up\nlxc.apparmor.profile = unconfined\n' \
  >"$root/etc/lxc/default.conf"
cp -a "$guests" "$root/usr/share/testguests"
mv "$root" "$target"
step "finished: $(du -sh "$target" | cut -f1)"
