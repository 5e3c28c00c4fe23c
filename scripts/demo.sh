#!/bin/bash
# The demo: a server, the hello application, its page.
#
#   scripts/demo.sh start|stop
#
# Everything is kept below build/demo (or SKIFF_DEMO_DIR); another server on this machine is left
# alone as long as it does not listen on port 6443.
set -euo pipefail
cd "$(dirname "$0")/.."

skiff=${SKIFF_BIN:-$PWD/bin/skiff}
data=${SKIFF_DEMO_DIR:-$PWD/build/demo}
log=$data/server.log
pidfile=$data/server.pid
export KUBECONFIG=$data/kubeconfig.yaml

[ "$(id -u)" = 0 ] || { echo "the demo runs containers and needs root: sudo make demo" >&2; exit 1; }

now() { date +%s%N; }
begin=$(now)
took() { # prints the milliseconds since $1
	printf '  (%d ms)\n\n' $((($(now) - $1) / 1000000))
}

# until_true SECONDS COMMAND... waits until the command succeeds.
until_true() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		if ! kill -0 "$(cat "$pidfile")" 2>/dev/null; then
			echo "the server has ended; its last words:" >&2
			tail -5 "$log" >&2
			return 1
		fi
		[ $SECONDS -lt $deadline ] || { echo "timed out: $*" >&2; tail -5 "$log" >&2; return 1; }
		sleep 0.02
	done
}

start() {
	if [ -e "$pidfile" ] && kill -0 "$(cat "$pidfile")" 2>/dev/null; then
		echo "the demo runs already: make demo-stop ends it" >&2
		exit 1
	fi
	mkdir -p "$data"

	echo "Starting skiff server …"
	local t=$(now)
	setsid "$skiff" server --data-dir "$data" >"$log" 2>&1 </dev/null &
	echo $! >"$pidfile"
	until_true 60 "$skiff" kubectl get --raw /readyz
	took "$t"

	echo "\$ skiff hello | kubectl apply -f -"
	t=$(now)
	"$skiff" hello | "$skiff" kubectl apply -f -
	"$skiff" kubectl rollout status deployment/hello --timeout=120s
	took "$t"

	echo "\$ kubectl get nodes,pods,services -o wide"
	"$skiff" kubectl wait --for=condition=Ready node --all --timeout=60s >/dev/null
	"$skiff" kubectl get nodes -o wide
	"$skiff" kubectl get pods -o wide
	"$skiff" kubectl get services
	echo

	local address
	address=$("$skiff" kubectl get service hello -o jsonpath='{.spec.clusterIP}')
	echo "\$ curl http://$address/"
	t=$(now)
	until_true 30 curl -sf --max-time 2 "http://$address/"
	curl -sf --max-time 5 "http://$address/"
	took "$t"

	printf 'From nothing to an answer from a Pod: %d ms.\n\n' $((($(now) - begin) / 1000000))
	cat <<-END
		Go on with
		  export KUBECONFIG=$KUBECONFIG
		  $skiff kubectl get pods -A -w
		and stop with
		  make demo-stop
	END
}

stop() {
	if [ -x "$skiff" ]; then
		"$skiff" killall --data-dir "$data"
	fi
	rm -rf "$data"
	echo "The demo is gone."
}

case ${1:-} in
start) start ;;
stop) stop ;;
*) echo "usage: scripts/demo.sh start|stop" >&2; exit 2 ;;
esac
