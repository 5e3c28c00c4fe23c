#!/bin/bash
# Prints how many bytes of code and data each module adds to the executable, by
# the symbols of a build that still has them. Shared runtime data are not
# attributed to anyone.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -o build/skiff-symbols .
go tool nm -size build/skiff-symbols | awk '
	{ size = $2; name = $4; for (i = 5; i <= NF; i++) name = name " " $i }
	name ~ /^(type:|go:|runtime\.|go\.)/ { next }
	{
		sub(/^type:\.(eq|hash)\./, "", name)
		if (match(name, /^[a-z0-9.-]+\.[a-z]+\/[^.(]*/)) {
			path = substr(name, RSTART, RLENGTH)
			n = split(path, part, "/")
			if (path ~ /^github.com|^golang.org|^google.golang.org|^sigs.k8s.io|^go.yaml.in/) module = part[1] "/" part[2] (part[1] == "github.com" ? "/" part[3] : "")
			else if (path ~ /^k8s.io/) module = part[1] "/" part[2]
			else module = part[1] "/" part[2]
		} else module = "the Go standard library"
		total[module] += size
	}
	END { for (m in total) printf "%8.2f MB  %s\n", total[m] / 1e6, m }' | sort -rn
