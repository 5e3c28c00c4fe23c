# The third boot, after a power cut in the middle of a rollout.

boot_last() {
	step acknowledged_is_there
	step rollout_goes_on
	memory "after the second cut"
	step stop_leaves_pods
	step killall_leaves_nothing
	step starts_again
	off
}

acknowledged_is_there() {
	local object
	until_true 240 k get --raw /readyz
	k get configmaps -o name | sed 's|^configmap/||' | sort >/tmp/there
	[ -s /mnt/acknowledged ]
	note "$(wc -l </mnt/acknowledged) objects were acknowledged, $(grep -c ^cm- /tmp/there) are there"
	while read -r object || [ -n "$object" ]; do
		grep -qx "${object#configmap/}" /tmp/there || { echo "$object is not there"; return 1; }
	done </mnt/acknowledged
	[ "$(k get deployment small -o 'jsonpath={.spec.template.spec.containers[0].env[0].value}')" = 2 ]
}

rollout_goes_on() {
	k rollout status deployment/small --timeout=500s
	until_true 240 k wait --for=condition=Ready pod --all --timeout=120s
	[ "$(k get pods -l app=small -o name | wc -l)" = 10 ]
	until_true 240 get_through_service
}

stop_leaves_pods() {
	local before
	before=$(container_pids)
	used nft_chain_nat # or its absence would prove nothing later
	systemctl stop skiff
	[ "$before" = "$(container_pids)" ]
}

killall_leaves_nothing() {
	skiff killall
	none grep -E ' (/run/skiff|/var/lib/skiff)' /proc/mounts
	[ "$(ls /sys/class/net)" = lo ]
	none grep -E '10\.4[23]\.|192\.0\.0\.8' /proc/net/fib_trie
	none compgen -G '/sys/fs/cgroup/kubepods*'
	none compgen -G '/run/skiff*'
	none processes
	none used nft_chain_nat
}

processes() { find /proc/[0-9]*/exe -maxdepth 0 -printf '%p %l\n' 2>/dev/null | grep -E 'skiff|runc|hello|busybox'; }

# used says whether a kernel module has users: that of a table's chains.
used() { awk -v m="$1" '$1 == m && $3 > 0 {print; found = 1} END {exit !found}' /proc/modules; }

starts_again() {
	systemctl start skiff
	until_true 240 get_through_service
	k rollout status deployment/small --timeout=400s
}
