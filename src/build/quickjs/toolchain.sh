#!/bin/bash
# Builds the root tree in which the package is built: Debian 13 with QuickJS, GCC, Node and debhelper.
# usage: toolchain.sh DIRECTORY   (root; the directory appears only when it is complete; the caller
#                                  holds a lock that keeps out other builders)
set -euo pipefail

target=$1
draft=$target.draft
rm -rf --one-file-system "$draft"
mkdir -p "$draft"
trap 'rm -rf --one-file-system "$draft"' EXIT
if ! debootstrap --variant=minbase --include=build-essential,debhelper,esbuild,libjs-handlebars,libquickjs,nodejs,quickjs trixie "$draft" \
  "${LOCKERD_TEST_MIRROR:-http://deb.debian.org/debian}" >"$draft.log" 2>&1; then
  tail -n 20 "$draft.log" >&2
  exit 1
fi
rm -rf "$draft.log" "$draft"/var/{cache/apt,lib/apt/lists} "$draft"/usr/share/{doc,man,locale,info}
mv "$draft" "$target"
