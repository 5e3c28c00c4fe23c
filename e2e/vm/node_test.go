//go:build vm

package vm

import "testing"

// TestNode is what a node does for Pods where the kernel and systemd have all it takes:
// cgroup v2, AppArmor, NFS and swap; what is there after a reboot, when all that was in
// memory is gone; and how Pods end when they are told before the machine does.
func TestNode(t *testing.T) {
	m := newMachine(t, "node.img")
	for _, name := range []string{"node", "again", "end"} {
		ok := t.Run(name, func(t *testing.T) { m.boot(t, name, 1024, "", "") })
		if !ok {
			break // the next boot would begin elsewhere
		}
	}
}
