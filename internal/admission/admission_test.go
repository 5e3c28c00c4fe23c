package admission_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// world is a state with what the steps look up.
func world(t *testing.T, objects ...kind.Object) *state.State {
	t.Helper()
	engine, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	s, err := state.Open(context.Background(), engine, kind.All, state.Options{DetectMutation: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, obj := range objects {
		var k *kind.Kind
		switch obj.(type) {
		case *corev1.ServiceAccount:
			k = kind.ServiceAccount
		case *corev1.Pod:
			k = kind.Pod
		case *corev1.Node:
			k = kind.Node
		case *schedulingv1.PriorityClass:
			k = kind.PriorityClass
		case *nodev1.RuntimeClass:
			k = kind.RuntimeClass
		}
		if _, err := s.Commit(context.Background(), state.Write{Kind: k, Action: store.Put, Object: obj}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// admit runs the whole chain, as the API does.
func admit(s *state.State, r *admission.Request) error {
	if r.Name == "" && r.Object != nil {
		r.Name = r.Object.GetName()
	}
	if r.Namespace == "" && r.Object != nil {
		r.Namespace = r.Object.GetNamespace()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	chain := admission.New(s)
	if err := chain.Mutate(ctx, r); err != nil {
		return err
	}
	return chain.Validate(ctx, r)
}

func wantForbidden(t *testing.T, err error, text string) {
	t.Helper()
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want Forbidden …%s…", err, text)
	}
}

func account(change ...func(*corev1.ServiceAccount)) *corev1.ServiceAccount {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}
	for _, f := range change {
		f(sa)
	}
	return sa
}

func pod(change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "init"}},
			Containers:     []corev1.Container{{Name: "main"}},
		},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func creation(k *kind.Kind, obj kind.Object) *admission.Request {
	return &admission.Request{Operation: admission.Create, Kind: k, Object: obj}
}

func TestServiceAccountIsMounted(t *testing.T) {
	s := world(t, account(func(sa *corev1.ServiceAccount) {
		sa.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
	}))
	p := pod()
	if err := admit(s, creation(kind.Pod, p)); err != nil {
		t.Fatal(err)
	}
	if p.Spec.ServiceAccountName != "default" || p.Spec.ImagePullSecrets[0].Name != "registry" {
		t.Errorf("account %q, pull secrets %v", p.Spec.ServiceAccountName, p.Spec.ImagePullSecrets)
	}
	if len(p.Spec.Volumes) != 1 || !strings.HasPrefix(p.Spec.Volumes[0].Name, "kube-api-access-") || len(p.Spec.Volumes[0].Name) != 21 {
		t.Fatalf("volumes %+v", p.Spec.Volumes)
	}
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		if len(c.VolumeMounts) != 1 {
			t.Fatalf("container %s has mounts %+v", c.Name, c.VolumeMounts)
		}
		m := c.VolumeMounts[0]
		if m.Name != p.Spec.Volumes[0].Name || !m.ReadOnly || m.MountPath != "/var/run/secrets/kubernetes.io/serviceaccount" {
			t.Errorf("container %s has mount %+v", c.Name, m)
		}
	}
	sources := p.Spec.Volumes[0].Projected.Sources
	if *p.Spec.Volumes[0].Projected.DefaultMode != 0o644 || *sources[0].ServiceAccountToken.ExpirationSeconds != 3607 ||
		sources[1].ConfigMap.Name != "kube-root-ca.crt" || sources[2].DownwardAPI.Items[0].FieldRef.FieldPath != "metadata.namespace" {
		t.Errorf("sources %+v", sources)
	}
	before := p.DeepCopy()
	if err := admit(s, creation(kind.Pod, p)); err != nil || len(p.Spec.Volumes) != 1 || len(p.Spec.Containers[0].VolumeMounts) != 1 {
		t.Errorf("a second pass changed %+v to %+v, %v", before.Spec, p.Spec, err)
	}
}

func TestServiceAccountChoices(t *testing.T) {
	no, yes := false, true
	tests := map[string]struct {
		account *bool
		pod     *bool
		mounted bool
	}{
		"nobody says":     {nil, nil, true},
		"account says no": {&no, nil, false},
		"pod says no":     {nil, &no, false},
		"pod overrules":   {&no, &yes, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := world(t, account(func(sa *corev1.ServiceAccount) { sa.AutomountServiceAccountToken = test.account }))
			p := pod(func(p *corev1.Pod) { p.Spec.AutomountServiceAccountToken = test.pod })
			if err := admit(s, creation(kind.Pod, p)); err != nil || (len(p.Spec.Volumes) == 1) != test.mounted {
				t.Errorf("volumes %+v, %v", p.Spec.Volumes, err)
			}
		})
	}
	s := world(t, account())
	own := pod(func(p *corev1.Pod) {
		p.Spec.InitContainers = nil
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "mine", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}
	})
	if err := admit(s, creation(kind.Pod, own)); err != nil || len(own.Spec.Volumes) != 0 || len(own.Spec.Containers[0].VolumeMounts) != 1 {
		t.Errorf("a mount of the Pod's own: %+v, %v", own.Spec, err)
	}
	wantForbidden(t, admit(world(t), creation(kind.Pod, pod())),
		`pods "p" is forbidden: error looking up service account default/default: serviceaccount "default" not found`)
	unnamed := pod(func(p *corev1.Pod) { p.Name, p.GenerateName, p.Spec.ServiceAccountName = "", "web-", "own" })
	wantForbidden(t, admit(world(t), creation(kind.Pod, unnamed)),
		`pods "web-" is forbidden: error looking up service account default/own: serviceaccount "own" not found`)
	unnamed.Spec.ServiceAccountName = "../x"
	wantForbidden(t, admit(world(t), creation(kind.Pod, unnamed)),
		`pods "web-" is forbidden: error looking up service account default/../x: invalid resource name "../x": [may not contain '/']`)
}

// In a new namespace a Pod may come before the default account does.
func TestServiceAccountIsWaitedFor(t *testing.T) {
	s := world(t)
	p := pod()
	done := make(chan error, 1)
	go func() { done <- admit(s, creation(kind.Pod, p)) }()
	if _, err := s.Commit(context.Background(), state.Write{Kind: kind.ServiceAccount, Action: store.Put, Object: account()}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || len(p.Spec.Volumes) != 1 {
		t.Errorf("volumes %+v, %v", p.Spec.Volumes, err)
	}
}

func class(name string, value int32, change ...func(*schedulingv1.PriorityClass)) *schedulingv1.PriorityClass {
	c := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
	for _, f := range change {
		f(c)
	}
	return c
}

func byDefault(c *schedulingv1.PriorityClass) { c.GlobalDefault = true }

func TestPriority(t *testing.T) {
	never := corev1.PreemptNever
	s := world(t, account(), class("high", 1000), class("calm", 5, func(c *schedulingv1.PriorityClass) { c.PreemptionPolicy = &never }))
	tests := map[string]struct {
		name   string
		want   int32
		policy corev1.PreemptionPolicy
	}{
		"none":   {"", 0, corev1.PreemptLowerPriority},
		"high":   {"high", 1000, corev1.PreemptLowerPriority},
		"policy": {"calm", 5, corev1.PreemptNever},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := pod(func(p *corev1.Pod) { p.Spec.PriorityClassName = test.name })
			if err := admit(s, creation(kind.Pod, p)); err != nil || *p.Spec.Priority != test.want || *p.Spec.PreemptionPolicy != test.policy {
				t.Errorf("priority %v, policy %v, %v", p.Spec.Priority, p.Spec.PreemptionPolicy, err)
			}
		})
	}
	missing := pod(func(p *corev1.Pod) { p.Spec.PriorityClassName = "none" })
	wantForbidden(t, admit(s, creation(kind.Pod, missing)), "no PriorityClass with name none was found")
	own := pod(func(p *corev1.Pod) { p.Spec.Priority = new(int32(7)) })
	wantForbidden(t, admit(s, creation(kind.Pod, own)),
		"the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name")

	s = world(t, account(), class("standard", 50, byDefault))
	p := pod()
	if err := admit(s, creation(kind.Pod, p)); err != nil || *p.Spec.Priority != 50 || p.Spec.PriorityClassName != "standard" {
		t.Errorf("default class: %+v, %v", p.Spec, err)
	}
	wantForbidden(t, admit(s, creation(kind.PriorityClass, class("second", 60, byDefault))),
		"PriorityClass standard is already marked as default. Only one default can exist")
	if err := admit(s, creation(kind.PriorityClass, class("standard", 50, byDefault))); err != nil {
		t.Errorf("the default class itself: %v", err)
	}
}

func TestDefaultTolerations(t *testing.T) {
	s := world(t, account())
	p := pod()
	if err := admit(s, creation(kind.Pod, p)); err != nil {
		t.Fatal(err)
	}
	if len(p.Spec.Tolerations) != 2 {
		t.Fatalf("tolerations %+v", p.Spec.Tolerations)
	}
	for i, key := range []string{"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"} {
		if got := p.Spec.Tolerations[i]; got.Key != key || got.Effect != corev1.TaintEffectNoExecute || got.Operator != corev1.TolerationOpExists || *got.TolerationSeconds != 300 {
			t.Errorf("toleration %+v", got)
		}
	}
	own := pod(func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{
			{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
			{Operator: corev1.TolerationOpExists},
		}
	})
	if err := admit(s, creation(kind.Pod, own)); err != nil || len(own.Spec.Tolerations) != 2 {
		t.Errorf("a Pod with tolerations of its own got %+v, %v", own.Spec.Tolerations, err)
	}
}

func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, f := range change {
		f(n)
	}
	return n
}

func TestNewNodesAreTainted(t *testing.T) {
	n := node("n1")
	s := world(t)
	for range 2 {
		if err := admit(s, creation(kind.Node, n)); err != nil {
			t.Fatal(err)
		}
	}
	if len(n.Spec.Taints) != 1 || n.Spec.Taints[0] != (corev1.Taint{Key: "node.kubernetes.io/not-ready", Effect: corev1.TaintEffectNoSchedule}) {
		t.Errorf("taints %+v", n.Spec.Taints)
	}
}

func TestImmortalNamespaces(t *testing.T) {
	s := world(t)
	for name, immortal := range map[string]bool{"default": true, "kube-system": true, "kube-public": true, "kube-node-lease": false, "team": false} {
		err := admit(s, &admission.Request{Operation: admission.Delete, Kind: kind.Namespace, Name: name})
		if apierrors.IsForbidden(err) != immortal {
			t.Errorf("deletion of %s: %v", name, err)
		}
	}
}

func TestNodeRestriction(t *testing.T) {
	mine, theirs := pod(func(p *corev1.Pod) { p.Name, p.Spec.NodeName, p.UID = "mine", "n1", "u1" }), pod(func(p *corev1.Pod) { p.Name, p.Spec.NodeName = "theirs", "n2" })
	self := node("n1", func(n *corev1.Node) { n.UID = "node-uid" })
	mine.Spec.Volumes = []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", Path: "t"}}},
	}}}}
	s := world(t, account(), mine, theirs, self)
	tokenFor := func(audiences ...string) *authenticationv1.TokenRequest {
		return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences:      audiences,
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "mine", UID: "u1"},
		}}
	}
	labelled := func(key string) *corev1.Node {
		return node("n1", func(n *corev1.Node) { n.Labels = map[string]string{key: "x"} })
	}
	tainted := func(key string) *corev1.Node {
		return node("n1", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: key, Effect: corev1.TaintEffectNoSchedule}} })
	}
	yes := true
	mirror := func(uid string) *corev1.Pod {
		return pod(func(p *corev1.Pod) {
			p.Annotations, p.Spec.NodeName = map[string]string{corev1.MirrorPodAnnotationKey: "x"}, "n1"
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: self.UID, Controller: &yes}}
			if uid != "" {
				p.OwnerReferences[0].UID = "other"
			}
		})
	}
	relabelled := mine.DeepCopy()
	relabelled.Labels = map[string]string{"a": "b"}
	lease := func(ns, name string) *coordinationv1.Lease {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	}
	owned := self.DeepCopy()
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: "none", UID: "none"}}
	type request = admission.Request
	tests := map[string]struct {
		r    request
		want string // "": admitted
	}{
		"own node":            {request{Operation: admission.Create, Kind: kind.Node, Object: labelled("kubernetes.io/hostname")}, ""},
		"other node":          {request{Operation: admission.Update, Kind: kind.Node, Object: node("n2"), Old: node("n2")}, `node "n1" is not allowed to modify node "n2"`},
		"role label":          {request{Operation: admission.Create, Kind: kind.Node, Object: labelled("node-role.kubernetes.io/control-plane")}, `node "n1" is not allowed to set the following labels: node-role.kubernetes.io/control-plane`},
		"restricted label":    {request{Operation: admission.Update, Kind: kind.Node, Object: labelled("x.node-restriction.kubernetes.io/a"), Old: self}, "is not allowed to modify labels: x.node-restriction.kubernetes.io/a"},
		"free label":          {request{Operation: admission.Update, Kind: kind.Node, Object: labelled("example.com/a"), Old: self}, ""},
		"taints":              {request{Operation: admission.Update, Kind: kind.Node, Object: self, Old: node("n1", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "a"}} })}, `node "n1" is not allowed to modify taints`},
		"owner":               {request{Operation: admission.Update, Kind: kind.Node, Object: owned, Old: self}, `node "n1" is not allowed to modify ownerReferences`},
		"leave":               {request{Operation: admission.Delete, Kind: kind.Node, Name: "n1", Old: tainted("node.kubernetes.io/unschedulable")}, ""},
		"leave another":       {request{Operation: admission.Delete, Kind: kind.Node, Name: "n2", Old: node("n2")}, `node "n1" is not allowed to modify node "n2"`},
		"flee a taint":        {request{Operation: admission.Delete, Kind: kind.Node, Name: "n1", Old: tainted("a")}, `node "n1" is not allowed to delete itself while it has the taint a:NoSchedule: an administrator can`},
		"flee a label":        {request{Operation: admission.Delete, Kind: kind.Node, Name: "n1", Old: labelled("node-role.kubernetes.io/worker")}, `node "n1" is not allowed to delete itself while it has the following labels: node-role.kubernetes.io/worker: an administrator can`},
		"own pod's status":    {request{Operation: admission.Update, Kind: kind.Pod, Subresource: "status", Object: mine, Old: mine}, ""},
		"other pod's status":  {request{Operation: admission.Update, Kind: kind.Pod, Subresource: "status", Object: theirs, Old: theirs}, `node "n1" can only update pod status for pods with spec.nodeName set to itself`},
		"labels by status":    {request{Operation: admission.Update, Kind: kind.Pod, Subresource: "status", Object: relabelled, Old: mine}, `node "n1" cannot update labels through pod status`},
		"pod itself":          {request{Operation: admission.Update, Kind: kind.Pod, Object: mine, Old: mine}, `unexpected operation "UPDATE", node "n1" can only create and delete mirror pods`},
		"delete own pod":      {request{Operation: admission.Delete, Kind: kind.Pod, Old: mine}, ""},
		"delete other pod":    {request{Operation: admission.Delete, Kind: kind.Pod, Old: theirs}, `node "n1" can only delete pods with spec.nodeName set to itself`},
		"evict other pod":     {request{Operation: admission.Create, Kind: kind.Pod, Subresource: "eviction", Old: theirs}, "node n1 can only evict pods with spec.nodeName set to itself"},
		"bind":                {request{Operation: admission.Create, Kind: kind.Pod, Subresource: "binding", Old: mine}, `unexpected pod subresource "binding"`},
		"ordinary pod":        {request{Operation: admission.Create, Kind: kind.Pod, Object: pod()}, `pod does not have "kubernetes.io/config.mirror" annotation`},
		"mirror pod":          {request{Operation: admission.Create, Kind: kind.Pod, Object: mirror("")}, ""},
		"mirror of old node":  {request{Operation: admission.Create, Kind: kind.Pod, Object: mirror("other")}, "node n1 UID mismatch: expected other got node-uid"},
		"own lease":           {request{Operation: admission.Create, Kind: kind.Lease, Object: lease("kube-node-lease", "n1")}, ""},
		"other lease":         {request{Operation: admission.Create, Kind: kind.Lease, Object: lease("kube-node-lease", "n2")}, "can only access node lease with the same name as the requesting node"},
		"lease elsewhere":     {request{Operation: admission.Create, Kind: kind.Lease, Object: lease("default", "n1")}, `can only access leases in the "kube-node-lease" system namespace`},
		"unbound token":       {request{Operation: admission.Create, Kind: kind.ServiceAccount, Subresource: "token", Body: &authenticationv1.TokenRequest{}}, "node requested token not bound to a pod"},
		"token of own pod":    {request{Operation: admission.Create, Kind: kind.ServiceAccount, Subresource: "token", Namespace: mine.Namespace, Body: tokenFor("vault")}, ""},
		"token for another":   {request{Operation: admission.Create, Kind: kind.ServiceAccount, Subresource: "token", Namespace: mine.Namespace, Body: tokenFor("bank")}, `audience "bank" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience`},
		"token for the API":   {request{Operation: admission.Create, Kind: kind.ServiceAccount, Subresource: "token", Namespace: mine.Namespace, Body: tokenFor()}, `audience "" not found in pod spec volume`},
		"token for several":   {request{Operation: admission.Create, Kind: kind.ServiceAccount, Subresource: "token", Namespace: mine.Namespace, Body: tokenFor("vault", "bank")}, "node may only request 0 or 1 audiences"},
		"something unrelated": {request{Operation: admission.Create, Kind: kind.ConfigMap, Object: &corev1.ConfigMap{}}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			as := func(u admission.User) error {
				r := test.r
				r.User = u
				if r.Object != nil {
					r.Object = r.Object.DeepCopyObject().(kind.Object)
				}
				return admit(s, &r)
			}
			err := as(admission.User{Name: "system:node:n1", Groups: []string{"system:nodes"}})
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantForbidden(t, err, test.want)
			// By name only it is no node.
			if err := as(admission.User{Name: "system:node:n1"}); err != nil && strings.Contains(err.Error(), test.want) {
				t.Errorf("somebody who is no node is restricted: %v", err)
			}
		})
	}
}
