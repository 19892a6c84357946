#!/bin/bash
# Builds the disk, the kernel and the initramfs of the virtual test hosts.
# usage: build.sh DIRECTORY HOST-IMAGE RELEASE    (root; the directory appears only when it is complete;
#                                 the guests are those of the namespace host's image; further arguments
#                                 only make another image)
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
target=$1
export kind='vm image'
guests=$2/usr/share/testguests
debian=$3
# shellcheck source-path=SCRIPTDIR source=../../machines/image/tree.sh
. "$here/../../machines/image/tree.sh"
root=$draft/root
# What a test can fill at most; the file itself grows with its content.
disk_size=6G

install_system() {
  install_base "$root" "$debian"
  install_packages "$root" systemd-sysv dbus polkitd libpam-systemd lxc lxcfs busybox-static \
    dnsmasq-base iproute2 iptables nodejs udev procps kmod uidmap lvm2 thin-provisioning-tools \
    e2fsprogs apparmor cryptsetup-bin systemd-cryptsetup xfsprogs btrfs-progs quota fdisk
}

install_kernel() {
  local packages
  # Not installed by apt-get, because it would bring a program that makes an initramfs. Since
  # Debian 14 the kernel and its modules are packages of their own.
  mapfile -t packages < <(within "$root" apt-cache depends --recurse --no-recommends --no-suggests \
    --no-conflicts --no-breaks --no-replaces --no-enhances linux-image-cloud-amd64 |
    grep -E '^linux-(image|binary|modules)-[0-9]' | sort -u)
  # shellcheck disable=SC2016 # expanded by the inner shell
  quietly within "$root" sh -euc '
    cd /tmp && apt-get download "$@"
    for package in ./linux-*.deb; do dpkg-deb --extract "$package" / && rm "$package"; done' \
    sh "${packages[@]}"
  release=$(basename "$root"/usr/lib/modules/*)
  quietly within "$root" depmod "$release"
  mv "$(find "$root/boot/vmlinuz-$release" "$root/usr/lib/modules/$release/vmlinuz" 2>/dev/null)" \
    "$draft/vmlinuz"
  rm -rf "${root:?}"/boot/*
  # Drivers that no virtual test host has anything for.
  rm -rf "$root/usr/lib/modules/$release/kernel"/{drivers/{net/ethernet,infiniband,scsi,ata,hv,nvme,gpu},sound}
  quietly within "$root" depmod "$release"
}

# One that knows a single disk: load what it needs, mount it, go there.
build_initramfs() {
  local tree=$root/tmp/initramfs name module
  mkdir -p "$tree"/{bin,dev,proc,modules,root}
  cp "$root/usr/bin/busybox" "$tree/bin/"
  # In the order of their dependencies, and decompressed, which insmod would leave to the kernel.
  for name in virtio_pci virtio_blk ext4 virtio_console; do
    within "$root" modprobe --set-version "$release" --show-depends "$name" 2>/dev/null || true
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$draft/modules"
  while read -r module; do
    case $module in
    *.xz) within "$root" busybox unxz -c "$module" >"$tree/modules/$(basename "$module" .xz)" ;;
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
  within "$root" sh -euc 'cd /tmp/initramfs && find . | busybox cpio -o -H newc' 2>/dev/null |
    gzip -1 >"$draft/initramfs"
  rm -rf "$tree" "$draft/modules"
}

configure() {
  slim "$root"
  echo testvm >"$root/etc/hostname"
  # An empty one means "first boot", which presets units and asks questions.
  tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
  ln -sf /etc/machine-id "$root/var/lib/dbus/machine-id"
  # The timeouts expect a faster machine.
  configure_host "$root" DefaultTimeoutStartSec=900 DefaultDeviceTimeoutSec=900
  # They only cost time, which emulation has little of.
  mask "$root" serial-getty@.service systemd-update-utmp.service modprobe@drm.service \
    modprobe@configfs.service modprobe@efi_pstore.service systemd-journal-catalog-update.service \
    systemd-udev-load-credentials.service lvm2-monitor.service
  install -m 755 "$here/testhost-agent" "$root/usr/local/sbin/testhost-agent"
  install -m 644 "$here/testhost-agent.service" "$root/etc/systemd/system/testhost-agent.service"
  quietly within "$root" systemctl enable testhost-agent.service
  mkdir -p "$root/usr/share/testguests"
  cp -a "$guests"/. "$root/usr/share/testguests/"
  # What the first boot would make is there.
  quietly within "$root" systemd-sysusers
  touch "$root/etc/.updated" "$root/var/.updated"
}

begin_draft
step "Debian $debian from $mirror: systemd, D-Bus, polkit, LXC, LVM, Node"
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

step "finished: $(du -sh "$target" | cut -f1)"
