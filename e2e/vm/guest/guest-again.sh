# The boot after: what was in memory is gone, and what ran runs again.

boot_again() {
	step comes_back
	step confined_again
	step nothing_leaked
	step stop_leaves_pods
	step killall_leaves_nothing
	off
}

comes_back() {
	[ -e /var/tmp/before ]
	until_true 240 k wait --for=condition=Ready node/box --timeout=60s
	until_true 240 k wait --for=condition=Ready pod --all --timeout=120s
	k rollout status deployment/hello --timeout=300s
	until_true 240 get_through_service
	k get pods -o wide
	know_pods
	# Each once more, and in its resized shape.
	[ "$(k get pods -o 'jsonpath={.items[*].status.containerStatuses[0].restartCount}')" = "1 1 1" ]
	until_true 120 resized
	none grep -F "$(k get pod box -o 'jsonpath={.status.containerStatuses[0].containerID}')" /var/tmp/before
	[ "$(k exec box -- cat /proc/1/comm)" = sleep ]
}

# confined_again: the kernel has forgotten its profiles.
confined_again() { [ "$(armor box)" = "cri-containerd.apparmor.d (enforce)" ]; }

# nothing_leaked: whatever bears a Pod's UID is of one that there is.
nothing_leaked() {
	local uid uids
	know_pods
	inventory
	uids=$({ ls /var/lib/skiff/agent/pods /run/skiff/containerd/pods; find /sys/fs/cgroup/kubepods -name 'pod*-*' -type d -printf '%f\n'; } |
		grep -oE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' | sort -u)
	for uid in $uids; do
		grep -q " $uid$" /tmp/pods || { echo "left of Pod $uid"; return 1; }
	done
	[ "$(echo "$uids" | wc -l)" = "$(wc -l </tmp/pods)" ]
	[ "$(ls /var/log/pods | wc -l)" = "$(wc -l </tmp/pods)" ]
}
