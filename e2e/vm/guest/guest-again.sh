# The boot after: what was in memory is gone, and what ran runs again.

boot_again() {
	step comes_back
	step confined_again
	step nothing_leaked
	step swaps
	step before_the_end
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

# swaps: the machine has swap from now on, and its Pods shares of it.
swaps() {
	local total memory share
	dd if=/dev/zero of=/swapfile bs=1M count=384 status=none
	chmod 600 /swapfile
	mkswap /swapfile
	swapon /swapfile
	cat >>/etc/skiff/config.yaml <<-'END'
		  - fail-swap-on=false
		  - memory-swap.swap-behavior=LimitedSwap
		  - shutdown-grace-period=60s
		  - shutdown-grace-period-critical-pods=20s
	END
	systemctl restart skiff
	until_true 240 k wait --for=condition=Ready node/box --timeout=60s
	k apply -f /mnt/swap.yaml
	until_true 240 k wait --for=condition=Ready pod/swapper pod/strict pod/polite --timeout=60s
	know_pods
	total=$(awk '/SwapTotal/ {print $2 * 1024}' /proc/meminfo)
	memory=$(awk '/MemTotal/ {print $2 * 1024}' /proc/meminfo)
	[ "$(k get node box -o 'jsonpath={.status.nodeInfo.swap.capacity}')" = "$total" ]
	share=$(cat "$(group swapper)/memory.swap.max")
	echo "$share of $total bytes"
	[ "$((share / 4096))" = "$((90 * 1024 * 1024 * (total / 4096) / memory))" ]
	[ "$(cat "$(group strict)/memory.swap.max")" = 0 ]
	# It has more than it may have of memory, and lives.
	until_true 120 swapped
	[ "$(k get pod swapper -o 'jsonpath={.status.containerStatuses[0].restartCount}')" = 0 ]
}

swapped() {
	local dir
	dir=$(group swapper)
	(cd "$dir" && grep . memory.current memory.max memory.swap.current memory.swap.max memory.events && grep -E '^(anon|file|shmem|slab) ' memory.stat)
	grep -hE '^(Name|VmRSS|VmSwap)' $(sed 's|.*|/proc/&/status|' "$dir/cgroup.procs")
	[ "$(cat "$dir/memory.swap.current")" -gt 1000000 ]
}

# before_the_end: who speaks for the machine's end has been told of skiff's wish.
before_the_end() {
	systemctl is-active systemd-logind dbus
	until_true 60 inhibited
	[ ! -e /var/tmp/said/goodbye ]
}

inhibited() { systemd-inhibit --list | grep -E 'skiff.*shutdown.*delay'; }
