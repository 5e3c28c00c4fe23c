#!/bin/sh
# Makes the static libseccomp of an architecture available to a build.
#
#   scripts/libseccomp.sh ARCH DIRECTORY
#
# Prints nothing where the system's own serves, or DIRECTORY with Debian's
# package for ARCH unpacked in it, fetched and checked by apt (its own lists,
# so that the system's stay as they are) and kept for later builds.
set -eu

arch=${1:?usage: scripts/libseccomp.sh ARCH DIRECTORY}
dir=${2:?usage: scripts/libseccomp.sh ARCH DIRECTORY}

case $arch in
amd64) triplet=x86_64-linux-gnu ;;
arm64) triplet=aarch64-linux-gnu ;;
*) echo "libseccomp: architecture $arch: expected amd64 or arm64" >&2; exit 2 ;;
esac

library=usr/lib/$triplet/libseccomp.a
if [ "$(dpkg --print-architecture)" = "$arch" ]; then
	[ -e "/$library" ] || { echo "libseccomp: /$library is missing: apt-get install libseccomp-dev" >&2; exit 1; }
	exit 0
fi
if [ -e "$dir/$library" ]; then
	echo "$dir"
	exit 0
fi

apt=$dir.apt
rm -rf "$apt" "$dir.new"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$dir.new"
: >"$apt/status"
get() {
	apt-get -qq -o APT::Architecture="$arch" -o APT::Architectures::="$arch" -o Dir::State="$apt" \
		-o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
		-o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root "$@" >&2
}
get update
(cd "$apt" && get download libseccomp-dev)
dpkg-deb -x "$apt"/libseccomp-dev_*.deb "$dir.new"
rm -rf "$dir" "$apt"
mv "$dir.new" "$dir"
[ -e "$dir/$library" ] || { echo "libseccomp: Debian's libseccomp-dev for $arch has no $library" >&2; exit 1; }
echo "$dir"
