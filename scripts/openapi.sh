#!/bin/sh
# Builds the OpenAPI documents that the executable carries into
# embed/openapi/data, unless they are there and nothing they are made of has
# changed: this file, embed/openapi, internal/kind, what discovery and deletions
# say of it in internal/rest and internal/api, and the versions in go.mod.
set -eu
cd "$(dirname "$0")/.."

api=k8s.io/api
machinery=k8s.io/apimachinery/pkg
definitions=embed/openapi/gen/definitions
mkdir -p build

inputs=$({
	go version
	find scripts/openapi.sh go.mod embed/openapi internal/kind \
		internal/rest/discovery.go internal/rest/resource.go internal/rest/review.go internal/api/delete.go \
		-type f ! -name '*_test.go' ! -path 'embed/openapi/data/*' ! -name zz_generated.go -print |
		LC_ALL=C sort | xargs sha256sum
} | sha256sum)
if [ -f embed/openapi/data/index ] && [ "$(cat build/openapi-inputs 2>/dev/null)" = "$inputs" ]; then
	exit 0
fi

# kube-openapi's generator has a module of its own, so that what it needs stays
# out of the product's.
go build -C embed/openapi/tool -o ../../../build/openapi-gen k8s.io/kube-openapi/cmd/openapi-gen

: >build/openapi-header
build/openapi-gen --output-dir $definitions \
	--output-pkg github.com/skiff-sh/skiff/$definitions \
	--output-file zz_generated.go --go-header-file build/openapi-header --report-filename /dev/null \
	$api/core/v1 $api/apps/v1 $api/authentication/v1 $api/authorization/v1 \
	$api/autoscaling/v1 $api/certificates/v1 $api/coordination/v1 $api/discovery/v1 $api/events/v1 \
	$api/node/v1 $api/policy/v1 $api/scheduling/v1 \
	$machinery/apis/meta/v1 $machinery/api/resource $machinery/util/intstr \
	$machinery/runtime $machinery/version

# Nothing but the document generator compiles it.
sed -i -e 's|^//go:build .*|//go:build openapi|' -e '\|^// +build|d' $definitions/zz_generated.go

go run -tags openapi,grpcnotrace ./embed/openapi/gen -o embed/openapi/data
# All that is there would be carried.
find embed/openapi/data -type f ! -name README.md ! -name documents.zst ! -name schemas.zst ! -name index -delete
echo "$inputs" >build/openapi-inputs
