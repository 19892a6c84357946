#!/bin/bash
# Builds the root tree of the test hosts, with the trees of their guests inside.
# usage: build.sh DIRECTORY     (root; the directory appears only when it is complete; the caller
#                                holds a lock that keeps out other builders beside it)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
mirror=${LOCKERD_TEST_MIRROR:-http://deb.debian.org/debian}
draft=$target.draft
base=$draft/base
host=$draft/host

step() { printf '[image %3ds] %s\n' "$SECONDS" "$*" >&2; }

# Runs a command in a tree with its own PID and mount namespaces, so that neither a daemon that a
# package starts nor the /proc mount can outlive the command.
within() {
  local tree=$1
  shift
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare --mount --pid --fork --kill-child sh -c '
    mount -t proc proc "$1/proc" && tree=$1 && shift &&
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
      DEBIAN_FRONTEND=noninteractive http_proxy="${http_proxy:-}" chroot "$tree" "$@"' sh "$tree" "$@"
}

# Every command is quiet as long as it succeeds.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    rm -f "$log"
    printf 'image: failed: %s\n' "$*" >&2
    return 1
  fi
  rm -f "$log"
}

install_packages() {
  local tree=$1
  shift
  quietly within "$tree" apt-get install -y --no-install-recommends "$@"
}

# What a guest or a host never reads while it runs; containers are copied often.
slim() {
  local tree=$1
  rm -rf "$tree"/usr/share/{doc,man,locale,info,lintian,zoneinfo,i18n,bug,bash-completion,zsh} \
    "$tree"/var/cache/{apt,debconf} "$tree"/var/lib/apt/lists \
    "$tree"/usr/lib/x86_64-linux-gnu/{gconv,perl-base/unicore} \
    "$tree"/var/log/{apt,dpkg.log,bootstrap.log,alternatives.log} \
    "$tree"/var/lib/dpkg/info "$tree"/etc/resolv.conf
  mkdir -p "$tree"/var/cache/apt/archives/partial "$tree"/var/lib/apt/lists/partial \
    "$tree"/var/lib/dpkg/info
  printf '127.0.0.1 localhost\n' >"$tree/etc/hosts"
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
  slim "$tree"
  debian_guest_config "$guest/config"
}

build_systemd_guest() {
  local guest=$draft/systemd tree=$draft/systemd/rootfs unit
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
  for unit in getty.target console-getty.service apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
    systemd-networkd.service systemd-networkd.socket systemd-firstboot.service \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount; do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit"
  done
  quietly within "$tree" systemctl enable shutdown-marker.service
  : >"$tree/etc/fstab"
  slim "$tree"
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
  local unit
  cp -a "$base" "$host"
  install_packages "$host" systemd-sysv dbus polkitd libpam-systemd lxc busybox-static \
    dnsmasq-base iproute2 iptables nodejs udev procps kmod apparmor uidmap
  slim "$host"
  install -m 755 "$here/testhost-init" "$host/usr/local/sbin/testhost-init"
  # Earlier boots' journals must stay readable.
  mkdir -p "$host/var/log/journal"
  printf 'lxc.net.0.type = veth\nlxc.net.0.link = lxcbr0\nlxc.net.0.flags = up\nlxc.apparmor.profile = unconfined\n' \
    >"$host/etc/lxc/default.conf"
  # The first group would reach through to the machine: its devices, sysctls, modules, clock,
  # security policy. The others only cost time.
  for unit in systemd-udev-trigger.service systemd-sysctl.service systemd-modules-load.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-timesyncd.service \
    systemd-random-seed.service systemd-pstore.service kmod-static-nodes.service \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount apparmor.service \
    modprobe@.service \
    dev-hugepages.mount getty.target getty@.service console-getty.service container-getty@.service \
    apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    dpkg-db-backup.timer systemd-tmpfiles-clean.timer systemd-networkd.service \
    systemd-networkd.socket systemd-networkd-wait-online.service systemd-firstboot.service \
    systemd-hwdb-update.service ldconfig.service systemd-resolved.service; do
    ln -sf /dev/null "$host/etc/systemd/system/$unit"
  done
  : >"$host/etc/fstab"
  ln -sf /lib/systemd/system/multi-user.target "$host/etc/systemd/system/default.target"
  # Tests decide themselves how often they restart a unit.
  mkdir -p "$host/etc/systemd/system.conf.d"
  printf '[Manager]\nDefaultStartLimitIntervalSec=0\n' >"$host/etc/systemd/system.conf.d/testhost.conf"
}

[ ! -d "$target" ] || exit 0
# Whoever left a draft here was killed.
rm -rf --one-file-system "$(dirname "$target")"/*.draft
mkdir -p "$draft"
trap 'rm -rf --one-file-system "$draft"' EXIT

step "Debian 12 base from $mirror"
quietly debootstrap --variant=minbase bookworm "$base" "$mirror"
cat >"$base/etc/dpkg/dpkg.cfg.d/testhost" <<'DPKG'
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/info/*
DPKG
rm -rf "$base"/usr/share/{doc,man,locale,info}/* "$base"/var/cache/apt/archives/*.deb
# A machine with a private mirror finds it only with its own names.
cp -L --remove-destination /etc/resolv.conf /etc/hosts "$base/etc/"
quietly within "$base" apt-get update

step 'guests with sysvinit and with systemd'
build_sysvinit_guest &
sysvinit=$!
build_systemd_guest &
systemd=$!
step 'host: systemd, D-Bus, polkit, udev, LXC, Node'
build_host
wait "$sysvinit"
wait "$systemd"
step 'guest with busybox'
build_busybox_guest
mv "$draft/sysvinit" "$draft/systemd" "$host/usr/share/testguests/"
mv "$host" "$target"

# Images of older recipes go, unless a host runs on one.
for image in "$(dirname "$target")"/*; do
  if [ -d "$image" ] && [ "$image" != "$target" ] && [ "$image" != "$draft" ]; then
    flock --nonblock "$image.lock" rm -rf --one-file-system "$image" "$image.lock" || true
  fi
done
step "finished: $(du -sh "$target" | cut -f1)"
