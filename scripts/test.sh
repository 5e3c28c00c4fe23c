#!/bin/bash
# Runs the tests of every module and prints go test's own lines. Packages that
# need the machine for themselves (network, containers) do so one at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
go test -tags grpcnotrace -timeout 15m -p 1 ./...
for module in embed/shim; do
	(cd "$module" && go vet ./... && go test -timeout 5m ./...)
done
