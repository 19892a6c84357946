#!/bin/bash
# Builds the root tree of the test hosts, with the trees of their guests inside.
# usage: build.sh DIRECTORY [RELEASE IMAGE]   (root; the directory appears only when it is complete; the
#                  caller holds a lock that keeps out other builders beside it; a host of another
#                  release of Debian gets the guests of the image)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
release=${2:-bookworm}
guests=${3:+$3/usr/share/testguests}
export kind=image
# shellcheck source-path=SCRIPTDIR source=../../machines/image/tree.sh
. "$here/../../machines/image/tree.sh"
base=$draft/base
host=$draft/host

# For a tree that gets another identity with each copy.
slim_copy() {
  local tree=$1
  slim "$tree"
  rm -rf "$tree/var/lib/dpkg/info"
  mkdir -p "$tree/var/lib/dpkg/info"
  : >"$tree/etc/machine-id"
  rm -f "$tree/etc/hostname" "$tree/var/lib/dbus/machine-id"
}

# Guests also make /dev/booted when they are up; /dev is new at each boot.
#
# The proof that a guest shut down by itself: written late in its shutdown, different every time.
write_marker_program() {
  install -D -m 755 /dev/stdin "$1" <<'MARKER'
#!/bin/sh
echo "$(date +%s) $(cat /proc/sys/kernel/random/uuid)" > /shutdown-marker
MARKER
}

debian_guest_config() {
  cat >"$1" <<'CONFIG'
lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = dir:@ROOTFS@
lxc.uts.name = @NAME@
lxc.apparmor.profile = unconfined
lxc.net.0.type = empty
CONFIG
}

build_sysvinit_guest() {
  local guest=$draft/sysvinit tree=$draft/sysvinit/rootfs
  mkdir -p "$guest"
  cp -a "$base" "$tree"
  install_packages "$tree" sysvinit-core initscripts
  write_marker_program "$tree/usr/local/sbin/write-shutdown-marker"
  install -m 755 /dev/stdin "$tree/etc/init.d/shutdown-marker" <<'SCRIPT'
#!/bin/sh
### BEGIN INIT INFO
# Provides: shutdown-marker
# Required-Start: $local_fs
# Required-Stop: $local_fs sendsigs
# Default-Start: 2 3 4 5
# Default-Stop: 0 6
# Short-Description: leaves a mark when the guest shuts down
### END INIT INFO
case $1 in
start) : > /dev/booted ;;
stop) /usr/local/sbin/write-shutdown-marker ;;
esac
SCRIPT
  quietly within "$tree" update-rc.d shutdown-marker defaults
  # A container has no console hardware to log in on, and power failure means: shut down now.
  sed -i -e '/getty/d' -e 's|^pf::.*|pf::powerwait:/sbin/shutdown -h now|' "$tree/etc/inittab"
  # These belong to whoever owns the disks and the clock.
  for script in checkroot.sh checkroot-bootclean.sh checkfs.sh hwclock.sh mountdevsubfs.sh \
    mountkernfs.sh umountfs umountroot umountnfs.sh procps brightness kmod udev; do
    [ ! -e "$tree/etc/init.d/$script" ] || quietly within "$tree" update-rc.d -f "$script" remove
  done
  # Without the scripts above nothing orders halt and reboot after the others when they run in parallel.
  : >"$tree/etc/init.d/.legacy-bootordering"
  : >"$tree/etc/fstab"
  slim_copy "$tree"
  debian_guest_config "$guest/config"
}

build_systemd_guest() {
  local guest=$draft/systemd tree=$draft/systemd/rootfs
  mkdir -p "$guest"
  cp -a "$base" "$tree"
  install_packages "$tree" systemd-sysv dbus
  write_marker_program "$tree/usr/local/sbin/write-shutdown-marker"
  cat >"$tree/etc/systemd/system/shutdown-marker.service" <<'UNIT'
[Unit]
Description=Leaves a mark when the guest shuts down

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c ': > /dev/booted'
ExecStop=/usr/local/sbin/write-shutdown-marker

[Install]
WantedBy=multi-user.target
UNIT
  mask "$tree" getty.target console-getty.service apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
    systemd-networkd.service systemd-networkd.socket systemd-firstboot.service \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount
  quietly within "$tree" systemctl enable shutdown-marker.service
  : >"$tree/etc/fstab"
  slim_copy "$tree"
  debian_guest_config "$guest/config"
}

# The template of the LXC in the host makes this one, so the host must be ready.
build_busybox_guest() {
  local guest=$host/usr/share/testguests/busybox
  quietly within "$host" lxc-create -n prototype -t busybox
  mkdir -p "$(dirname "$guest")"
  mv "$host/var/lib/lxc/prototype" "$guest"
  sed -i -e 's|/var/lib/lxc/prototype/rootfs|@ROOTFS@|' \
    -e 's|^lxc.uts.name *=.*|lxc.uts.name = @NAME@|' "$guest/config"
  write_marker_program "$guest/rootfs/sbin/write-shutdown-marker"
  # lxc-attach -- reboot needs the applet, which the template leaves out.
  for applet in reboot poweroff halt; do
    [ -e "$guest/rootfs/sbin/$applet" ] || ln -s ../bin/busybox "$guest/rootfs/sbin/$applet"
  done
  printf '%s\n' '::shutdown:/sbin/write-shutdown-marker' '::once:/bin/sh -c ": > /dev/booted"' >>"$guest/rootfs/etc/inittab"
}

build_host() {
  cp -a "$base" "$host"
  install_packages "$host" systemd-sysv dbus polkitd libpam-systemd lxc busybox-static \
    dnsmasq-base iproute2 iptables nodejs udev procps kmod apparmor uidmap systemd-container
  slim_copy "$host"
  install -m 755 "$here/testhost-init" "$host/usr/local/sbin/testhost-init"
  configure_host "$host"
  # The first line would reach through to the machine: its devices, sysctls, modules, clock,
  # security policy. The others only cost time.
  mask "$host" systemd-udev-trigger.service systemd-sysctl.service systemd-modules-load.service \
    systemd-random-seed.service kmod-static-nodes.service apparmor.service modprobe@.service \
    console-getty.service container-getty@.service systemd-tmpfiles-clean.timer
}

begin_draft
step "base of $release from $mirror"
install_base "$base" "$release"

if [ -z "$guests" ]; then
  step 'guests with sysvinit and with systemd'
  build_sysvinit_guest &
  sysvinit=$!
  build_systemd_guest &
  systemd=$!
fi
step 'host: systemd, D-Bus, polkit, udev, LXC, Node'
build_host
if [ -z "$guests" ]; then
  wait "$sysvinit"
  wait "$systemd"
fi
step 'guest with busybox'
build_busybox_guest
if [ -z "$guests" ]; then
  mv "$draft/sysvinit" "$draft/systemd" "$host/usr/share/testguests/"
else
  cp -a "$guests/sysvinit" "$guests/systemd" "$host/usr/share/testguests/"
fi
mv "$host" "$target"

step "finished: $(du -sh "$target" | cut -f1)"
