// Package network holds what connects a node's Pods, to each other, to
// Services and to the world: pod gives them links and addresses and translates
// sources, service sends what is meant for a Service to one of its endpoints.
//
// The two share one nftables table of each address family, named by
// config.Host, and nothing else: each writes its own chains and sets in it, and
// service asks for a source to be translated by setting the mark bit that pod
// acts on (0x4000). This package has no code; its tests run both together, and
// with DNS, in the kernel.
package network
