#!/bin/bash
# Runs the runtime's tests against a containerd daemon, Debian's: what
# --container-runtime-endpoint does. The package is unpacked below build, not
# installed.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$PWD/build/containerd
scripts/debian.sh containerd build/containerd
work=$(mktemp -d)
"$dir/usr/bin/containerd" --version >/dev/null
cat >"$work/config.toml" <<END
version = 2
root = "$work/root"
state = "$work/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$work/containerd.sock"
END
"$dir/usr/bin/containerd" -c "$work/config.toml" >"$work/log" 2>&1 &
daemon=$!
trap 'kill $daemon; wait $daemon 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 200); do
	[ ! -S "$work/containerd.sock" ] || break
	kill -0 $daemon || { tail -5 "$work/log" >&2; exit 1; }
	sleep 0.05
done
SKIFF_TEST_CONTAINERD="$work/containerd.sock" go test -count=1 -tags grpcnotrace -timeout 10m ./internal/agent/containerd
