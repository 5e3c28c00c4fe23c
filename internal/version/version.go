// Package version says which build of skiff this is and which Kubernetes it
// speaks.
//
// Version, Commit and Date are set by the linker (see the Makefile); Kubernetes
// is the release whose API is served. The invariant: all are constant for the
// life of the process. The package never imports another of the house.
package version

import (
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	apiversion "k8s.io/apimachinery/pkg/version"
)

// Kubernetes is the release whose API skiff speaks.
const Kubernetes = "v1.36.3"

// Set by the linker.
var (
	number = "v0.1.0-dev"
	commit = "unknown"
	date   = "2026-11-01T00:00:00Z" // of the commit, RFC 3339
)

// Number is skiff's own version, such as "v0.1.0".
func Number() string { return number }

// Commit is the commit this was built from.
func Commit() string { return commit }

// Date is when that commit was made: no clock that is right shows less.
func Date() time.Time {
	t, err := time.Parse(time.RFC3339, date)
	if err != nil {
		panic("the linker set a bad build date: " + date)
	}
	return t
}

// Git is the version that API server and nodes report: "v1.36.3+skiff-v0.1.0".
func Git() string { return Kubernetes + "+skiff-" + number }

// API is what /version answers.
func API() apiversion.Info {
	parts := strings.SplitN(strings.TrimPrefix(Kubernetes, "v"), ".", 3)
	return apiversion.Info{
		Major: parts[0],
		Minor: parts[1],
		// What the API behaves as, and the oldest that it could.
		EmulationMajor: parts[0], EmulationMinor: parts[1],
		MinCompatibilityMajor: parts[0], MinCompatibilityMinor: previous(parts[1]),
		GitVersion:   Git(),
		GitCommit:    commit,
		GitTreeState: "clean",
		BuildDate:    date,
		GoVersion:    runtime.Version(),
		Compiler:     runtime.Compiler,
		Platform:     runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// Module returns the version of a module that is linked in, or "".
func Module(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

// previous returns the minor version before one.
func previous(minor string) string {
	n, err := strconv.Atoi(minor)
	if err != nil {
		return minor
	}
	return strconv.Itoa(n - 1)
}
