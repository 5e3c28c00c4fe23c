# A boot of the machine that has AppArmor's compiler and an NFS server: a node with
# everything that a kernel can give it.

boot_node() {
	step machine_is_outfitted
	step version
	step configure
	step install_unit
	step node_ready
	step hello
	step get_through_service
	step import_image
	step box_ready
	step exec_and_logs
	step limits
	step resize
	step oom_killed
	step confined_by_default
	step confined_locally
	step without_profile
	step evicted
	step nfs
	step nfs_astray
	step nfs_server_gone
	step before_reboot
	off
}

machine_is_outfitted() {
	local tool
	[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]
	[ "$(cat /sys/module/apparmor/parameters/enabled)" = Y ]
	for tool in apparmor_parser rpc.nfsd exportfs; do
		command -v "$tool"
	done
	for tool in runc containerd docker iptables nft ip kubectl curl wget busybox mount.nfs mount.nfs4; do
		none command -v "$tool"
	done
	note "$(uname -r), $(awk '/MemTotal/ {print int($2/1024)}' /proc/meminfo) MB, $(date +%Y)"
}

configure() { install -D -m 600 /mnt/config.yaml /etc/skiff/config.yaml; }

# know_pods notes the UIDs of Pods; to ask for each would take a while.
know_pods() { k get pods -A -o 'jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{"\n"}{end}' | sort >/tmp/pods; }

# group is the cgroup of a known Pod's only container.
group() {
	local uid
	grep -qs "^$1 " /tmp/pods || know_pods
	uid=$(awk -v name="$1" '$1 == name {print $2}' /tmp/pods)
	[ -n "$uid" ]
	dirname "$(find /sys/fs/cgroup/kubepods -path "*pod$uid/*" -name cgroup.procs -exec grep -ls . {} + | head -1)"
}

first_process() { head -1 "$(group "$1")/cgroup.procs"; }

# resize gives a running container other limits, and it runs on.
resize() {
	local before
	know_pods
	before=$(first_process box)
	[ "$(cat "$(group box)/memory.oom.group")" = 1 ] # who loses one process loses all
	k patch pod box --subresource resize --patch \
		'{"spec":{"containers":[{"name":"box","resources":{"requests":{"cpu":"200m","memory":"32Mi"},"limits":{"cpu":"500m","memory":"96Mi"}}}]}}'
	until_true 120 resized
	[ "$(first_process box)" = "$before" ]
	[ "$(k get pod box -o 'jsonpath={.status.containerStatuses[0].restartCount}')" = 0 ]
	[ "$(k exec box -- cat /sys/fs/cgroup/memory.max)" = 100663296 ]
	none k wait --for=condition=PodResizeInProgress pod/box --timeout=1s
}

resized() {
	local dir
	dir=$(group box)
	for dir in "$dir" "$(dirname "$dir")"; do
		echo "$dir: $(cat "$dir/cpu.max") $(cat "$dir/memory.max") $(cat "$dir/cpu.weight")"
		[ "$(cat "$dir/cpu.max")" = "50000 100000" ] && [ "$(cat "$dir/memory.max")" = 100663296 ] || return 1
	done
	[ "$(k get pod box -o 'jsonpath={.status.containerStatuses[0].resources.limits.memory}')" = 96Mi ]
}

# armor is the AppArmor profile of the Pod's first process.
armor() { cat "/proc/$(first_process "$1")/attr/current"; }

confined_by_default() {
	apparmor_parser -r <<-'END'
		profile no-writes flags=(attach_disconnected) {
			file,
			network,
			capability,
			signal,
			deny /tmp/** w,
		}
	END
	k apply -f /mnt/armor.yaml
	until_true 240 k wait --for=condition=Ready --timeout=100s pod/unnamed pod/default pod/unconfined pod/privileged pod/local pod/annotated
	know_pods
	[ "$(armor unnamed)" = "cri-containerd.apparmor.d (enforce)" ]
	[ "$(armor default)" = "cri-containerd.apparmor.d (enforce)" ]
	[ "$(armor unconfined)" = unconfined ]
	[ "$(armor privileged)" = unconfined ]
	# What exec starts is confined too, and may do what others may.
	[ "$(k exec default -- cat /proc/self/attr/current)" = "cri-containerd.apparmor.d (enforce)" ]
	k exec default -- touch /tmp/file
	grep '^cri-containerd.apparmor.d (enforce)' /sys/kernel/security/apparmor/profiles
}

confined_locally() {
	local pod
	for pod in local annotated; do
		[ "$(armor $pod)" = "no-writes (enforce)" ]
		none k exec $pod -- touch /tmp/file
		k exec $pod -- sh -c 'echo elsewhere >/file && cat /file'
	done
}

without_profile() {
	until_true 120 refused_for_profile
	k get events --field-selector involvedObject.name=missing
	k delete --wait=false pod missing unnamed default unconfined privileged local annotated
}

refused_for_profile() {
	[ "$(k get pod missing -o 'jsonpath={.status.containerStatuses[0].state.waiting.reason}: {.status.containerStatuses[0].state.waiting.message}')" = \
		"CreateContainerError: failed to get container spec opts: failed to generate apparmor spec opts: apparmor profile not found nobody-has-it" ]
}

# evicted: the machine runs short of memory, and who took it goes.
evicted() {
	k apply -f /mnt/hungry.yaml
	until_true 300 k wait --for=jsonpath='{.status.reason}'=Evicted pod/hungry --timeout=120s
	k get node box -o 'jsonpath={.status.conditions[?(@.type=="MemoryPressure")]}{"\n"}{.spec.taints}{"\n"}'
	k get pod hungry -o 'jsonpath={.status.phase} {.status.message}{"\n"}{.status.conditions}{"\n"}' | tee /tmp/hungry
	grep '^Failed The node was low on resource: memory. Threshold quantity: 300Mi, available: ' /tmp/hungry
	grep '"reason":"TerminationByKubelet"' /tmp/hungry
	k get events --field-selector reason=Evicted | grep pod/hungry
	until_true 120 k wait --for=condition=MemoryPressure=False node/box --timeout=60s
	until_true 120 untainted
	# The others stay.
	[ "$(k get pod box -o 'jsonpath={.status.phase} {.status.containerStatuses[0].restartCount}')" = "Running 0" ]
	k delete pod hungry --wait=false
}

untainted() { [ -z "$(k get node box -o 'jsonpath={.spec.taints}')" ]; }

nfs() {
	mkdir -p /srv/shared
	# A server waits this long for clients of its former life, which has none.
	printf '[nfsd]\ngrace-time=10\nlease-time=10\n' >/etc/nfs.conf.d/test.conf
	systemctl start nfs-server
	exportfs -o rw,no_root_squash,insecure 127.0.0.1:/srv/shared
	k apply -f /mnt/nfs.yaml
	until_true 240 k wait --for=condition=Ready --timeout=100s pod/writer pod/reader
	grep ' nfs4 ' /proc/mounts
	grep -q ' nfs4 .*vers=4\.2,.*hard,' /proc/mounts
	until_true 60 grep 'from the Pod' /srv/shared/file
	[ "$(k exec reader -- cat /shared/file)" = "from the Pod" ]
	none k exec reader -- touch /shared/other
	k exec writer -- touch /shared/other
	[ -e /srv/shared/other ]
}

# nfs_astray: there is no such export.
nfs_astray() {
	until_true 120 told FailedMount astray 'MountVolume.SetUp failed for volume "shared" : .*127.0.0.1:/srv/nothing'
	k delete pod astray --wait=false
	until_true 120 k wait --for=delete pod/astray --timeout=60s
}

# told REASON POD PATTERN looks for an event.
told() {
	k get events --field-selector "reason=$1,involvedObject.name=$2" -o 'jsonpath={range .items[*]}{.message}{"\n"}{end}' | grep "$3"
}

# nfs_server_gone: without a server its clients go all the same.
nfs_server_gone() {
	systemctl stop nfs-server
	k delete pod writer reader --wait=false
	until_true 300 k wait --for=delete pod/writer pod/reader --timeout=60s
	none grep ' nfs4 ' /proc/mounts
	k exec box -- true
}

before_reboot() {
	until_true 240 k wait --for=delete --timeout=100s pod/greedy pod/hungry pod/missing \
		pod/unnamed pod/default pod/unconfined pod/privileged pod/local pod/annotated
	k get pods -o 'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID}{"\n"}{end}' | tee /var/tmp/before
	inventory
}

# inventory is what the node keeps for Pods, and for whom.
inventory() {
	find /sys/fs/cgroup/kubepods -maxdepth 3 -name 'pod*' -type d | sort
	find /run/skiff -maxdepth 3 | sort
	grep -E ' (/run/skiff|/var/lib/skiff)' /proc/mounts || true
}
