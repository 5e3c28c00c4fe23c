// Package agent runs the Pods of one node. It knows the cluster only through
// the API over TLS, on the server's own machine too.
//
// Agent registers the Node and keeps its Lease, watches the Pods bound to the
// node and gives each a worker. A worker holds the newest wish (the Pod) and
// what is known of the world (sandbox, containers, probes); decide, a pure
// function, makes a plan of the next step from both, and podStatus, another
// one, says what to report. Steps are carried out one after the other through
// Runtime, Images and Network, which the packages agent/containerd,
// agent/image and network/pod fulfil and only package node wires.
//
// Pods that lie as files in the data directory (package static) run without the API,
// which shows mirrors of them.
//
// The agent keeps its machine going: what runs short costs a Pod its place by upstream's
// order (evict.go, load.go), and before the machine goes down all Pods end. What the
// kernel killed for memory package oom hears from its log, and that the machine goes
// down package logind hears from systemd.
//
// Containers outlive the agent: when Run ends they go on, and the next Run
// adopts them by the Pod UID that each carries. Nothing polls: the ends of
// containers come from Runtime.Follow, probes and back-offs are deadlines.
//
// A field of a PodSpec that the agent does not implement makes it refuse the
// Pod: the Pod stays Pending, its containers wait with the reason
// UnsupportedField, and a Warning event names the field. It does not become
// Failed, because a ReplicaSet would then replace it without end.
package agent
