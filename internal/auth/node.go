package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// nodeUser begins the name of every node's user.
const nodeUser = "system:node:"

// tunnelPath is where a node opens its own tunnel.
const tunnelPath = "/v1-skiff/tunnel"

// Node lets a node do what it needs for the Pods bound to it, and no more, so
// that one stolen node does not give away the others. What an authorizer cannot
// see, the body of a request (the name of a Node that is created, the Pod that a
// token is bound to), is for admission to look at.
type Node struct {
	state *state.State
}

// NewNode returns the authorizer of nodes.
func NewNode(s *state.State) *Node { return &Node{state: s} }

// rule lists who may do what to a resource that is the same for all nodes.
type rule struct {
	group, resource string // with "/subresource"
	verbs           []string
}

var nodeRules = []rule{
	{"", "services", []string{"get", "list", "watch"}},
	{"", "endpoints", []string{"get", "list", "watch"}},
	{"discovery.k8s.io", "endpointslices", []string{"get", "list", "watch"}},
	{"", "namespaces", []string{"get", "list", "watch"}},
	{"", "events", []string{"create", "patch", "update"}},
	{"events.k8s.io", "events", []string{"create", "patch", "update"}},
	{"certificates.k8s.io", "certificatesigningrequests", []string{"create", "get", "list", "watch"}},
	{"node.k8s.io", "runtimeclasses", []string{"get", "list", "watch"}},
	{"authentication.k8s.io", "tokenreviews", []string{"create"}},
	{"authorization.k8s.io", "subjectaccessreviews", []string{"create"}},
	{"authorization.k8s.io", "localsubjectaccessreviews", []string{"create"}},
}

// Authorize tells whether the request may be made.
func (n *Node) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	node, ok := strings.CutPrefix(a.User.Name, nodeUser)
	if !ok || !a.User.in(GroupNodes) {
		return NoOpinion, "", nil
	}
	if node == "" {
		return NoOpinion, fmt.Sprintf("unknown node for user %q", a.User.Name), nil
	}
	if a.Resource == "" {
		return allowIf(a.Path == tunnelPath && a.Verb == "get"), "", nil
	}
	q := nodeQuestion{Attributes: a, state: n.state, node: node}
	decision, reason := q.answer()
	return decision, reason, nil
}

// nodeQuestion is one request of one node.
type nodeQuestion struct {
	Attributes
	state *state.State
	node  string
}

func (q nodeQuestion) answer() (Decision, string) {
	switch q.Group + "/" + q.Resource {
	case "/secrets", "/configmaps":
		return q.read()
	case "/serviceaccounts":
		if q.Subresource == "" {
			return q.read()
		}
		return q.createToken()
	case "/nodes":
		return q.ownNode()
	case "/pods":
		return q.ownPods()
	case "coordination.k8s.io/leases":
		return q.ownLease()
	}
	resource := q.Resource
	if q.Subresource != "" {
		resource += "/" + q.Subresource
	}
	for _, r := range nodeRules {
		if r.group == q.Group && r.resource == resource && slices.Contains(r.verbs, q.Verb) {
			return Allow, ""
		}
	}
	return NoOpinion, ""
}

// read allows one object that a Pod of the node refers to, and the settings of
// the whole cluster.
func (q nodeQuestion) read() (Decision, string) {
	switch {
	case q.readsClusterSettings():
		return Allow, ""
	case !q.reads():
		return NoOpinion, "can only read resources of this type"
	case q.Subresource != "":
		return NoOpinion, "cannot read subresource"
	case q.Namespace == "":
		return NoOpinion, "can only read namespaced object of this type"
	case q.selectedName() == "":
		return NoOpinion, "No Object name found"
	}
	return q.related(q.selectedName())
}

// related allows what a Pod of the node refers to by name.
func (q nodeQuestion) related(name string) (Decision, string) {
	found := false
	q.pods(func(pod *corev1.Pod) bool {
		found = pod.Namespace == q.Namespace && refers(pod, q.Resource, name)
		return !found
	})
	if !found {
		return NoOpinion, fmt.Sprintf("no relationship found between node '%s' and this object", q.node)
	}
	return Allow, ""
}

func (q nodeQuestion) createToken() (Decision, string) {
	if q.Verb != "create" || q.Name == "" {
		return NoOpinion, "can only create tokens for individual service accounts"
	}
	if q.Subresource != "token" {
		return NoOpinion, "can only create token subresource of serviceaccount"
	}
	return q.related(q.Name)
}

// ownNode lets a node change only itself, but see them all. Upstream forbids
// that to kubelets and grants it to kube-proxy and flannel; here what leads to
// the other nodes' Pods runs as the node. What a Node tells, its addresses and
// its Pod CIDR, every Pod's peer can tell as well.
// Upstream does not let it delete itself either, as it could come back without
// what an administrator has put on it: admission sees to that, and a node leaves.
func (q nodeQuestion) ownNode() (Decision, string) {
	switch {
	case q.Subresource == "" && (q.reads() || q.Verb == "create"):
		return Allow, ""
	case q.Subresource == "" && (q.changes() || q.Verb == "delete"),
		q.Subresource == "status" && q.changes():
		if q.Name == q.node {
			return Allow, ""
		}
		return NoOpinion, fmt.Sprintf("node %q is not allowed to modify node %q", q.node, q.Name)
	}
	return NoOpinion, ""
}

func (q nodeQuestion) ownPods() (Decision, string) {
	switch {
	case q.Subresource == "" && (q.Verb == "list" || q.Verb == "watch"):
		if q.selects("spec.nodeName", q.node) {
			return Allow, ""
		}
		if q.selectedName() == "" {
			return NoOpinion, "can only list/watch pods with spec.nodeName field selector"
		}
		return q.ownPod(q.selectedName())
	case q.Subresource == "" && q.Verb == "create":
		return Allow, "" // admission sees to it that only mirrors of static Pods come
	case q.Subresource == "" && (q.Verb == "get" || q.Verb == "delete"),
		q.Subresource == "status" && q.changes(),
		q.Subresource == "eviction" && q.Verb == "create":
		return q.ownPod(q.Name)
	}
	return NoOpinion, ""
}

func (q nodeQuestion) ownPod(name string) (Decision, string) {
	pod, ok := state.Get[*corev1.Pod](q.state, kind.Pod, q.Namespace, name)
	if !ok || pod.Spec.NodeName != q.node {
		return NoOpinion, fmt.Sprintf("no relationship found between node '%s' and this object", q.node)
	}
	return Allow, ""
}

func (q nodeQuestion) ownLease() (Decision, string) {
	switch {
	case q.Subresource != "" || !slices.Contains([]string{"get", "create", "update", "patch", "delete"}, q.Verb):
		return NoOpinion, "can only get, create, update, patch, or delete a node lease"
	case q.Namespace != corev1.NamespaceNodeLease:
		return NoOpinion, fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	case q.Verb != "create" && q.Name != q.node:
		return NoOpinion, "can only access node lease with the same name as the requesting node"
	}
	return Allow, ""
}

func (a Attributes) reads() bool {
	return a.Verb == "get" || a.Verb == "list" || a.Verb == "watch"
}

func (q nodeQuestion) changes() bool { return q.Verb == "update" || q.Verb == "patch" }

// pods calls fn for the Pods bound to the node until it returns false.
func (q nodeQuestion) pods(fn func(*corev1.Pod) bool) {
	q.state.Snapshot(kind.Pod).Ascend(state.Interest{NodeName: q.node}, "", func(obj kind.Object) bool {
		return fn(obj.(*corev1.Pod))
	})
}

// selectedName is the name in the path or else the only one that the field
// selector lets through.
func (a Attributes) selectedName() string {
	if a.Name != "" {
		return a.Name
	}
	for _, term := range a.selector() {
		if term.Field == "metadata.name" && equals(term) {
			return term.Value
		}
	}
	return ""
}

func (q nodeQuestion) selects(label, value string) bool {
	return slices.ContainsFunc(q.selector(), func(term fields.Requirement) bool {
		return term.Field == label && equals(term) && term.Value == value
	})
}

// selector is empty for one that cannot be parsed: it narrows nothing then.
func (a Attributes) selector() fields.Requirements {
	selector, err := fields.ParseSelector(a.FieldSelector)
	if err != nil {
		return nil
	}
	return selector.Requirements()
}

func equals(term fields.Requirement) bool {
	return term.Operator == selection.Equals || term.Operator == selection.DoubleEquals
}
