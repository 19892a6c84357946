#!/bin/bash
# Builds the root tree of a Debian 13 host with LXC and the Cockpit of Debian sid: sid's systemd refuses the cgroup v1
# that this machine may have, and Cockpit's packages need no more of sid than themselves.
# usage: build.sh DIRECTORY WEB-IMAGE DAY    (root; the directory appears only when it is complete; the image is that
#                                 of Debian 13 with its own Cockpit; the day only makes another image)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
export kind='web image of sid'
# shellcheck source-path=SCRIPTDIR source=../../machines/image/tree.sh
. "$here/../../machines/image/tree.sh"
root=$draft/root

begin_draft
step 'Cockpit of sid'
cp -a "$2" "$root"
cp -L --remove-destination /etc/resolv.conf /etc/hosts "$root/etc/"
echo "deb $mirror sid main" >"$root/etc/apt/sources.list.d/sid.list"
# Packages of sid that are not named come only where nothing else will do.
printf '%s\n' 'Package: *' 'Pin: release n=sid' 'Pin-Priority: 100' '' \
  'Package: src:cockpit' 'Pin: release n=sid' 'Pin-Priority: 990' >"$root/etc/apt/preferences.d/sid"
quietly within "$root" apt-get update
# The bridge of sid reads pcp's records itself.
quietly within "$root" env SYSTEMD_OFFLINE=1 apt-get install -y --no-install-recommends \
  -o Dpkg::Options::=--force-confold cockpit-ws cockpit-bridge cockpit-system python3-pcp
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
# Nothing below the page may have changed, or its tests would try more than Cockpit.
# shellcheck disable=SC2016  # dpkg-query replaces these.
if [ "$(within "$root" dpkg-query -f '${source:Package} ${Version}\n' -W systemd lxc)" != \
  "$(within "$2" dpkg-query -f '${source:Package} ${Version}\n' -W systemd lxc)" ]; then
  echo "$kind: systemd or LXC is not that of Debian 13 any more" >&2
  exit 1
fi
mv "$root" "$target"
# shellcheck disable=SC2016
step "finished: Cockpit $(within "$target" dpkg-query -f '${Version}' -W cockpit-bridge), $(du -sh "$target" | cut -f1)"
