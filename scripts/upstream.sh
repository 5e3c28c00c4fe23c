#!/bin/bash
# Builds what skiff is compared with into build/upstream: kube-apiserver from the
# module e2e/twin/apiserver and etcd from e2e/twin/etcd, unless they are there
# and were made of the same. With arguments, only those named:
# scripts/upstream.sh etcd
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
mkdir -p build/upstream

# A program is made of its module's versions, the toolchain and this file.
program() { # name, module, package, linker flags
	local name=$1 module=e2e/twin/$2 package=$3 flags=$4 out=build/upstream/$1 inputs
	inputs=$({ go version; cat scripts/upstream.sh "$module/go.mod" "$module/go.sum"; } | sha256sum)
	if [ -x "$out" ] && [ "$(cat "$out.inputs" 2>/dev/null)" = "$inputs" ]; then
		return
	fi
	echo "building $name (once; minutes on a small machine)"
	nice -n 10 go build -C "$module" -trimpath -buildvcs=false -ldflags "-s -w $flags" -o "../../../$out" "$package"
	echo "$inputs" >"$out.inputs"
}

# The version that the programs tell is set by the linker, as upstream's own
# build does.
kubernetes=$(sed -n 's|^.*k8s.io/kubernetes \(v[0-9.]*\).*|\1|p' e2e/twin/apiserver/go.mod | head -n 1)
IFS=. read -r major minor _ <<<"${kubernetes#v}"
version=k8s.io/component-base/version

[ $# -gt 0 ] || set -- etcd kube-apiserver
for name; do
	case $name in
	etcd) program etcd etcd go.etcd.io/etcd/server/v3 "" ;;
	kube-apiserver)
		program kube-apiserver apiserver k8s.io/kubernetes/cmd/kube-apiserver \
			"-X $version.gitVersion=$kubernetes -X $version.gitMajor=$major -X $version.gitMinor=$minor -X $version.gitTreeState=clean"
		;;
	*) echo "nothing named $name is built here: only etcd and kube-apiserver" >&2 && exit 1 ;;
	esac
done
