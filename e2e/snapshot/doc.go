// Package snapshot tests snapshots and exports with the executable itself:
// servers that are killed, data directories that are wiped, and other machines
// that go on, each a network namespace with an address of its own.
//
// A machine is such a namespace with a data directory. The servers run without
// nodes: what is tested is the cluster's data. It needs root and bin/skiff, or
// what SKIFF_BIN names.
package snapshot
