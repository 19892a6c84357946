#!/bin/bash
# Builds the root tree of the test hosts of a cluster: the usual one with Pacemaker, Corosync and crmsh.
# usage: build.sh DIRECTORY IMAGE   (root; the caller holds a lock that keeps out other builders)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
image=$2
export kind=cluster-image
# shellcheck source-path=SCRIPTDIR source=../../machines/image/tree.sh
. "$here/../../machines/image/tree.sh"
host=$draft/host

begin_draft
step "copy of $image"
cp -a "$image" "$host"
cp -L --remove-destination /etc/resolv.conf /etc/hosts "$host/etc/"
quietly within "$host" apt-get update
step 'pacemaker, corosync, crmsh, pcs'
install_packages "$host" pacemaker pacemaker-cli-utils corosync crmsh pcs resource-agents psmisc e2fsprogs
slim "$host"
rm -f "$host"/var/lib/pacemaker/cib/*
# Tests start these when they have written corosync.conf.
rm -f "$host"/etc/systemd/system/multi-user.target.wants/{corosync,pacemaker,pcsd,pcsd-ruby}.service
mv "$host" "$target"
step "finished: $(du -sh "$target" | cut -f1)"
