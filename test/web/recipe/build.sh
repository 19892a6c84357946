#!/bin/bash
# Builds the root tree of a Debian host with LXC and Cockpit, as its users see it in a browser.
# usage: build.sh DIRECTORY PACKAGE-IMAGE    (root; the directory appears only when it is complete)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
export kind='web image'
# shellcheck source-path=SCRIPTDIR source=../../machines/image/tree.sh
. "$here/../../machines/image/tree.sh"
root=$draft/root

begin_draft
step 'Cockpit'
cp -a "$2" "$root"
cp -L --remove-destination /etc/resolv.conf /etc/hosts "$root/etc/"
quietly within "$root" apt-get update
install_packages "$root" cockpit-ws cockpit-bridge cockpit-system sudo systemd-container btrfs-progs
# What pcp runs when it is configured asks for systemd, which is not there.
quietly within "$root" env SYSTEMD_OFFLINE=1 apt-get install -y --no-install-recommends pcp cockpit-pcp
# They would be at work on every host; the tests of the past start what they need.
for unit in pmcd pmlogger pmlogger_farm pmie pmie_farm pmproxy; do
  rm -f "$root"/etc/systemd/system/*.wants/$unit*
done
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
# The browser is on the same machine, and the tests log in as root too.
mkdir -p "$root/etc/cockpit"
printf '[WebService]\nAllowUnencrypted = true\nLoginTitle = lockerd\n' >"$root/etc/cockpit/cockpit.conf"
: >"$root/etc/cockpit/disallowed-users"
ln -s /lib/systemd/system/cockpit.socket "$root/etc/systemd/system/sockets.target.wants/" 2>/dev/null || true
mv "$root" "$target"
step "finished: $(du -sh "$target" | cut -f1)"
