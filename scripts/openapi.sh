#!/bin/sh
# Builds the OpenAPI documents that the executable carries into
# embed/openapi/data. Inputs: this file, embed/openapi/gen, internal/kind,
# internal/rest/discovery.go, and the versions in embed/openapi/gen/go.mod.
set -eu
cd "$(dirname "$0")/../embed/openapi/gen"

api=k8s.io/api
machinery=k8s.io/apimachinery/pkg

header=$(mktemp)
trap 'rm -f "$header"' EXIT

go tool openapi-gen --output-dir definitions \
	--output-pkg github.com/skiff-sh/skiff/embed/openapi/gen/definitions \
	--output-file zz_generated.go --go-header-file "$header" --report-filename /dev/null \
	$api/core/v1 $api/apps/v1 $api/authentication/v1 $api/authorization/v1 \
	$api/autoscaling/v1 $api/coordination/v1 $api/discovery/v1 $api/events/v1 \
	$api/policy/v1 $api/scheduling/v1 \
	$machinery/apis/meta/v1 $machinery/api/resource $machinery/util/intstr \
	$machinery/runtime $machinery/version

rm -f ../data/*.zst
go run -tags grpcnotrace . -o ../data
