package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

func TestBind(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	c.create(kind.Node, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "cellar"}}})
	c.create(kind.Pod, pod("p"))
	b := binding("p", "n1")
	b.Annotations = map[string]string{"from": "binding"}
	if err := c.Bind(ctx, to(kind.Pod, "default", "p"), b); err != nil {
		t.Fatal(err)
	}
	p := c.get(kind.Pod, "default", "p").(*corev1.Pod)
	if p.Spec.NodeName != "n1" || p.Annotations["from"] != "binding" || p.Labels[corev1.LabelTopologyZone] != "cellar" || b.Labels != nil {
		t.Errorf("pod %+v", p)
	}
	if len(p.Status.Conditions) != 1 || p.Status.Conditions[0].Type != corev1.PodScheduled || p.Status.Conditions[0].Status != corev1.ConditionTrue ||
		p.Status.Conditions[0].ObservedGeneration != 0 {
		t.Errorf("conditions %+v", p.Status.Conditions)
	}
	err := c.Bind(ctx, to(kind.Pod, "default", "p"), binding("p", "n2"))
	wantStatus(t, err, metav1.StatusReasonConflict, `Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"`)

	ending := pod("ending")
	ending.Finalizers = []string{"example.com/hold"}
	c.create(kind.Pod, ending)
	c.delete(kind.Pod, "default", "ending", metav1.DeleteOptions{})
	err = c.Bind(ctx, to(kind.Pod, "default", "ending"), binding("ending", "n1"))
	wantStatus(t, err, metav1.StatusReasonConflict, "pod ending is being deleted, cannot be assigned to a host")

	err = c.Bind(ctx, to(kind.Pod, "default", "p"), binding("other", "n1"))
	wantStatus(t, err, metav1.StatusReasonBadRequest, "name in URL does not match name in Binding object")
	err = c.Bind(ctx, to(kind.Pod, "default", "none"), binding("none", "n1"))
	wantStatus(t, err, metav1.StatusReasonNotFound, `pods "none" not found`)
	err = c.Bind(ctx, to(kind.Pod, "default", "p"), binding("p", ""))
	wantStatus(t, err, metav1.StatusReasonUnknown, "target.name: Required value")

	c.create(kind.Pod, pod("replaced"))
	other := binding("replaced", "n1")
	other.UID = "of-another"
	err = c.Bind(ctx, to(kind.Pod, "default", "replaced"), other)
	wantStatus(t, err, metav1.StatusReasonConflict, "Precondition failed: UID in precondition: of-another")
}

// TestOwnersTwiceInBodies: what is posted to a Pod's parts is told of owners that are there
// twice, even where it is refused.
func TestOwnersTwiceInBodies(t *testing.T) {
	c := newCluster(t)
	c.create(kind.Pod, pod("p", onNode("n1")))
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "q", UID: "u"}
	meta := metav1.ObjectMeta{Name: "other", Namespace: "default", OwnerReferences: []metav1.OwnerReference{owner, owner}}
	var warnings []string
	req := to(kind.Pod, "default", "p")
	req.Warn = func(text string) { warnings = append(warnings, text) }
	err := c.Bind(t.Context(), req, &corev1.Binding{ObjectMeta: meta, Target: corev1.ObjectReference{Name: "n1"}})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "name in URL does not match name in Binding object")
	err = c.Evict(t.Context(), req, &policyv1.Eviction{ObjectMeta: meta})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "name in URL does not match name in Eviction object")
	if len(warnings) != 2 || !strings.Contains(warnings[0], "duplicate UID(s) observed: u") || warnings[1] != warnings[0] {
		t.Errorf("warnings %q", warnings)
	}
}

func TestEvict(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	c.create(kind.Pod, pod("p", onNode("n1")))
	req := to(kind.Pod, "default", "p")
	req.Subresource = "status"
	if _, err := c.Modify(ctx, req, func(obj kind.Object) error {
		obj.(*corev1.Pod).Status.Phase = corev1.PodRunning
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	seconds := int64(7)
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: "p", Namespace: "default"},
		DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: &seconds},
	}
	uid := types.UID("other")
	wrong := eviction.DeepCopy()
	wrong.DeleteOptions.Preconditions = &metav1.Preconditions{UID: &uid}
	wantStatus(t, c.Evict(ctx, to(kind.Pod, "default", "p"), wrong), metav1.StatusReasonConflict, "the UID in the precondition (other)")
	if list := c.get(kind.Pod, "default", "p").(*corev1.Pod).Status.Conditions; len(list) > 0 {
		t.Errorf("another Pod was meant, and this one is marked: %+v", list)
	}
	uid = ""
	wantStatus(t, c.Evict(ctx, to(kind.Pod, "default", "p"), wrong), metav1.StatusReasonConflict, "the UID in the precondition ()")
	if list := c.get(kind.Pod, "default", "p").(*corev1.Pod).Status.Conditions; len(list) == 0 {
		t.Error("an empty UID keeps the mark away")
	}
	version := "1"
	wrong.DeleteOptions.Preconditions = &metav1.Preconditions{ResourceVersion: &version}
	wantStatus(t, c.Evict(ctx, to(kind.Pod, "default", "p"), wrong), metav1.StatusReasonConflict, "the ResourceVersion in the precondition (1)")
	wrong.DeleteOptions.DryRun = []string{"All"}
	wantStatus(t, c.Evict(ctx, to(kind.Pod, "default", "p"), wrong), metav1.StatusReasonConflict, "the ResourceVersion in the precondition (1)")
	wrong.DeleteOptions.DryRun = []string{"Some"}
	wantStatus(t, c.Evict(ctx, to(kind.Pod, "default", "p"), wrong), metav1.StatusReasonInvalid, `dryRun: Unsupported value: ["Some"]: supported values: "All"`)
	version = c.get(kind.Pod, "default", "p").GetResourceVersion()
	eviction.DeleteOptions.Preconditions = &metav1.Preconditions{ResourceVersion: &version}
	if err := c.Evict(ctx, to(kind.Pod, "default", "p"), eviction); err != nil {
		t.Fatal(err)
	}
	p := c.get(kind.Pod, "default", "p").(*corev1.Pod)
	if p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 7 {
		t.Errorf("pod %+v", p.ObjectMeta)
	}
	i := len(p.Status.Conditions) - 1
	if i < 0 || p.Status.Conditions[i].Type != corev1.DisruptionTarget || p.Status.Conditions[i].Reason != "EvictionByEvictionAPI" {
		t.Errorf("conditions %+v", p.Status.Conditions)
	}
	wantStatus(t, c.Evict(ctx, to(kind.Pod, "default", "q"), eviction), metav1.StatusReasonBadRequest, "name in URL does not match name in Eviction object")
	wantStatus(t, c.Evict(ctx, to(kind.Pod, "default", "p"), &policyv1.Eviction{}), metav1.StatusReasonBadRequest, "name in URL does not match name in Eviction object")
	ignoring := &policyv1.Eviction{ObjectMeta: eviction.ObjectMeta, DeleteOptions: &metav1.DeleteOptions{IgnoreStoreReadErrorWithClusterBreakingPotential: new(true)}}
	wantStatus(t, c.Evict(ctx, to(kind.Pod, "default", "p"), ignoring), metav1.StatusReasonInvalid, "can not be set for pod eviction, try after removing the option")
}

// TestEvictPending: why it ends is noted in a Pod that has not begun, too.
func TestEvictPending(t *testing.T) {
	c := newCluster(t)
	c.create(kind.Pod, pod("p", onNode("n1")))
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	dry := to(kind.Pod, "default", "p")
	dry.DryRun = true
	for _, req := range []api.Request{dry, to(kind.Pod, "default", "p")} {
		if err := c.Evict(context.Background(), req, eviction); err != nil {
			t.Fatal(err)
		}
		p := c.get(kind.Pod, "default", "p").(*corev1.Pod)
		if noted := len(p.Status.Conditions) > 0 && p.Status.Conditions[0].Type == corev1.DisruptionTarget; noted == req.DryRun || (p.DeletionTimestamp != nil) == req.DryRun {
			t.Errorf("dry run %v: %+v", req.DryRun, p)
		}
	}
}

func TestScale(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	d := c.create(kind.Deployment, deployment("d", 2))
	scale, err := c.Scale(ctx, at(kind.Deployment, d))
	if err != nil || scale.Spec.Replicas != 2 || scale.Status.Selector != "app=d" || scale.ResourceVersion != d.GetResourceVersion() {
		t.Fatalf("scale %+v, %v", scale, err)
	}
	old := scale.DeepCopy()
	scale.Spec.Replicas = 5
	if scale, err = c.UpdateScale(ctx, at(kind.Deployment, d), scale); err != nil || scale.Spec.Replicas != 5 {
		t.Fatalf("scale %+v, %v", scale, err)
	}
	if now := asDeployment(c.get(kind.Deployment, "default", "d")); *now.Spec.Replicas != 5 || now.Generation != 2 {
		t.Errorf("replicas %d, generation %d", *now.Spec.Replicas, now.Generation)
	}
	_, err = c.UpdateScale(ctx, at(kind.Deployment, d), old)
	wantStatus(t, err, metav1.StatusReasonConflict, "the object has been modified")
	old.ResourceVersion, old.Spec.Replicas = "", -1
	_, err = c.UpdateScale(ctx, at(kind.Deployment, d), old)
	wantStatus(t, err, metav1.StatusReasonInvalid, "spec.replicas: Invalid value: -1: must be greater than or equal to 0")
	if scale, err = c.PatchScale(ctx, at(kind.Deployment, d), api.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"replicas":3}}`)}); err != nil || scale.Spec.Replicas != 3 {
		t.Errorf("patched scale %+v, %v", scale, err)
	}
	_, err = c.Scale(ctx, to(kind.Deployment, "default", "none"))
	wantStatus(t, err, metav1.StatusReasonNotFound, `deployments.apps "none" not found`)
}

// tokens notes what it was asked for.
type tokens struct {
	account  string
	bound    kind.Object
	lifetime time.Duration
	err      error
}

func (f *tokens) Issue(account *corev1.ServiceAccount, bound kind.Object, audiences []string, lifetime time.Duration) (auth.Token, error) {
	f.account, f.bound, f.lifetime = account.Name, bound, lifetime
	if len(audiences) == 0 {
		audiences = []string{"https://kubernetes.default.svc"}
	}
	return auth.Token{Value: "signed", Audiences: audiences, Expires: time.Unix(2e9, 0)}, f.err
}

func TestToken(t *testing.T) {
	issuer := &tokens{}
	c := newCluster(t, func(c *api.Config, _ *state.Options) { c.Tokens = issuer })
	ctx := context.Background()
	p := c.create(kind.Pod, pod("p", onNode("n1")))
	req := to(kind.ServiceAccount, "default", "default")
	var warnings int
	req.Warn = func(string) { warnings++ }
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "u"}
	twice := metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{owner, owner}}
	out, err := c.Token(ctx, req, &authenticationv1.TokenRequest{ObjectMeta: twice})
	if err == nil && (len(out.OwnerReferences) != 1 || warnings != 1) {
		t.Errorf("owners %v, %d warnings", out.OwnerReferences, warnings)
	}
	review := &authenticationv1.TokenReview{ObjectMeta: twice}
	asked := req
	asked.Kind, asked.Namespace = kind.TokenReview, ""
	if err := c.Ask(asked, review); err != nil || len(review.OwnerReferences) != 1 || warnings != 2 {
		t.Errorf("owners %v, %d warnings, %v", review.OwnerReferences, warnings, err)
	}
	if err != nil || out.Status.Token != "signed" || issuer.lifetime != time.Hour || issuer.bound != nil || len(out.Spec.Audiences) != 1 {
		t.Fatalf("token %+v, lifetime %v, %v", out, issuer.lifetime, err)
	}
	seconds := int64(3607)
	bound := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: p.GetUID()},
	}}
	node := req
	node.User = auth.User{Name: "system:node:n1", Groups: []string{auth.GroupNodes}}
	if _, err := c.Token(ctx, node, bound); err != nil || issuer.bound != p || issuer.lifetime != 3607*time.Second {
		t.Errorf("bound %v, lifetime %v, %v", issuer.bound, issuer.lifetime, err)
	}
	node.User.Name = "system:node:n2"
	_, err = c.Token(ctx, node, bound)
	wantStatus(t, err, metav1.StatusReasonForbidden, "node requested token bound to a pod scheduled on a different node")

	short := int64(60)
	_, err = c.Token(ctx, req, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &short}})
	wantStatus(t, err, metav1.StatusReasonInvalid, "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes")
	replaced := bound.DeepCopy()
	replaced.Spec.BoundObjectRef.UID = "old"
	_, err = c.Token(ctx, req, replaced)
	wantStatus(t, err, metav1.StatusReasonConflict, "the UID in the bound object reference (old) does not match the UID in record. ")
	_, err = c.Token(ctx, to(kind.ServiceAccount, "default", "none"), bound)
	wantStatus(t, err, metav1.StatusReasonNotFound, `serviceaccounts "none" not found`)
	// What the body says of the account must be true.
	other := bound.DeepCopy()
	other.Name = "other"
	_, err = c.Token(ctx, req, other)
	wantStatus(t, err, metav1.StatusReasonInvalid, `TokenRequest.authentication.k8s.io "default" is invalid: metadata.name: Invalid value: "other": must match the service account name if specified`)
	other.Name, other.UID = "", "other"
	_, err = c.Token(ctx, req, other)
	wantStatus(t, err, metav1.StatusReasonConflict, "the UID in the token request (other) does not match the UID of the service account (")
	issuer.err = errors.New("no key")
	if _, err = c.Token(ctx, req, bound); !apierrors.IsInternalError(err) {
		t.Errorf("error %v", err)
	}
}
