package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/internal/kind"
)

// stampedeTime is how long the clients go on; make race gives them more.
func stampedeTime() time.Duration {
	if wish, err := time.ParseDuration(os.Getenv("SKIFF_STAMPEDE")); err == nil {
		return wish
	}
	return 3 * time.Second
}

var template = corev1.PodTemplateSpec{
	ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "a"}},
	Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
}

// samples are one valid object of each kind; those missing are made of nothing.
var samples = map[*kind.Kind]runtime.Object{
	kind.ConfigMap:     &corev1.ConfigMap{Data: map[string]string{"k": "v"}},
	kind.Secret:        &corev1.Secret{StringData: map[string]string{"k": "v"}},
	kind.Pod:           &corev1.Pod{Spec: template.Spec},
	kind.Service:       &corev1.Service{Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "a"}, Ports: []corev1.ServicePort{{Port: 80}}}},
	kind.EndpointSlice: &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4},
	kind.Lease:         &coordinationv1.Lease{},
	kind.PriorityClass: &schedulingv1.PriorityClass{Value: 7},
	kind.RuntimeClass:  &nodev1.RuntimeClass{Handler: "runc"},
	kind.Event:         &corev1.Event{InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"}, Reason: "R", Type: "Normal"},
	kind.Deployment:    &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template}},
	kind.ReplicaSet:    &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template}},
}

// stampeder is one of many clients that do everything at once to the same few objects.
type stampeder struct {
	*rand.Rand
	objects dynamic.Interface
	typed   *kubernetes.Clientset
	raw     restclient.Interface
	met     *tally
}

// tally counts what was done, and keeps what must not happen.
type tally struct {
	mu   sync.Mutex // guards both
	done map[string]int
	bad  []string
}

func (m *tally) add(what string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done[what]++
	if apierrors.IsInternalError(err) && len(m.bad) < 20 {
		m.bad = append(m.bad, what+": "+err.Error())
	}
}

// Fifty clients do everything to the same objects at the same time. Nothing fails that
// is the server's fault, nothing panics, and with -race nothing races.
func TestStampede(t *testing.T) {
	c := inProcess(t)
	met := &tally{done: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), stampedeTime())
	defer cancel()
	var clients sync.WaitGroup
	for i := range 50 {
		own := restclient.CopyConfig(c)
		own.WarningHandler = restclient.NoWarnings{}
		own.UserAgent = fmt.Sprintf("stampeder-%d", i)
		if i%2 == 1 {
			own.ContentType = "application/json"
		} else {
			own.ContentType = "application/vnd.kubernetes.protobuf"
		}
		typed, err := kubernetes.NewForConfig(own)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := dynamic.NewForConfig(own)
		if err != nil {
			t.Fatal(err)
		}
		s := &stampeder{Rand: rand.New(rand.NewPCG(uint64(i), 1)), objects: objects, typed: typed, raw: typed.Discovery().RESTClient(), met: met}
		clients.Go(func() {
			for ctx.Err() == nil {
				s.step(ctx)
			}
		})
	}
	clients.Wait()
	total := 0
	for _, n := range met.done {
		total += n
	}
	t.Logf("%d requests: %v", total, met.done)
	for _, bad := range met.bad {
		t.Error(bad)
	}
	if total < 200 {
		t.Error("hardly anything was done")
	}
}

// object makes an object of the kind under one of a few names.
func (s *stampeder) object(k *kind.Kind) *unstructured.Unstructured {
	from := samples[k]
	if from == nil {
		from = k.New()
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(from)
	if err != nil {
		panic(err) // samples are constants
	}
	obj := &unstructured.Unstructured{Object: content}
	delete(content, "status")
	obj.SetGroupVersionKind(k.GVK())
	obj.SetName(fmt.Sprintf("s-%d", s.IntN(5)))
	obj.SetLabels(map[string]string{"stampede": fmt.Sprint(s.IntN(3))})
	if k.Namespaced {
		obj.SetNamespace([]string{"default", "s-0", "s-1"}[s.IntN(3)])
	}
	return obj
}

// step does something to something.
func (s *stampeder) step(ctx context.Context) {
	k := kind.All[s.IntN(len(kind.All))]
	obj := s.object(k)
	var in dynamic.ResourceInterface = s.objects.Resource(k.Resource)
	if k.Namespaced {
		in = s.objects.Resource(k.Resource).Namespace(obj.GetNamespace())
	}
	what, err := s.act(ctx, k, obj, in)
	s.met.add(what, err)
}

func (s *stampeder) act(ctx context.Context, k *kind.Kind, obj *unstructured.Unstructured, in dynamic.ResourceInterface) (what string, err error) {
	name := obj.GetName()
	label := fmt.Sprintf(`{"metadata":{"labels":{"x":"%d"},"annotations":{"y":"%d"}}}`, s.IntN(9), s.IntN(9))
	var dry []string
	if s.IntN(10) == 0 {
		dry = []string{metav1.DryRunAll}
	}
	switch s.IntN(16) {
	case 0, 1, 2:
		_, err = in.Create(ctx, obj, metav1.CreateOptions{DryRun: dry})
		return "create", err
	case 3:
		_, err = in.Get(ctx, name, metav1.GetOptions{})
		return "get", err
	case 4:
		_, err = in.List(ctx, metav1.ListOptions{LabelSelector: "stampede in (0,1)"})
		return "list", err
	case 5:
		return "page", s.page(ctx, in)
	case 6, 7:
		return "watch", s.watch(ctx, in)
	case 8:
		got, err := in.Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			got.SetAnnotations(map[string]string{"z": fmt.Sprint(s.IntN(9))})
			_, err = in.Update(ctx, got, metav1.UpdateOptions{DryRun: dry})
		}
		return "update", err
	case 9:
		_, err = in.Patch(ctx, name, []types.PatchType{types.MergePatchType, types.StrategicMergePatchType}[s.IntN(2)], []byte(label), metav1.PatchOptions{DryRun: dry})
		return "patch", err
	case 10:
		_, err = in.Patch(ctx, name, types.JSONPatchType, []byte(`[{"op":"add","path":"/metadata/labels/j","value":"1"}]`), metav1.PatchOptions{})
		return "JSON patch", err
	case 11:
		data, _ := json.Marshal(obj)
		force := s.IntN(2) == 0
		_, err = in.Patch(ctx, name, types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: fmt.Sprintf("m%d", s.IntN(3)), Force: &force, DryRun: dry})
		return "apply", err
	case 12:
		grace := int64(s.IntN(2))
		return "delete", in.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &grace, DryRun: dry})
	case 13:
		if k == kind.Namespace || k == kind.Node || s.IntN(4) > 0 {
			return "tables", s.read(ctx)
		}
		return "deletecollection", in.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "stampede=2"})
	case 14:
		got, err := in.Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			_, err = in.UpdateStatus(ctx, got, metav1.UpdateOptions{})
		}
		return "status", err
	}
	return s.subresource(ctx, obj.GetNamespace(), name)
}

// page lists page by page.
func (s *stampeder) page(ctx context.Context, in dynamic.ResourceInterface) error {
	options := metav1.ListOptions{Limit: 2}
	for range 5 {
		list, err := in.List(ctx, options)
		if err != nil || list.GetContinue() == "" {
			return err
		}
		options.Continue = list.GetContinue()
	}
	return nil
}

// watch watches for a moment.
func (s *stampeder) watch(ctx context.Context, in dynamic.ResourceInterface) error {
	options := metav1.ListOptions{AllowWatchBookmarks: true}
	if s.IntN(2) == 0 {
		yes := true
		options.SendInitialEvents, options.ResourceVersionMatch = &yes, metav1.ResourceVersionMatchNotOlderThan
	}
	w, err := in.Watch(ctx, options)
	if err != nil {
		return err
	}
	defer w.Stop()
	end := time.After(time.Duration(s.IntN(50)) * time.Millisecond)
	for {
		select {
		case _, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
		case <-end:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// read reads what is not an object, or objects in other shapes.
func (s *stampeder) read(ctx context.Context) error {
	path := []string{"/api", "/apis", "/version", "/openapi/v3", "/openapi/v3/api/v1", "/metrics", "/readyz?verbose", "/api/v1", "/apis/apps/v1",
		"/api/v1/pods", "/api/v1/nodes", "/apis/apps/v1/deployments"}[s.IntN(12)]
	accept := []string{"application/json", "application/yaml", "application/json;as=Table;g=meta.k8s.io;v=v1,application/json",
		"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"}[s.IntN(4)]
	return s.raw.Get().RequestURI(path).SetHeader("Accept", accept).Do(ctx).Error()
}

// subresource does what only some kinds have.
func (s *stampeder) subresource(ctx context.Context, namespace, name string) (string, error) {
	if namespace == "" {
		namespace = "default"
	}
	pods := s.typed.CoreV1().Pods(namespace)
	switch s.IntN(7) {
	case 0:
		_, err := s.typed.AppsV1().Deployments(namespace).UpdateScale(ctx, name, &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: int32(s.IntN(3))}}, metav1.UpdateOptions{})
		return "scale", err
	case 1:
		return "evict", pods.EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}})
	case 2:
		return "bind", pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: "s-1"}}, metav1.CreateOptions{})
	case 3:
		token, err := s.typed.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if err == nil {
			_, err = s.typed.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
				Spec: authenticationv1.TokenReviewSpec{Token: token.Status.Token}}, metav1.CreateOptions{})
		}
		return "token", err
	case 4:
		_, err := pods.GetLogs(name, &corev1.PodLogOptions{}).DoRaw(ctx)
		if apierrors.IsInternalError(err) {
			err = nil // its node is not there
		}
		return "log", err
	case 5:
		_, err := s.typed.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=R"})
		return "face", err
	}
	return "read", s.read(ctx)
}
