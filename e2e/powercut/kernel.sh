#!/bin/bash
# Unpacks Debian's cloud kernel, once, without installing it.
#
#   e2e/powercut/kernel.sh DIRECTORY
#
# DIRECTORY gets boot/vmlinuz-* and lib/modules.
set -euo pipefail
dir=$1
[ ! -e "$dir/boot" ] || exit 0
mkdir -p "$dir"
cd "$dir"
fetch() {
	package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9]\)/\1/p' | head -1)
	# apt fetches as another user where it may.
	[ -n "$package" ] && apt-get download -o APT::Sandbox::User=root "$package"
}
fetch >fetch.log 2>&1 || { apt-get update && fetch; } >fetch.log 2>&1 || { tail -5 fetch.log >&2; exit 1; }
rm -rf new && dpkg -x linux-image-*.deb new && rm linux-image-*.deb
rm -rf lib && mv new/lib new/boot . && rm -r new
