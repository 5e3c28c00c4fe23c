// Package internal is the house: every part of skiff is a room in it, on a floor
// of its own, and imports only what stands below. The table of floors is in
// house_test.go, which holds it.
//
// To learn the house, follow one Pod, from kubectl apply of a Deployment to a
// running process and the status that comes back. Each line names a file and
// the functions in it that the Pod passes, in order; a test keeps them true.
//
// The Deployment comes in and is stored:
//
//	rest/handler.go                 ServeHTTP authorized serveVerb
//	auth/certificate.go             Authenticate
//	rest/change.go                  create
//	api/create.go                   Create prepareCreate
//	admission/admission.go          Mutate Validate
//	state/commit.go                 Commit
//	store/bolt/queue.go             Commit
//	store/bolt/committer.go         process transact
//	state/world.go                  apply
//
// Controllers, woken by what was published, make a ReplicaSet and its Pods,
// each through api again:
//
//	controller/controller.go        follow work
//	controller/deployment/deployment.go  reconcile roll
//	controller/deployment/revision.go    create
//	controller/replicaset/plan.go   plan
//	controller/replicaset/replicaset.go  reconcile createPod
//
// The scheduler gives the Pod a node:
//
//	scheduler/scheduler.go          podEvent decide write
//	scheduler/plan.go               Plan
//	api/binding.go                  Bind
//
// The node's agent, which watches the API for Pods of its node, runs it:
//
//	agent/worker.go                 loop begin
//	agent/plan.go                   decide
//	agent/sandbox.go                setUp setUpNamespaces
//	network/pod/pod.go              Attach
//	agent/volume/volume.go          Mount
//	agent/images.go                 image
//	agent/start.go                  start launch
//	agent/containerd/create.go      Create Start
//
// And what became of it goes back, as a patch of the Pod's status:
//
//	agent/status.go                 podStatus
//	agent/statuswriter.go           run patch
//	rest/change.go                  patch
//
// A Service meanwhile turns into rules on every node:
//
//	controller/endpointslice/endpointslice.go  reconcile
//	controller/endpointslice/plan.go  plan
//	network/service/plan.go         Plan
//
// Package server opens the control plane in one readable list, package node a
// node; nothing else knows all of its siblings.
package internal
