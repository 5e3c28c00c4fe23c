# The boot after a machine that told its Pods that it goes down.

boot_end() {
	step ended_in_order
	step stop_leaves_pods
	step killall_leaves_nothing
	off
}

ended_in_order() {
	[ "$(cat /var/tmp/said/goodbye)" = "the Pod, later" ]
	until_true 240 k wait --for=condition=Ready node/box --timeout=60s
	[ "$(k get pod polite -o 'jsonpath={.status.phase} {.status.reason}: {.status.message}')" = \
		"Failed Terminated: Pod was terminated in response to imminent node shutdown." ]
	[ "$(k get pod polite -o 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode}')" = 7 ]
	# Who has somebody that makes another one runs again.
	k rollout status deployment/hello --timeout=300s
	until_true 240 get_through_service
}
