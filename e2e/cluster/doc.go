// Package cluster tests clusters of several machines: a server and agents that
// stand beside it, behind a router, and behind a NAT with no way in; links that
// are cut, addresses that change, and strangers who want to join.
//
// A cluster is a lab of package lab, the skiff executable, and kubectl; most
// tests share one and have a Kubernetes namespace each, those that break
// something make their own. It needs root and bin/skiff (or the executable that
// SKIFF_BIN names). The invariant: whatever happens to a test, nothing is left on
// the host, since a parent process that runs no test removes all labs.
package cluster
