# A boot with a network, no way in, and a clock that is two years behind: the
# machine becomes a node of the server outside.

boot_join() {
	# The init moves a clock that is before its own build; a machine whose init
	# does not stays where the hardware's clock is.
	date -s '2024-11-21 12:00' >/dev/null
	step in_the_past
	step network
	step start_agent
	step not_a_server
	step import_box
	report mark joined
	sleep 600 # the power is cut when the server has seen enough
}

in_the_past() {
	[ "$(date +%Y)" = 2024 ]
	note "$(date)"
}

# network is QEMU's: it lets every connection out, and none in.
network() {
	printf '[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >/etc/systemd/network/10-ether.network
	systemctl start systemd-networkd
	until_true 60 reached "$(cat /mnt/server)" 6443
}

# reached says whether a port takes connections.
reached() { (exec 4<>"/dev/tcp/$1/$2"); }

start_agent() {
	install -m 755 /mnt/skiff /usr/local/bin/skiff
	mkdir -m 700 /etc/skiff
	printf 'server: https://%s:6443\ntoken: %s\n' "$(cat /mnt/server)" "$(cat /mnt/token)" >/etc/skiff/config.yaml
	install -m 644 /mnt/skiff-agent.service /etc/systemd/system/
	systemctl enable --now skiff-agent
	until_true 240 test -s /var/lib/skiff/agent/tls/serving.crt
	sed -i /token:/d /etc/skiff/config.yaml
	systemctl restart skiff-agent # without the token
	journalctl -u skiff-agent -o short-monotonic --no-pager | tail -20
}

# not_a_server: what has joined one cluster does not become another.
not_a_server() {
	echo 'disable-agent: true' >/tmp/server.yaml
	none skiff server --config /tmp/server.yaml --https-listen-port 7443 2>/tmp/refused
	cat /tmp/refused
	grep 'has joined a cluster: run skiff agent' /tmp/refused
}

import_box() {
	until_true 120 skiff images import /mnt/box.tar
}
