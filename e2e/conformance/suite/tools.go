//go:build tools

// Package suite is a module that requires what upstream's conformance suite is
// built from, and nothing else, so that every library in it has the version that
// upstream chose. It holds no code: package conformance builds from here.
package suite

import _ "k8s.io/kubernetes/test/e2e"
