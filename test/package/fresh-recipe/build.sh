#!/bin/bash
# Builds the root tree of a Debian host as the installer leaves it, as far as a namespace host can:
# systemd, no LXC, no Node, and dpkg with all that it knows about each package.
# usage: build.sh DIRECTORY HOST-IMAGE RELEASE    (root; the directory appears only when it is complete;
#                                 the first program is that of the namespace host's image)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
export kind='fresh image'
init=$2/usr/local/sbin/testhost-init
debian=$3
# shellcheck source-path=SCRIPTDIR source=../../machines/image/tree.sh
. "$here/../../machines/image/tree.sh"
root=$draft/root

begin_draft
step "Debian $debian from $mirror: systemd"
install_base "$root" "$debian"
install_packages "$root" systemd-sysv dbus libpam-systemd udev procps iproute2 kmod ca-certificates
mkdir -p "$root/etc/lxc"
install -m 755 "$init" "$root/usr/local/sbin/testhost-init"
configure_host "$root"
# LXC brings these.
rm -r "$root/etc/lxc"
# Those of the namespace host, for the same reasons.
mask "$root" systemd-udev-trigger.service systemd-sysctl.service systemd-modules-load.service \
  systemd-random-seed.service kmod-static-nodes.service apparmor.service modprobe@.service \
  console-getty.service container-getty@.service systemd-tmpfiles-clean.timer
# A package's documentation is installed, and must go with it.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/testhost"
rm -f "$root"/var/cache/apt/archives/*.deb "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
mv "$root" "$target"
step "finished: $(du -sh "$target" | cut -f1)"
