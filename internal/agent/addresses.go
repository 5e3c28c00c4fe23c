package agent

import (
	"net/netip"
	"slices"
)

// SetAddresses says that the node has other addresses now. The Node and the Pods
// that have the node's network follow.
func (a *Agent) SetAddresses(addresses []netip.Addr) {
	if slices.Equal(addresses, a.nodeIPs()) {
		return
	}
	a.addresses.Store(&addresses)
	a.pokeNode()
	a.pods.mu.Lock()
	defer a.pods.mu.Unlock()
	for _, w := range a.pods.workers {
		w.poke()
	}
}

// nodeIPs are the addresses that the node has now.
func (a *Agent) nodeIPs() []netip.Addr {
	if now := a.addresses.Load(); now != nil {
		return *now
	}
	return a.NodeIPs
}

// standing is the Pod's sandbox with the addresses it has now; w.mu is held.
func (w *worker) standing() sandbox {
	box := w.box
	if len(box.IPs) > 0 && w.pod.Spec.HostNetwork {
		box.IPs = w.nodeIPs()
	}
	return box
}
