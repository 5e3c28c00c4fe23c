package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// nodeRestriction lets a node change only what is its own: its Node, its Lease,
// the Pods that run on it. Authorization has decided about resources and verbs;
// this step looks at the objects.
func nodeRestriction(s *state.State) Step {
	return Step{
		Name: "NodeRestriction",
		Mutate: func(_ context.Context, r *Request) error {
			name, isNode := r.User.nodeName()
			if !isNode {
				return nil
			}
			if name == "" {
				return r.Forbid(fmt.Errorf("could not determine node from user %q", r.User.Name))
			}
			n := restricted{name: name, state: s}
			switch r.Kind {
			case kind.Pod:
				return n.pod(r)
			case kind.Node:
				return n.node(r)
			case kind.Lease:
				return n.lease(r)
			case kind.ServiceAccount:
				return n.token(r)
			case kind.CertificateSigningRequest:
				return n.certificateRequest(r)
			}
			return nil
		},
	}
}

// restricted is a node that makes a request.
type restricted struct {
	name  string
	state *state.State
}

func (n restricted) pod(r *Request) error {
	old, _ := r.Old.(*corev1.Pod)
	switch {
	case r.Subresource == "" && r.Operation == Create:
		return n.mirror(r, r.Object.(*corev1.Pod))
	case r.Subresource == "" && r.Operation == Delete:
		if old.Spec.NodeName != n.name {
			return r.Forbid(fmt.Errorf("node %q can only delete pods with spec.nodeName set to itself", n.name))
		}
		return nil
	case r.Subresource == "":
		return r.Forbid(fmt.Errorf("unexpected operation %q, node %q can only create and delete mirror pods", r.Operation, n.name))
	case r.Subresource == "status":
		if old.Spec.NodeName != n.name {
			return r.Forbid(fmt.Errorf("node %q can only update pod status for pods with spec.nodeName set to itself", n.name))
		}
		if !maps.Equal(old.Labels, r.Object.GetLabels()) {
			return r.Forbid(fmt.Errorf("node %q cannot update labels through pod status", n.name))
		}
		return nil
	case r.Subresource == "eviction":
		if old.Spec.NodeName != n.name {
			return r.Forbid(fmt.Errorf("node %s can only evict pods with spec.nodeName set to itself", n.name))
		}
		return nil
	}
	return r.Forbid(fmt.Errorf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", r.Subresource))
}

// mirror checks a Pod that stands for a static one of the node.
func (n restricted) mirror(r *Request, pod *corev1.Pod) error {
	if _, ok := pod.Annotations[mirrorAnnotation]; !ok {
		return r.Forbid(fmt.Errorf("pod does not have %q annotation, node %q can only create mirror pods", mirrorAnnotation, n.name))
	}
	if pod.Spec.NodeName != n.name {
		return r.Forbid(fmt.Errorf("node %q can only create pods with spec.nodeName set to itself", n.name))
	}
	if len(pod.OwnerReferences) > 1 {
		return r.Forbid(fmt.Errorf("node %q can only create pods with a single owner reference set to itself", n.name))
	}
	if len(pod.OwnerReferences) == 0 {
		return r.Forbid(fmt.Errorf("node %q can only create pods with an owner reference set to itself", n.name))
	}
	if err := n.owner(r, pod); err != nil {
		return err
	}
	if pod.Spec.ServiceAccountName != "" {
		return r.Forbid(fmt.Errorf("node %q can not create pods that reference a service account", n.name))
	}
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.Secret != nil:
			return r.Forbid(fmt.Errorf("node %q can not create pods that reference secrets", n.name))
		case v.ConfigMap != nil:
			return r.Forbid(fmt.Errorf("node %q can not create pods that reference configmaps", n.name))
		case v.PersistentVolumeClaim != nil:
			return r.Forbid(fmt.Errorf("node %q can not create pods that reference persistentvolumeclaims", n.name))
		case v.Projected != nil:
			return r.Forbid(fmt.Errorf("node %q can not create pods that reference other objects", n.name))
		}
	}
	return nil
}

func (n restricted) owner(r *Request, pod *corev1.Pod) error {
	owner := pod.OwnerReferences[0]
	if owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != n.name {
		return r.Forbid(fmt.Errorf("node %q can only create pods with an owner reference set to itself", n.name))
	}
	if owner.Controller == nil || !*owner.Controller {
		return r.Forbid(fmt.Errorf("node %q can only create pods with a controller owner reference set to itself", n.name))
	}
	if owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion {
		return r.Forbid(fmt.Errorf("node %q must not set blockOwnerDeletion on an owner reference", n.name))
	}
	node, ok := state.Get[*corev1.Node](n.state, kind.Node, "", n.name)
	if !ok {
		return apierrors.NewNotFound(kind.Node.GroupResource(), n.name)
	}
	if owner.UID != node.UID {
		return r.Forbid(fmt.Errorf("node %s UID mismatch: expected %s got %s", n.name, owner.UID, node.UID))
	}
	return nil
}

func (n restricted) node(r *Request) error {
	name := r.Name
	if name == "" && r.Object != nil {
		name = r.Object.GetName()
	}
	if name != n.name {
		return r.Forbid(fmt.Errorf("node %q is not allowed to modify node %q", n.name, name))
	}
	switch r.Operation {
	case Create:
		if labels := forbiddenLabels(r.Object.GetLabels(), nil); len(labels) > 0 {
			return r.Forbid(fmt.Errorf("node %q is not allowed to set the following labels: %s", n.name, strings.Join(labels, ", ")))
		}
	case Update:
		node, old := r.Object.(*corev1.Node), r.Old.(*corev1.Node)
		if !equality.Semantic.DeepEqual(node.Spec.Taints, old.Spec.Taints) {
			return r.Forbid(fmt.Errorf("node %q is not allowed to modify taints", n.name))
		}
		// An owner that does not exist would have the node collected as garbage,
		// after which it could make itself anew without its taints.
		if !equality.Semantic.DeepEqual(node.OwnerReferences, old.OwnerReferences) {
			return r.Forbid(fmt.Errorf("node %q is not allowed to modify ownerReferences", n.name))
		}
		if labels := forbiddenLabels(node.Labels, old.Labels); len(labels) > 0 {
			return r.Forbid(fmt.Errorf("is not allowed to modify labels: %s", strings.Join(labels, ", ")))
		}
	case Delete:
		return n.leave(r, r.Old.(*corev1.Node))
	}
	return nil
}

// leave lets a node that leaves the cluster delete itself, unless it would be rid
// of what it may not change: nothing keeps it from making itself anew.
func (n restricted) leave(r *Request, node *corev1.Node) error {
	for _, taint := range node.Spec.Taints {
		if !slices.Contains(conditionTaints, taint.Key) {
			return r.Forbid(fmt.Errorf("node %q is not allowed to delete itself while it has the taint %s: an administrator can", n.name, taint.ToString()))
		}
	}
	if labels := forbiddenLabels(nil, node.Labels); len(labels) > 0 {
		return r.Forbid(fmt.Errorf("node %q is not allowed to delete itself while it has the following labels: %s: an administrator can", n.name, strings.Join(labels, ", ")))
	}
	return nil
}

// conditionTaints come by themselves, by what a node says of itself.
var conditionTaints = []string{
	corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeUnschedulable, corev1.TaintNodeNetworkUnavailable,
	corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure,
}

// forbiddenLabels returns, sorted, the changed labels by which a node could
// draw workloads to itself that are not meant for it.
func forbiddenLabels(now, before map[string]string) []string {
	changed := map[string]bool{}
	for key, value := range now {
		if old, ok := before[key]; !ok || old != value {
			changed[key] = true
		}
	}
	for key := range before {
		if _, ok := now[key]; !ok {
			changed[key] = true
		}
	}
	var out []string
	for key := range changed {
		if !nodeMayLabel(key) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

func nodeMayLabel(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	if within(domain, "node-restriction.kubernetes.io") {
		return false
	}
	if !within(domain, "kubernetes.io") && !within(domain, "k8s.io") {
		return true
	}
	if within(domain, "kubelet.kubernetes.io") || within(domain, "node.kubernetes.io") {
		return true
	}
	switch key {
	case corev1.LabelHostname, corev1.LabelArchStable, corev1.LabelOSStable,
		corev1.LabelTopologyZone, corev1.LabelTopologyRegion,
		corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
		corev1.LabelInstanceType, "beta.kubernetes.io/arch", "beta.kubernetes.io/os":
		return true
	}
	return false
}

func within(domain, parent string) bool {
	return domain == parent || strings.HasSuffix(domain, "."+parent)
}

func (n restricted) lease(r *Request) error {
	if r.Namespace != corev1.NamespaceNodeLease {
		return r.Forbid(fmt.Errorf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease))
	}
	name := r.Name
	if r.Operation == Create {
		name = r.Object.GetName()
	}
	if name != n.name {
		return r.Forbid(errors.New("can only access node lease with the same name as the requesting node"))
	}
	return nil
}

// token: a node asks for tokens of the Pods it runs, and no others.
func (n restricted) token(r *Request) error {
	if r.Operation != Create || r.Subresource != "token" {
		return nil
	}
	request, ok := r.Body.(*authenticationv1.TokenRequest)
	if !ok {
		return r.Forbid(fmt.Errorf("unexpected type %T", r.Body))
	}
	ref := request.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return r.Forbid(errors.New("node requested token not bound to a pod"))
	}
	if ref.UID == "" {
		return r.Forbid(errors.New("node requested token with a pod binding without a uid"))
	}
	pod, ok := state.Get[*corev1.Pod](n.state, kind.Pod, r.Namespace, ref.Name)
	if !ok {
		return apierrors.NewNotFound(kind.Pod.GroupResource(), ref.Name)
	}
	if ref.UID != pod.UID {
		return r.Forbid(fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	if pod.Spec.NodeName != n.name {
		return r.Forbid(errors.New("node requested token bound to a pod scheduled on a different node"))
	}
	return n.audience(r, pod, request.Spec.Audiences)
}

// audience: a token for anyone that the Pod's own volumes do not name would let
// a stolen node speak to them as the account (KEP-4412).
func (n restricted) audience(r *Request, pod *corev1.Pod, audiences []string) error {
	if len(audiences) > 1 {
		return r.Forbid(errors.New("node may only request 0 or 1 audiences"))
	}
	want := strings.Join(audiences, "") // "" is the API server
	for i := range pod.Spec.Volumes {
		projected := pod.Spec.Volumes[i].Projected
		if projected == nil {
			continue
		}
		for _, source := range projected.Sources {
			if token := source.ServiceAccountToken; token != nil && token.Audience == want {
				return nil
			}
		}
	}
	return r.Forbid(fmt.Errorf("audience %q not found in pod spec volume, %s is not authorized to request tokens for this audience", want, r.User.Name))
}
