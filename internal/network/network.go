// Package network holds what connects a node's Pods, to each other, to
// Services and to the world: pod gives them links and addresses and translates
// sources, mesh leads to the Pods of other nodes, service sends what is meant
// for a Service to one of its endpoints.
//
// pod and service share one nftables table of each address family, named by
// config.Host, and nothing else: each writes its own chains and sets in it, and
// service asks for a source to be translated by setting the mark bit that pod
// acts on (0x4000). pod and mesh tell their routes from each other's by the
// routes' protocol. This package is what they have in common: lists of what the
// kernel has, its settings, and how large Pods' packets are. It changes nothing
// of its own accord; its tests run all of them together, and with DNS, in the
// kernel.
package network
