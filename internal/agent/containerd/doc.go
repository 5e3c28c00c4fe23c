// Package containerd runs a node's containers: it implements agent.Runtime.
//
// Images, snapshots and the containers' records are containerd's, used through
// its Go client interface: its stores work inside this process unless the
// address of a daemon is given, and nothing here knows the difference. What
// runs is looked after by one skiff-shim for each Pod, which is spoken to over
// containerd's task service (ttrpc) directly: a shim costs one process start
// for each Pod instead of one or two for each container, a slow one is waited
// for instead of being cleaned up, and Pods survive the end of a daemon.
//
// Runtime is what others use; pod is the connection to a shim; store the
// assembled containerd. A container is: a record (made first, removed last), a
// snapshot of the same name, a bundle in the run directory with the mounted
// root file system, and what the shim knows. Whatever a killed skiff leaves of
// that is found by the record when the next one opens, and adopted or removed.
//
// That a container has ended is learnt from the kernel, by one goroutine for all of them
// (ends.go); then its shim is asked how. A Pod that runs costs its shim and its
// connection, nothing else here.
//
// One shim waits for the next Pod to come (spare.go), and of many containers that
// are to be made at once only some are (turn.go): the first run early.
//
// This package never pulls images, makes namespaces or knows the API.
package containerd
