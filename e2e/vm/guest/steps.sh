#!/bin/bash
# Runs one boot's steps and reports them on the second serial port, a line each:
#
#   run STEP | ok STEP MILLISECONDS | fail STEP OUTPUT | note TEXT | mark NAME | ack OBJECT | done
#
# A step is a function that fails where one of its commands does.
exec 3>/dev/ttyS1
stty -F /dev/ttyS1 raw
report() { printf '%s\n' "$*" >&3; }
note() { report note "$*"; }

# k is kubectl. Where others have the processor a handshake may take longer than a
# client waits: it is tried again.
k() {
	local code
	for _ in 1 2 3; do
		code=0
		skiff kubectl --request-timeout=120s "$@" 2>/tmp/told || code=$?
		cat /tmp/told >&2
		grep -q 'TLS handshake timeout' /tmp/told || break
	done
	return "$code"
}

# until_true SECONDS COMMAND... waits until the command succeeds: so long where nobody
# else uses the processor, and as long again twice where others do.
until_true() {
	local end=$((SECONDS + 3 * $1))
	shift
	until "$@" >/tmp/last 2>&1; do
		if [ $SECONDS -ge $end ]; then
			echo "not within the time: $*"
			cat /tmp/last
			return 1
		fi
		sleep 0.5
	done
}

# none COMMAND... fails where the command finds something.
none() {
	if "$@"; then
		echo "expected nothing of $*"
		return 1
	fi
}

# get HOST PORT PATH prints an HTTP answer; there is no curl here.
get() {
	exec 4<>"/dev/tcp/$1/$2" || return 1
	printf 'GET %s HTTP/1.0\r\nHost: test\r\n\r\n' "$3" >&4
	timeout 20 cat <&4
	exec 4>&-
}

uptime_ms() { local up; read -r up _ </proc/uptime; echo $((${up/./} * 10)); }

step() {
	local begin
	begin=$(uptime_ms)
	report run "$1"
	# In the background, since -e does not count within a condition.
	(PS4='+ $SECONDS s: '; set -euxo pipefail; "$1") >/tmp/output 2>&1 &
	if wait $!; then
		report ok "$1" "$(($(uptime_ms) - begin)) ms"
		return
	fi
	{
		echo "--- pods"; timeout 60 skiff kubectl get pods -A -o wide
		echo "--- skiff"; journalctl -u skiff -n 40 --no-pager -o cat
	} >>/tmp/output 2>&1
	report fail "$1" "$(tail -c 6000 /tmp/output | tr '\n' '\1')"
}

off() {
	report done
	sync
	systemctl poweroff --no-block
}

# memory reports what skiff itself takes, and the machine.
memory() {
	local pid p pss=0 anonymous=0
	pid=$(systemctl show -P MainPID skiff)
	for p in $(grep -lsE 'skiff-shim' /proc/[0-9]*/comm | cut -d/ -f3); do
		pss=$((pss + $(awk '/^Pss:/ {print $2}' /proc/$p/smaps_rollup)))
		anonymous=$((anonymous + $(awk '/^Anonymous:/ {print $2}' /proc/$p/smaps_rollup)))
	done
	note "$1: machine $(awk '/MemTotal|MemAvailable/ {printf "%s %d MB ", $1, $2/1024}' /proc/meminfo)"
	note "$1: skiff $(awk '/^(Rss|Pss|Anonymous):/ {printf "%s %d MB ", $1, $2/1024}' /proc/"$pid"/smaps_rollup)"
	note "$1: $(grep -lsE 'skiff-shim' /proc/[0-9]*/comm | wc -l) shims, Pss $((pss / 1024)) MB, anonymous $((anonymous / 1024)) MB"
}

# shellcheck source=/dev/null
for file in /mnt/guest-*.sh; do . "$file"; done
boot=$(sed 's/.*steps=\([a-z]*\).*/\1/' /proc/cmdline)
"boot_$boot"
