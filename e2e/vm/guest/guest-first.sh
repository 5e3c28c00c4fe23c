# The first boot: a bare machine in 1970, from nothing to a Pod that answers, and
# an image that is just there when the power goes.

boot_first() {
	# The init moves a clock that is before its own build; a machine whose
	# kernel or init does not is in 1970.
	date -s @100000 >/dev/null
	step machine_is_bare
	step version
	step install_unit
	step node_ready
	step hello
	step get_through_service
	step clock_jumps
	step import_image
	report mark imported
	sleep 600 # the power is cut here
}

machine_is_bare() {
	local tool links
	[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]
	for tool in runc containerd docker iptables nft ip kubectl curl wget busybox update-ca-certificates; do
		none command -v "$tool"
	done
	links=$(ls /sys/class/net)
	[ "$links" = lo ]
	note "$(uname -r), $(awk '/MemTotal/ {print int($2/1024)}' /proc/meminfo) MB, $(date +%Y)"
}

version() {
	install -m 755 /mnt/skiff /usr/local/bin/skiff
	skiff version
	sync /usr/local/bin/skiff # installers do; what is tested is what skiff writes
}

install_unit() {
	install -m 644 /mnt/skiff.service /etc/systemd/system/skiff.service
	systemctl daemon-reload
	systemctl enable --now skiff
	sync /etc/systemd/system/skiff.service /etc/systemd/system/multi-user.target.wants
}

node_ready() {
	until_true 120 test -s /etc/skiff/kubeconfig.yaml
	until_true 240 k wait --for=condition=Ready node/box --timeout=120s
	k get nodes -o wide
	journalctl -u skiff -o short-monotonic --no-pager | tail -3
}

hello() {
	skiff hello | k apply -f -
	k rollout status deployment/hello --timeout=300s
}

get_through_service() {
	local address answer
	address=$(k get service hello -o 'jsonpath={.spec.clusterIP}')
	answer=$(get "$address" 80 /)
	[[ $answer == *"Hello from Pod hello-"*" on node box"* ]] || { echo "answer: $answer"; return 1; }
}

# clock_jumps is what happens when a machine learns the time: 56 years on.
clock_jumps() {
	date -s '2026-11-21 12:00' >/dev/null
	k get --raw /readyz
	[ "$(k auth whoami -o 'jsonpath={.status.userInfo.username}')" = system:admin ]
	get_through_service
	until_true 120 k wait --for=condition=Ready node/box --timeout=60s
}

import_image() {
	[ "$(skiff images import /mnt/box.tar)" = example.org/box:1 ]
}
