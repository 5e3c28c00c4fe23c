// Package hostile tests what a control plane bears: clients that mean it ill, or
// are broken, and very many at the same time.
//
// A plane is `skiff server` without a node as a process in a memory cgroup of its
// own; an attack is one way to ill-treat it, made by processes of their own (this
// test's executable again); a witness is another client, whose requests must be
// answered in time meanwhile. The invariant: whatever a client does, the server's
// process lives in 256 MiB and serves the others.
//
// TestHostile makes each attack for a moment, beside whatever else the machine does;
// with SKIFF_HOSTILE=1 (make hostile) all of them at full strength and alone: how long
// the witness waits is judged then, and the figures go to build/hostile.json.
package hostile
