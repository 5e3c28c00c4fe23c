#!/bin/bash
# Prints the sizes of what `make dist` built, as executables and as downloads,
# and runs the arm64 one under emulation.
set -euo pipefail
cd "$(dirname "$0")/../dist"
for arch in amd64 arm64; do
	zstd -q -f -19 -T0 "skiff-$arch" -o "skiff-$arch.zst"
	printf '%-12s %6.1f MB   download %6.1f MB   sha256 %.16s\n' "skiff-$arch" \
		"$(stat -c %s "skiff-$arch" | awk '{print $1/1e6}')" \
		"$(stat -c %s "skiff-$arch.zst" | awk '{print $1/1e6}')" \
		"$(sha256sum "skiff-$arch" | cut -d' ' -f1)"
done
qemu-aarch64-static ./skiff-arm64 version
