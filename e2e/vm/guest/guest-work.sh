# The second boot, after a power cut: what ran comes back and is worked with.

boot_work() {
	step after_cut
	step box_ready
	step exec_and_logs
	step limits
	step oom_killed
	step restart_keeps_pods
	step ten_pods
	sleep 20
	memory "512 MB, ten small Pods and hello"
	step begin_rollout
	# The power is cut after the fortieth object that is acknowledged.
	for i in {1..200}; do
		printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm-%d}\ndata: {n: "%d"}\n---\n' "$i" "$i"
	done >/tmp/many.yaml
	k create -f /tmp/many.yaml | while read -r object _; do
		report ack "$object"
		[ "$object" != configmap/cm-40 ] || report mark rollout
	done
	report note "the power stayed on"
}

after_cut() {
	systemctl is-active skiff
	until_true 240 k wait --for=condition=Ready node/box --timeout=60s
	[ "$(date +%Y)" -ge 2026 ]
	k rollout status deployment/hello --timeout=300s
	until_true 240 get_through_service
	# Since the machine was off, what ran then is not what runs now.
	[ "$(k get pods -o 'jsonpath={.items[*].status.containerStatuses[0].restartCount}')" = "1 1" ]
}

# box_ready runs what was imported just before the power went.
box_ready() {
	k apply -f /mnt/box.yaml
	k wait --for=condition=Ready pod/box --timeout=300s
}

exec_and_logs() {
	[ "$(k exec box -- cat /proc/1/comm)" = sleep ]
	[ "$(echo through | k exec -i box -- cat)" = through ]
	[ "$(k logs box)" = "it runs" ]
}

limits() {
	local uid pod container
	uid=$(k get pod box -o 'jsonpath={.metadata.uid}')
	pod=/sys/fs/cgroup/kubepods/burstable/pod$uid
	container=$(dirname "$(grep -ls . "$pod"/*/cgroup.procs | head -1)")
	for dir in "$pod" "$container"; do
		echo "$dir: $(cat "$dir/cpu.max") $(cat "$dir/memory.max") $(cat "$dir/cpu.weight")"
		[ "$(cat "$dir/cpu.max")" = "25000 100000" ]
		[ "$(cat "$dir/memory.max")" = 67108864 ]
	done
	# The weight of 102 shares.
	[ "$(cat "$pod/cpu.weight")" = "$(cat "$container/cpu.weight")" ]
	# What the container sees is its own group.
	[ "$(k exec box -- cat /sys/fs/cgroup/memory.max)" = 67108864 ]
}

oom_killed() {
	k apply -f /mnt/greedy.yaml
	until_true 240 k wait --for=jsonpath='{.status.phase}'=Failed pod/greedy --timeout=60s
	local state
	state=$(k get pod greedy -o 'jsonpath={.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode}')
	[ "$state" = "OOMKilled 137" ] || { echo "state: $state"; return 1; }
	k delete pod greedy --wait=false
}

container_pids() {
	find /sys/fs/cgroup/kubepods -name cgroup.procs -exec cat {} + | sort -n | tr '\n' ' '
}

restart_keeps_pods() {
	local before after skiff_before skiff_after
	until_true 120 test ! -e "/sys/fs/cgroup/kubepods/burstable/pod$(k get pod greedy -o 'jsonpath={.metadata.uid}' 2>/dev/null || echo gone)"
	before=$(container_pids)
	skiff_before=$(systemctl show -P MainPID skiff)
	[ -n "$before" ]
	systemctl restart skiff
	until_true 120 k get --raw /readyz
	k wait --for=condition=Ready node/box --timeout=120s
	after=$(container_pids)
	skiff_after=$(systemctl show -P MainPID skiff)
	[ "$before" = "$after" ] || { echo "before $before, after $after"; return 1; }
	[ "$skiff_before" != "$skiff_after" ]
	k exec box -- true
	get_through_service
}

ten_pods() {
	k apply -f /mnt/small.yaml
	k rollout status deployment/small --timeout=400s
}

begin_rollout() {
	k set env deployment/small GENERATION=2
}
