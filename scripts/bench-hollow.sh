#!/bin/bash
# Measures what many nodes ask of their server, in a network namespace of its own,
# and prints and writes build/bench-hollow.json. Arguments go to the program:
# scripts/bench-hollow.sh -nodes 100
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "measuring makes a network namespace and needs root: sudo make bench-hollow" >&2; exit 1; }
mkdir -p build
go build -tags grpcnotrace -o build/bench-hollow ./e2e/hollow
# The namespace goes with the last process in it, however that ends.
exec unshare --net sh -c 'ip link set lo up && exec build/bench-hollow -skiff "${SKIFF_BIN:-bin/skiff}" "$@"' bench-hollow "$@"
