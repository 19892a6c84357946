#!/bin/bash
# Builds the disk, the kernel and the initramfs of the virtual test hosts.
# usage: build.sh DIRECTORY HOST-IMAGE     (root; the directory appears only when it is complete;
#                                           the guests are those of the namespace host's image)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
guests=$2/usr/share/testguests
mirror=${LOCKERD_TEST_MIRROR:-http://deb.debian.org/debian}
draft=$target.draft
root=$draft/root
# What a test can fill at most; the file itself grows with its content.
disk_size=6G

step() { printf '[vm image %3ds] %s\n' "$SECONDS" "$*" >&2; }

# Runs a command in the tree with its own PID and mount namespaces, so that neither a daemon that a
# package starts nor the /proc mount can outlive the command.
within() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare --mount --pid --fork --kill-child sh -c '
    mount -t proc proc "$1/proc" && tree=$1 && shift &&
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
      DEBIAN_FRONTEND=noninteractive http_proxy="${http_proxy:-}" chroot "$tree" "$@"' sh "$root" "$@"
}

# Every command is quiet as long as it succeeds.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    rm -f "$log"
    printf 'vm image: failed: %s\n' "$*" >&2
    return 1
  fi
  rm -f "$log"
}

install_system() {
  quietly debootstrap --variant=minbase trixie "$root" "$mirror"
  cat >"$root/etc/dpkg/dpkg.cfg.d/testhost" <<'DPKG'
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/info/*
DPKG
  # A machine with a private mirror finds it only with its own names.
  cp -L --remove-destination /etc/resolv.conf /etc/hosts "$root/etc/"
  quietly within apt-get update
  # Without apparmor: compiling LXC's profiles takes the emulation a minute at each boot.
  quietly within apt-get install -y --no-install-recommends systemd-sysv dbus polkitd \
    libpam-systemd lxc lxcfs busybox-static dnsmasq-base iproute2 iptables nodejs udev procps kmod \
    uidmap lvm2 thin-provisioning-tools e2fsprogs
}

install_kernel() {
  local package
  # Not installed by apt-get, because it would bring a program that makes an initramfs.
  package=$(within apt-cache depends linux-image-cloud-amd64 |
    sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')
  # shellcheck disable=SC2016 # expanded by the inner shell
  quietly within sh -euc '
    cd /tmp && apt-get download "$1" && dpkg-deb --extract ./"$1"_*.deb / && rm ./"$1"_*.deb' \
    sh "$package"
  release=$(basename "$root"/usr/lib/modules/*)
  quietly within depmod "$release"
  mv "$root/boot/vmlinuz-$release" "$draft/vmlinuz"
  rm -rf "${root:?}"/boot/*
  # Drivers that no virtual test host has anything for.
  rm -rf "$root/usr/lib/modules/$release/kernel"/{drivers/{net/ethernet,infiniband,scsi,hv,nvme,gpu},sound}
  quietly within depmod "$release"
}

# One that knows a single disk: load what it needs, mount it, go there.
build_initramfs() {
  local tree=$root/tmp/initramfs name module
  mkdir -p "$tree"/{bin,dev,proc,modules,root}
  cp "$root/usr/bin/busybox" "$tree/bin/"
  # In the order of their dependencies, and decompressed, which insmod would leave to the kernel.
  for name in virtio_pci virtio_blk ext4 virtio_console; do
    within modprobe --set-version "$release" --show-depends "$name" 2>/dev/null || true
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$draft/modules"
  while read -r module; do
    case $module in
    *.xz) within busybox unxz -c "$module" >"$tree/modules/$(basename "$module" .xz)" ;;
    *) cp "$root$module" "$tree/modules/" ;;
    esac
    basename "$module" .xz >>"$tree/modules/order"
  done <"$draft/modules"
  install -m 755 /dev/stdin "$tree/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "/modules/$module"; done </modules/order
/bin/busybox mount -t ext4 -o rw /dev/vda /root || exec /bin/busybox sh
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
INIT
  within sh -euc 'cd /tmp/initramfs && find . | busybox cpio -o -H newc' 2>/dev/null |
    gzip -1 >"$draft/initramfs"
  rm -rf "$tree" "$draft/modules"
}

configure() {
  local unit
  rm -rf "$root"/usr/share/{doc,man,locale,info,lintian,zoneinfo,i18n,bug,bash-completion,zsh} \
    "$root"/var/cache/{apt,debconf} "$root"/var/lib/apt/lists \
    "$root"/usr/lib/x86_64-linux-gnu/{gconv,perl-base/unicore} \
    "$root"/var/log/{apt,dpkg.log,bootstrap.log,alternatives.log} "$root/etc/resolv.conf"
  mkdir -p "$root"/var/cache/apt/archives/partial "$root"/var/lib/apt/lists/partial
  printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
  echo testvm >"$root/etc/hostname"
  # An empty one means "first boot", which presets units and asks questions.
  tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
  ln -sf /etc/machine-id "$root/var/lib/dbus/machine-id"
  : >"$root/etc/fstab"
  # Earlier boots' journals must stay readable.
  mkdir -p "$root/var/log/journal"
  printf 'lxc.net.0.type = veth\nlxc.net.0.link = lxcbr0\nlxc.net.0.flags = up\nlxc.apparmor.profile = unconfined\n' \
    >"$root/etc/lxc/default.conf"
  # They only cost time, which emulation has little of.
  for unit in systemd-timesyncd.service systemd-pstore.service getty.target getty@.service \
    serial-getty@.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer dpkg-db-backup.timer systemd-networkd.service \
    systemd-networkd.socket systemd-networkd-wait-online.service systemd-firstboot.service \
    systemd-hwdb-update.service ldconfig.service systemd-resolved.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-update-utmp.service \
    modprobe@drm.service modprobe@configfs.service modprobe@efi_pstore.service \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount \
    systemd-journal-catalog-update.service systemd-udev-load-credentials.service \
    lvm2-monitor.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
  ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
  mkdir -p "$root/etc/systemd/system.conf.d"
  # Tests decide themselves how often they restart a unit. The timeouts expect a faster machine.
  printf '[Manager]\nDefaultStartLimitIntervalSec=0\nDefaultTimeoutStartSec=900\nDefaultDeviceTimeoutSec=900\n' \
    >"$root/etc/systemd/system.conf.d/testhost.conf"
  install -m 755 "$here/testhost-agent" "$root/usr/local/sbin/testhost-agent"
  install -m 644 "$here/testhost-agent.service" "$root/etc/systemd/system/testhost-agent.service"
  quietly within systemctl enable testhost-agent.service
  mkdir -p "$root/usr/share/testguests"
  cp -a "$guests"/. "$root/usr/share/testguests/"
  # What the first boot would make is there.
  quietly within systemd-sysusers
  touch "$root/etc/.updated" "$root/var/.updated"
}

[ ! -d "$target" ] || exit 0
# Whoever left a draft here was killed.
rm -rf --one-file-system "$(dirname "$target")"/*.draft
mkdir -p "$draft"
trap 'rm -rf --one-file-system "$draft"' EXIT

step "Debian 13 from $mirror: systemd, D-Bus, polkit, LXC, LVM, Node"
install_system
step 'kernel and initramfs'
install_kernel
build_initramfs
step 'disk'
configure
quietly mke2fs -q -t ext4 -E lazy_itable_init=1 -d "$root" "$draft/root.img" "$disk_size"
rm -rf --one-file-system "$root"
mv "$draft" "$target"
trap - EXIT

# Images of older recipes go, unless a host runs on one.
for image in "$(dirname "$target")"/*; do
  if [ -d "$image" ] && [ "$image" != "$target" ]; then
    flock --nonblock "$image.lock" rm -rf --one-file-system "$image" "$image.lock" || true
  fi
done
step "finished: $(du -sh "$target" | cut -f1)"
