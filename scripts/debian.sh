#!/bin/bash
# Unpacks a Debian package below build, without installing it, unless it is there:
# scripts/debian.sh PACKAGE DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
package=$1 dir=$2
[ ! -e "$dir/unpacked" ] || exit 0
mkdir -p "$dir"
cd "$dir"
rm -f "$package"_*.deb # of an earlier version
# apt fetches as another user where it may.
apt-get download -o APT::Sandbox::User=root "$package" >fetch.log 2>&1 ||
	{ apt-get update && apt-get download -o APT::Sandbox::User=root "$package"; } >fetch.log 2>&1 ||
	{ tail -5 fetch.log >&2; exit 1; }
dpkg -x "$package"_*.deb .
touch unpacked
