#!/bin/bash
# Runs the tests of every module and prints go test's own lines. The end-to-end
# tests, which measure themselves against deadlines, come last and alone.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "the tests run containers and need root: sudo make test" >&2; exit 1; }
for module in embed/shim e2e/store e2e/twin; do
	(cd "$module" && go vet ./... && go test -timeout 5m ./...)
done
mapfile -t packages < <(go list -tags grpcnotrace ./... | grep -Ev '/e2e/(node|cluster)$')
go test -tags grpcnotrace -timeout 15m -p 2 "${packages[@]}"
scripts/test-daemon.sh
go test -tags grpcnotrace -timeout 20m ./e2e/node
go test -tags grpcnotrace -timeout 20m ./e2e/cluster
