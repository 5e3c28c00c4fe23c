# The last boot, with half the memory.

boot_small() {
	step all_ready
	sleep 20
	memory "256 MB, ten small Pods, hello and box"
	note "processes killed for want of memory: $(awk '/^oom_kill / {print $2}' /proc/vmstat)"
	off
}

all_ready() {
	until_true 300 k wait --for=condition=Ready node/box --timeout=100s
	k rollout status deployment/small --timeout=400s
	k rollout status deployment/hello --timeout=100s
	until_true 240 get_through_service
}
