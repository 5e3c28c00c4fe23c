#!/bin/bash
# Measures this machine's figures in a network namespace of their own. Arguments
# go to the program: scripts/bench.sh -only start,pods
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "measuring runs containers and needs root: sudo make bench" >&2; exit 1; }
mkdir -p build
go build -tags grpcnotrace -o build/bench ./e2e/bench
namespace=skiff-bench-$$
trap 'ip netns del "$namespace"' EXIT
ip netns add "$namespace"
nsenter --net="/run/netns/$namespace" ip link set lo up
nsenter --net="/run/netns/$namespace" build/bench -skiff bin/skiff -out build/bench.json "$@"
