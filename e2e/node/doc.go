// Package node tests whole machines: the skiff executable, real containers, the
// kernel's network, and the clients that people use, kubectl and client-go. It
// needs root and bin/skiff (or the executable that SKIFF_BIN names).
//
// A machine is a network namespace with a data directory in which a skiff server
// runs; most tests share one and have a Kubernetes namespace each, those that
// stop or break a server make their own. The invariant: whatever happens to a
// test, nothing is left on the host, since a parent process that runs no test
// ends all machines. The package never looks into skiff's memory.
package node
