package cgroup

// Enforce keeps all Pods together to what the node has for them: memory up to that
// many bytes (0: no limit), and CPU time by shares where others want some too.
func (t *Tree) Enforce(cpuShares uint64, memory int64) error {
	if err := t.setCPU(t.root, Pod{CPUShares: cpuShares}); err != nil {
		return err
	}
	return t.setMemory(t.root, Pod{MemoryLimit: memory})
}
