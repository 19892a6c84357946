# shellcheck shell=bash
# What the recipes of all test hosts share. Sourced by build.sh, which sets:
#   target   directory of the image; it appears only when it is complete
#   kind     word at the start of what is said

mirror=${LOCKERD_TEST_MIRROR:-http://deb.debian.org/debian}
draft=${target:?}.draft
: "${kind:?}"

step() { printf '[%s %3ds] %s\n' "$kind" "$SECONDS" "$*" >&2; }

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
    printf '%s: failed: %s\n' "$kind" "$*" >&2
    return 1
  fi
  rm -f "$log"
}

install_packages() {
  local tree=$1
  shift
  quietly within "$tree" apt-get install -y --no-install-recommends "$@"
}

# Ends the script when the image is there already: somebody else has built it meanwhile.
begin_draft() {
  [ ! -d "$target" ] || exit 0
  # Whoever left a draft here was killed.
  rm -rf --one-file-system "$(dirname "$target")"/*.draft
  mkdir -p "$draft"
  trap 'rm -rf --one-file-system "$draft"' EXIT
}

# A Debian release in a tree, ready for install_packages.
install_base() {
  local tree=$1 release=$2
  quietly debootstrap --variant=minbase "$release" "$tree" "$mirror"
  cat >"$tree/etc/dpkg/dpkg.cfg.d/testhost" <<'DPKG'
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/info/*
DPKG
  rm -rf "$tree"/usr/share/{doc,man,locale,info}/* "$tree"/var/cache/apt/archives/*.deb
  # A mirror may be a frozen one, whose lists of sid are out of date by their own word.
  echo 'Acquire::Check-Valid-Until "false";' >"$tree/etc/apt/apt.conf.d/testhost"
  # A machine with a private mirror finds it only with its own names.
  cp -L --remove-destination /etc/resolv.conf /etc/hosts "$tree/etc/"
  quietly within "$tree" apt-get update
}

# What a guest or a host never reads while it runs; containers are copied often.
slim() {
  local tree=$1
  rm -rf "$tree"/usr/share/{doc,man,locale,info,lintian,zoneinfo,i18n,bug,bash-completion,zsh} \
    "$tree"/var/cache/{apt,debconf} "$tree"/var/lib/apt/lists \
    "$tree"/usr/lib/x86_64-linux-gnu/{gconv,perl-base/unicore} \
    "$tree"/var/log/{apt,dpkg.log,bootstrap.log,alternatives.log} "$tree"/etc/resolv.conf
  mkdir -p "$tree"/var/cache/apt/archives/partial "$tree"/var/lib/apt/lists/partial
  printf '127.0.0.1 localhost\n' >"$tree/etc/hosts"
}

# Units that a test host does without.
mask() {
  local tree=$1 unit
  shift
  for unit; do ln -sf /dev/null "$tree/etc/systemd/system/$unit"; done
}

# What every test host has, whatever runs it. Further arguments are lines for systemd.
configure_host() {
  local tree=$1
  shift
  # Earlier boots' journals must stay readable.
  mkdir -p "$tree/var/log/journal"
  printf 'lxc.net.0.type = veth\nlxc.net.0.link = lxcbr0\nlxc.net.0.flags = up\nlxc.apparmor.profile = unconfined\n' \
    >"$tree/etc/lxc/default.conf"
  mask "$tree" getty.target getty@.service apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
    systemd-timesyncd.service systemd-pstore.service systemd-networkd.service \
    systemd-networkd.socket systemd-networkd-wait-online.service systemd-firstboot.service \
    systemd-hwdb-update.service systemd-resolved.service ldconfig.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount sys-kernel-config.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount
  : >"$tree/etc/fstab"
  ln -sf /lib/systemd/system/multi-user.target "$tree/etc/systemd/system/default.target"
  # Tests decide themselves how often they restart a unit.
  mkdir -p "$tree/etc/systemd/system.conf.d"
  printf '%s\n' '[Manager]' DefaultStartLimitIntervalSec=0 "$@" \
    >"$tree/etc/systemd/system.conf.d/testhost.conf"
}
