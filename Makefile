# Skiff's build. `make` builds bin/skiff; `make demo` shows it; `make test` runs
# every test that belongs to a change. As root on Debian, what is missing is
# installed first.

VERSION ?= v0.1.0
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
DATE    := $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo 2026-11-01T00:00:00Z)

export GOTOOLCHAIN = local
# Tests and vet compile what the build does, in the same way, so that all share
# what the first has compiled.
export CGO_ENABLED = 0
export GOFLAGS += -trimpath
# Sudo drops Go from the path on many machines.
export PATH := $(PATH):/usr/local/go/bin:/usr/lib/go/bin

# $(shell …) does not see what is exported.
ARCH    := $(shell PATH="$(PATH)" go env GOARCH)
TAGS    := grpcnotrace
PKG     := github.com/skiff-sh/skiff/internal/version
LDFLAGS := -s -w -buildid= -X $(PKG).number=$(VERSION) -X $(PKG).commit=$(COMMIT) -X $(PKG).date=$(DATE)
GOBUILD := go build -buildvcs=false -tags $(TAGS) -ldflags '$(LDFLAGS)'

BUILD_PACKAGES := gcc libc6-dev libseccomp-dev pkg-config zstd
TEST_PACKAGES  := nftables netbase conntrack busybox-static iproute2 curl e2fsprogs procps dbus-daemon
VM_PACKAGES    := qemu-system-x86 debootstrap
SOAK           ?= 1h
DIST_PACKAGES  := gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static

.PHONY: twin twin-proof twin-reach twin-deps build demo demo-stop cluster cluster-stop conformance test test-kubectl test-node test-cluster vm-test soak damage powercut powercut-proof powercut-deps bench-store bench-hollow hostile race bench-upstream vet check-fmt arm64 dist bench clean helpers openapi build-deps test-deps dist-deps help

build: helpers openapi ## build bin/skiff
	$(GOBUILD) -o bin/skiff .

helpers: build-deps
	scripts/build-helpers.sh $(ARCH)

openapi:
	scripts/openapi.sh

demo: test-deps build ## start a server, deploy the hello application, get its page
	scripts/demo.sh start

demo-stop: ## stop what the demo started and remove all of it
	scripts/demo.sh stop

cluster: test-deps build ## make a cluster of NODES (3) in namespaces of this machine; NAT=1: one of them behind a NAT
	go run -tags $(TAGS) ./e2e/cluster/run start -nodes $(or $(NODES),3) $(if $(NAT),-nat)

cluster-stop: build-deps ## stop that cluster and remove all of it
	go run -tags $(TAGS) ./e2e/cluster/run stop

conformance: test-deps build ## run upstream's conformance specs on two nodes; FOCUS= and SKIP= match names, PASSING=1 leaves out what waits, PROCS (4) run side by side
	@mkdir -p build/conformance
	go build -tags $(TAGS) -o build/conformance/conformance ./e2e/conformance
	build/conformance/conformance -procs $(or $(PROCS),4) -focus '$(FOCUS)' -skip '$(SKIP)' $(if $(PASSING),-passing)

test: test-deps build check-fmt vet ## run all tests that belong to a change
	scripts/test.sh

check-fmt:
	@bad=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
	[ -z "$$bad" ] || { echo "not gofmt'd: $$bad"; exit 1; }

vet:
	go vet -tags $(TAGS) ./...

arm64: openapi ## check that skiff builds for arm64
	GOARCH=arm64 go build -tags $(TAGS) -o /dev/null .

dist: dist-deps openapi ## build for amd64 and arm64, reproducibly, and print sizes
	for arch in amd64 arm64; do \
		scripts/build-helpers.sh $$arch && \
		GOOS=linux GOARCH=$$arch $(GOBUILD) -o dist/skiff-$$arch . || exit 1; \
	done
	scripts/dist.sh

vm-test: test-deps build ## test on a bare Debian with systemd and cgroup v2, in QEMU, through power cuts
	@scripts/packages.sh $(VM_PACKAGES)
	e2e/vm/rootfs.sh build/vm
	go test -v -tags vm -count=1 -timeout 120m ./e2e/vm

test-kubectl: test-deps build ## run the end-to-end tests with kubectl 1.34 and 1.35
	scripts/test-kubectl.sh 34 35

test-node: test-deps build ## run the tests of a node with hundreds of Pods, thousands of commands and long absences
	SKIFF_TEST_SLOW=1 go test -count=1 -tags $(TAGS) -timeout 40m -v ./e2e/node

test-cluster: test-deps build ## run the tests of clusters, with a server that stays away for over a minute
	SKIFF_TEST_SLOW=1 go test -count=1 -tags $(TAGS) -timeout 30m -v ./e2e/cluster

twin: build twin-deps ## ask upstream's API server and skiff's the same; REQUESTS (20000), SEED (1), KIND=pods, CASE=NUMBER
	build/twin/twin -requests $(or $(REQUESTS),20000) -seed $(or $(SEED),1) -kind '$(KIND)' -case $(or $(CASE),-1)

twin-proof: build twin-deps ## see that of 50 rules taken out of skiff, SEED (1) draws them, the twin notices at least 48
	build/twin/twin -proof 50 -requests $(or $(REQUESTS),20000) -seed $(or $(SEED),1)

twin-reach: build twin-deps ## list the rules of skiff that no request of three seeds, from SEED (1), comes to
	build/twin/twin -reach -requests $(or $(REQUESTS),20000) -seed $(or $(SEED),1) -kind '$(KIND)'

twin-deps: build-deps
	scripts/upstream.sh
	go build -C e2e/twin -tags $(TAGS) -o ../../build/twin/twin .

soak: build-deps ## walk the store at random and kill it under load, each for SOAK (an hour)
	SKIFF_SOAK=$(SOAK) go test -tags $(TAGS) -run 'TestSoak|TestCrash' -timeout 0 -v ./internal/store/bolt

damage: build-deps ## damage every byte of a store's file, one by one, and see what is made of it
	SKIFF_TEST_DAMAGE_ALL=1 go test -count=1 -tags $(TAGS) -run TestDamagedFile -timeout 60m -v ./internal/store/bolt

powercut: powercut-deps ## cut the power under the store's feet, CUTS times (200), in QEMU
	build/powercut/run -cuts $(or $(CUTS),200) $(if $(SEED),-seed $(SEED))

powercut-proof: powercut-deps ## see that stores which do not sync as they must are caught, each within 50 cuts
	build/powercut/run -proof -cuts $(or $(CUTS),50) $(if $(SEED),-seed $(SEED))

powercut-deps: test-deps
	@scripts/packages.sh qemu-system-x86
	e2e/powercut/kernel.sh build/powercut
	go build -tags $(TAGS) -o build/powercut/run ./e2e/powercut

bench-store: test-deps build ## measure the store beside etcd into build/bench-store.json
	scripts/bench-store.sh

bench-hollow: test-deps build ## measure a server with 100, 500 and 1,000 hollow nodes into build/bench-hollow.json
	scripts/bench-hollow.sh

bench-upstream: test-deps build ## measure the API beside upstream's server and etcd into build/bench-upstream.json
	scripts/bench-upstream.sh

hostile: test-deps build ## ill-treat a server in 256 MiB in every way there is, into build/hostile.json
	SKIFF_HOSTILE=1 go test -count=1 -tags $(TAGS) -run TestHostile -timeout 40m -v ./e2e/hostile

race: build-deps ## run the internal packages' tests, and 50 clients that do everything for STAMPEDE (20s), with the race detector
	CGO_ENABLED=1 SKIFF_STAMPEDE=$(or $(STAMPEDE),20s) go test -count=1 -race -tags $(TAGS) -run TestStampede -timeout 20m -v ./e2e/hostile
	CGO_ENABLED=1 go test -count=1 -race -tags $(TAGS) -timeout 40m ./internal/...

bench: test-deps build ## measure this machine's figures into build/bench.json
	scripts/bench.sh

build-deps:
	@scripts/packages.sh $(BUILD_PACKAGES)

test-deps: build-deps
	@scripts/packages.sh $(TEST_PACKAGES)

dist-deps: build-deps
	@scripts/packages.sh $(DIST_PACKAGES)

clean: ## remove what was built
	rm -rf bin build dist
	find embed/files embed/openapi/data -type f ! -name README.md -delete

help: ## say what there is
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12
