#!/bin/bash
# Runs the end-to-end tests with older kubectls, the newest patch release of
# each minor version given, built from their modules under our own main.
#
#   scripts/test-kubectl.sh MINOR...
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
for minor in "$@"; do
	dir=$root/build/kubectl/1.$minor
	mkdir -p "$dir"
	cp embed/kubectl/main.go "$dir/"
	(
		cd "$dir"
		[ -f go.mod ] || go mod init kubectl >/dev/null 2>&1
		[ -x kubectl ] || go get "k8s.io/kubectl@v0.$minor" "k8s.io/client-go@v0.$minor" "k8s.io/component-base@v0.$minor" >get.log 2>&1 ||
			{ tail -5 get.log >&2; exit 1; }
		version=v1.$(go list -m -f '{{.Version}}' k8s.io/kubectl | cut -c 4-)
		echo "end-to-end tests with kubectl $version"
		go mod tidy >/dev/null 2>&1
		CGO_ENABLED=0 go build -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o kubectl .
	)
	SKIFF_TEST_KUBECTL=$dir/kubectl go test -count=1 -tags grpcnotrace -timeout 20m ./e2e/node
done
