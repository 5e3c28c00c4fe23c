#!/bin/bash
# Measures skiff's API server beside upstream's kube-apiserver with its etcd, in a
# network namespace of their own, and prints and writes build/bench-upstream.json.
# Arguments go to the program: scripts/bench-upstream.sh -only list,watch
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "measuring makes a network namespace and needs root: sudo make bench-upstream" >&2; exit 1; }
scripts/upstream.sh
go build -tags grpcnotrace -o build/bench-upstream ./e2e/bench/upstream
# The namespace goes with the last process in it, however that ends.
exec unshare --net sh -c 'ip link set lo up && exec build/bench-upstream "$@"' bench-upstream \
	-kube-apiserver build/upstream/kube-apiserver -etcd build/upstream/etcd "$@"
