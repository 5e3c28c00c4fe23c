#!/bin/sh
# Builds what the skiff executable carries for one architecture, compressed,
# into embed/files/ARCH. What has not changed since the last time is skipped.
#
#   scripts/build-helpers.sh ARCH [shim|runc|kubectl|hello]...
#
# Needs Go, gcc, pkg-config, zstd and libseccomp-dev; for an architecture other
# than this machine's also its gcc (gcc-aarch64-linux-gnu), and apt for its
# libseccomp.
set -eu

arch=${1:?usage: scripts/build-helpers.sh amd64|arm64 [shim|runc|kubectl|hello]...}
shift
[ $# -gt 0 ] || set -- shim runc hello kubectl

root=$(cd "$(dirname "$0")/.." && pwd)
out=$root/embed/files/$arch
work=$root/build/helpers/$arch
mkdir -p "$out" "$work"

case $arch in
amd64) triplet=x86_64-linux-gnu ;;
arm64) triplet=aarch64-linux-gnu ;;
*) echo "build-helpers: architecture $arch: expected amd64 or arm64" >&2; exit 2 ;;
esac

# The result must not depend on where or when it is built.
export GOOS=linux GOARCH="$arch" GOWORK=off GOFLAGS='-trimpath -buildvcs=false -mod=readonly'
strip='-s -w -buildid='

# inputs NAME prints a digest of everything the helper is built from.
inputs() {
	{
		go version
		cat "$root/scripts/build-helpers.sh" "$root/scripts/libseccomp.sh"
		[ "$1" != hello ] || cat "$root/go.mod" "$root/embed/hello.go"
		cd "$root/embed/$1"
		find . -type f ! -name '*_test.go' -print | LC_ALL=C sort | xargs sha256sum
	} | sha256sum | cut -d' ' -f1
}

# module NAME MODULE prints the version of a module that helper NAME requires.
module() {
	(cd "$root/embed/$1" && go list -m -f '{{.Version}}' "$2")
}

build_shim() {
	version=$(module shim github.com/containerd/containerd/api)
	(cd "$root/embed/shim" && CGO_ENABLED=0 go build -tags no_grpc -ldflags "$strip" -o "$work/shim" .)
}

build_runc() {
	version=$(module runc github.com/opencontainers/runc)
	version=${version#v}
	cc=gcc
	if [ "$(go env GOHOSTARCH)" != "$arch" ]; then
		cc=$triplet-gcc
	fi
	seccomp=$("$root/scripts/libseccomp.sh" "$arch" "$root/build/libseccomp/$arch")
	(
		cd "$root/embed/runc"
		[ -z "$seccomp" ] || export PKG_CONFIG_SYSROOT_DIR="$seccomp" PKG_CONFIG_LIBDIR="$seccomp/usr/lib/$triplet/pkgconfig"
		CGO_ENABLED=1 CC=$cc go build -buildmode=pie -tags 'seccomp urfave_cli_no_docs netgo osusergo' \
			-ldflags "$strip -linkmode external -extldflags '-static-pie -Wl,--build-id=none'" \
			-o "$work/runc" github.com/opencontainers/runc
	)
}

build_kubectl() {
	kubernetes=$(module kubectl k8s.io/kubectl)
	version=v1.${kubernetes#v0.}+skiff1
	ldflags=$strip
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		ldflags="$ldflags -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$(echo "$version" | cut -d. -f2)"
		ldflags="$ldflags -X $package.gitTreeState=clean -X $package.gitCommit=unknown"
	done
	(cd "$root/embed/kubectl" && CGO_ENABLED=0 go build -ldflags "$ldflags" -o "$work/kubectl" .)
}

build_hello() {
	version=$(cd "$root" && sed -n 's/^const HelloImage = ".*:\(.*\)"$/\1/p' embed/hello.go)
	(
		cd "$root"
		CGO_ENABLED=0 go build -ldflags "$strip" -o "$work/hello.bin" ./embed/hello
		GOARCH=$(go env GOHOSTARCH) go run ./embed/hello/image -arch "$arch" \
			-name "$(sed -n 's/^const HelloImage = "\(.*\)"$/\1/p' embed/hello.go)" "$work/hello.bin" "$work/hello"
	)
}

for name in "$@"; do
	digest=$(inputs "$name")
	if [ "$(cat "$out/.$name.inputs" 2>/dev/null)" = "$digest" ] && [ -s "$out/$name.zst" ]; then
		continue
	fi
	echo "building $name for $arch"
	rm -f "$out/.$name.inputs"
	"build_$name"
	# Above 19 the window grows, and with it the memory to unpack: 1 % is not worth it.
	zstd -q -f -19 -T1 --no-progress "$work/$name" -o "$work/$name.zst"
	printf 'sha256 %s\nversion %s\n' "$(sha256sum "$work/$name" | cut -d' ' -f1)" "$version" >"$work/$name.info"
	chmod 644 "$work/$name.zst"
	mv "$work/$name.zst" "$out/$name.zst"
	mv "$work/$name.info" "$out/$name.info"
	echo "$digest" >"$out/.$name.inputs"
done
