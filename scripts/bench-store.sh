#!/bin/bash
# Measures skiff's store beside Debian's etcd and a bare log, in a network
# namespace of its own, and prints and writes build/bench-store.json. Arguments go
# to the program: scripts/bench-store.sh -quick
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "measuring an idle server runs containers and needs root: sudo make bench-store" >&2; exit 1; }
scripts/debian.sh etcd-server build/etcd
go build -tags grpcnotrace -o build/bench ./e2e/bench
(cd e2e/store && go build -tags grpcnotrace -o ../../build/bench-store .)
# The namespace goes with the last process in it, however that ends.
exec unshare --net sh -c 'ip link set lo up && exec build/bench-store "$@"' bench-store "$@"
