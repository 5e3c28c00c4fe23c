package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/checkpoint"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/rest"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// plane is a real API server in the bubble, on a store that outlives it, and the
// link to it. Clients reach it without a network.
type plane struct {
	*testing.T
	path string
	key  *ecdsa.PrivateKey

	mu      sync.Mutex
	handler *rest.Handler   // nil: there is no server
	ctx     context.Context // ends with the connections
	cut     context.CancelFunc
	severed bool // the node's link

	calls sync.WaitGroup
	close func()
}

func newPlane(t *testing.T) *plane {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{T: t, path: filepath.Join(t.TempDir(), "store"), key: key}
	p.open()
	return p
}

// open starts the server.
func (p *plane) open() {
	p.Helper()
	engine, err := bolt.Open(p.path, bolt.Options{NoSync: true})
	p.must(err)
	s, err := state.Open(context.Background(), engine, kind.All, state.Options{DetectMutation: true})
	p.must(err)
	tokens, err := auth.NewTokens(auth.TokensConfig{Key: p.key, State: s})
	p.must(err)
	h := rest.New(rest.Config{
		API: api.New(api.Config{
			State: s, Admission: admission.New(s), Tokens: tokens, Log: zap.NewNop(),
			ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")},
		}),
		Kinds: kind.All, Log: zap.NewNop(), Authenticator: byHeader{}, Authorizer: auth.NewAuthorizer(s),
		Panicked: func(value any, stack []byte) { p.Errorf("server: %v\n%s", value, stack) },
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handler = h
	p.ctx, p.cut = context.WithCancel(context.Background())
	p.close = sync.OnceFunc(func() {
		p.mu.Lock()
		p.handler = nil
		p.cut()
		p.mu.Unlock()
		h.Close()
		p.calls.Wait()
		p.must(s.Close())
		p.must(engine.Close())
	})
}

func (p *plane) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// byHeader believes who a client says it is.
type byHeader struct{}

func (byHeader) Authenticate(r *http.Request) (auth.User, bool, error) {
	name := r.Header.Get("X-User")
	if strings.HasPrefix(name, "system:node:") {
		return auth.User{Name: name, Groups: []string{"system:nodes", "system:authenticated"}}, true, nil
	}
	return auth.User{Name: name, Groups: []string{"system:masters", "system:authenticated"}}, true, nil
}

// sever cuts the node's link: what is under way on it ends. The server goes on.
func (p *plane) sever() {
	p.mu.Lock()
	p.severed = true
	p.cut()
	p.ctx, p.cut = context.WithCancel(context.Background())
	p.mu.Unlock()
	synctest.Wait()
}

func (p *plane) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.severed = false
}

// way is a client's way to the server.
type way struct {
	*plane
	user string
}

var errRefused = errors.New("connection refused")

// RoundTrip implements http.RoundTripper.
func (w way) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	h, alive := w.handler, w.ctx
	if h == nil || w.severed && w.user != "admin" {
		w.mu.Unlock()
		return nil, errRefused
	}
	w.calls.Add(1)
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(alive, cancel)
	r = r.Clone(ctx)
	r.Header.Set("X-User", w.user)
	r.RequestURI = r.URL.RequestURI()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	body, to := io.Pipe()
	a := &wire{header: http.Header{}, to: to, begun: make(chan struct{})}
	go func() {
		defer w.calls.Done()
		defer stop()
		defer cancel()
		h.ServeHTTP(a, r)
		a.WriteHeader(http.StatusOK)
		err := io.EOF
		if alive.Err() != nil {
			err = errors.New("connection reset by peer")
		}
		_ = to.CloseWithError(err) // always nil
	}()
	select {
	case <-a.begun:
	case <-ctx.Done():
		_ = body.Close()
		return nil, ctx.Err()
	}
	return &http.Response{
		StatusCode: a.code, Status: http.StatusText(a.code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(), Body: body, ContentLength: -1, Request: r,
	}, nil
}

// wire is an answer on its way.
type wire struct {
	header http.Header
	to     *io.PipeWriter
	once   sync.Once
	code   int
	begun  chan struct{}
}

func (a *wire) Header() http.Header { return a.header }
func (a *wire) Flush()              {}

func (a *wire) WriteHeader(code int) {
	a.once.Do(func() {
		a.code = code
		close(a.begun)
	})
}

func (a *wire) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.to.Write(p)
}

// client returns a client through some transport.
func (p *plane) client(through http.RoundTripper) kubernetes.Interface {
	p.Helper()
	c, err := kubernetes.NewForConfig(&restclient.Config{
		Host: "https://server:6443", Transport: through, QPS: -1,
		ContentConfig: restclient.ContentConfig{
			ContentType: runtime.ContentTypeProtobuf, AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
		},
	})
	p.must(err)
	return c
}

// outpost is a node with a checkpoint, and its cluster.
type outpost struct {
	*bench
	plane *plane
	admin kubernetes.Interface
	// end ends the node as a signal would; what runs goes on.
	end func()
}

func (o *outpost) file() string { return filepath.Join(o.host.DataDir, "agent", "checkpoint") }

// inOutpost runs a test with a node whose Pod "web" has all that it may refer to.
func inOutpost(t *testing.T, test func(o *outpost)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := &outpost{bench: newBench(t), plane: newPlane(t)}
		o.labels = nil
		o.admin = o.plane.client(way{o.plane, "admin"})
		ctx := context.Background()
		core := o.admin.CoreV1()
		for _, name := range []string{"default", "kube-node-lease"} {
			_, err := core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
			o.plane.must(err)
		}
		named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }
		_, err := core.ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: named("default")}, metav1.CreateOptions{})
		o.plane.must(err)
		_, err = core.Services("default").Create(ctx, &corev1.Service{ObjectMeta: named("db"),
			Spec: corev1.ServiceSpec{ClusterIP: "10.43.0.5", Ports: []corev1.ServicePort{{Port: 1}}}}, metav1.CreateOptions{})
		o.plane.must(err)
		_, err = core.ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: named("m"), Data: map[string]string{"k": "from a ConfigMap"}}, metav1.CreateOptions{})
		o.plane.must(err)
		_, err = core.ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: named("kube-root-ca.crt"), Data: map[string]string{"ca.crt": "x"}}, metav1.CreateOptions{})
		o.plane.must(err)
		_, err = core.Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: named("s"), Data: map[string][]byte{"k": []byte("from a Secret")}}, metav1.CreateOptions{})
		o.plane.must(err)
		o.live()
		o.make("web")
		pass(time.Second)
		test(o)
		o.end()
		o.plane.close()
	})
}

// live starts the node.
func (o *outpost) live() {
	o.Helper()
	memory := checkpoint.Open(checkpoint.Config{
		Path: o.file(), Cluster: "here", Next: way{o.plane, "system:node:n1"}, Log: zaptest.NewLogger(o.T),
	})
	o.server = o.plane.client(memory)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- memory.Run(ctx) }()
	o.start()
	stop := o.stop
	o.end = sync.OnceFunc(func() {
		stop()
		cancel()
		if err := errors.Join(<-done, memory.Close()); err != nil {
			o.Error(err)
		}
		o.agent.announcer.Shutdown()
		synctest.Wait()
	})
}

// reboot is what a restart of the machine leaves of the node, which has ended.
func (o *outpost) reboot() {
	o.Helper()
	uids, err := o.agent.volumes.UIDs()
	o.plane.must(err)
	for _, uid := range uids {
		o.plane.must(o.agent.volumes.Unmount(uid)) // mounts are gone; so, here, is what was beside them
	}
	o.plane.must(os.RemoveAll(o.host.RunDir))
	o.runtime, o.network = newFakeRuntime(), &fakeNetwork{attached: map[string]string{}}
}

// make creates a Pod on the node.
func (o *outpost) make(name string) {
	o.Helper()
	pod := webPod(func(p *corev1.Pod) {
		p.Name, p.UID, p.Status = name, "", corev1.PodStatus{}
		key := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
		p.Spec.Containers[0].Env = []corev1.EnvVar{
			{Name: "MAP", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: key("m"), Key: "k"}}},
			{Name: "SECRET", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: key("s"), Key: "k"}}},
		}
		p.Spec.Volumes = []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
		}}}}
	})
	_, err := o.admin.CoreV1().Pods("default").Create(context.Background(), pod, metav1.CreateOptions{})
	o.plane.must(err)
	synctest.Wait()
}

// get returns what the server has of a Pod; nil if it has none.
func (o *outpost) get(name string) *corev1.Pod {
	o.Helper()
	list, err := o.admin.CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{})
	o.plane.must(err)
	for i := range list.Items {
		if list.Items[i].Name == name {
			return &list.Items[i]
		}
	}
	return nil
}

func (o *outpost) token(name string) string {
	o.Helper()
	data, err := os.ReadFile(filepath.Join(o.agent.podDir(string(o.get(name).UID)), "volumes/kubernetes.io~projected/token/token"))
	o.plane.must(err)
	return string(data)
}

func (o *outpost) wantReady(name string, restarts int32) {
	o.Helper()
	pod := o.get(name)
	if condition(pod, corev1.PodReady) != "True  " || pod.Status.ContainerStatuses[0].RestartCount != restarts {
		o.Errorf("Pod %s: Ready is %q, %+v", name, condition(pod, corev1.PodReady), pod.Status.ContainerStatuses)
	}
}

// While no server answers, containers run, end and start again, also across a
// restart of the agent; then the server hears of it, and nothing else happens.
func TestRestartWithoutServer(t *testing.T) {
	inOutpost(t, func(o *outpost) {
		o.wantReady("web", 0)
		o.wantCalls("create c/0", "start c/0")
		token := o.token("web")
		o.plane.close()
		pass(10 * time.Minute)
		o.end()
		pass(time.Minute)
		o.live()
		pass(2 * time.Hour) // the token has expired
		o.wantCalls()
		o.runtime.exit(t, "c", 1)
		pass(time.Minute)
		o.wantCalls("remove c/0", "create c/1", "start c/1")
		o.plane.open()
		if o.token("web") != token {
			t.Error("the Pod has another token, which nobody can have given it")
		}
		pass(15 * time.Second)
		o.wantReady("web", 1)
		pass(rememberedTokenLife)
		if o.token("web") == token {
			t.Error("the token is not renewed")
		}
		o.wantCalls()
	})
}

// rememberedTokenLife is when a token is asked for anew that was remembered.
const rememberedTokenLife = time.Minute

// What happens while no server answers is told when one does.
func TestEventsWait(t *testing.T) {
	inOutpost(t, func(o *outpost) {
		o.plane.close()
		pass(time.Hour)
		ended := time.Now()
		o.runtime.exit(t, "c", 1)
		pass(time.Hour)
		o.plane.open()
		pass(15 * time.Second)
		list, err := o.admin.CoreV1().Events("default").List(context.Background(), metav1.ListOptions{})
		o.plane.must(err)
		for _, e := range list.Items {
			if e.Message == "Container started" && e.LastTimestamp.Sub(ended).Abs() < time.Minute {
				return
			}
		}
		t.Errorf("nothing tells that the container was started again: %v", list.Items)
	})
}

// A machine that starts while no server answers starts its Pods.
func TestRebootWithoutServer(t *testing.T) {
	inOutpost(t, func(o *outpost) {
		token := o.token("web")
		o.plane.close()
		o.end()
		o.reboot()
		o.live()
		pass(10 * time.Second)
		o.wantCalls("create c/1", "start c/1")
		spec := o.runtime.spec("c")
		for _, want := range []string{"MAP=from a ConfigMap", "SECRET=from a Secret", "DB_SERVICE_HOST=10.43.0.5"} {
			if !slices.Contains(spec.Env, want) {
				t.Errorf("%s is not in the environment %q", want, spec.Env)
			}
		}
		if !slices.Equal(o.network.former, []netip.Addr{netip.MustParseAddr("10.42.0.9")}) {
			t.Errorf("the Pod is to have its former address, not %v", o.network.former)
		}
		o.plane.open()
		if o.token("web") != token {
			t.Error("the Pod has not the token it had")
		}
		pass(15 * time.Second)
		o.wantReady("web", 1)
		o.wantCalls()
	})
}

// What the server decided while the node was away from it happens when the node
// is back, and only that.
func TestReturnToTheServer(t *testing.T) {
	inOutpost(t, func(o *outpost) {
		o.make("doomed")
		pass(time.Second)
		o.runtime.taken()
		o.plane.sever()
		o.end()
		o.live()
		now := int64(0)
		ctx := context.Background()
		o.plane.must(o.admin.CoreV1().Pods("default").Delete(ctx, "doomed", metav1.DeleteOptions{GracePeriodSeconds: &now}))
		o.make("new")
		unknown := []byte(`{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`)
		_, err := o.admin.CoreV1().Nodes().Patch(ctx, "n1", "application/strategic-merge-patch+json", unknown, metav1.PatchOptions{}, "status")
		o.plane.must(err)
		pass(10 * time.Minute)
		o.wantCalls()
		o.plane.heal()
		pass(11 * time.Second)
		node, err := o.admin.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
		o.plane.must(err)
		if i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }); node.Status.Conditions[i].Status != corev1.ConditionTrue {
			t.Errorf("the Node is %v", node.Status.Conditions[i])
		}
		o.wantReady("web", 0)
		o.wantReady("new", 0)
		calls := o.runtime.taken()
		slices.Sort(calls)
		if want := []string{"create c/0", "kill c/0 15", "remove c/0", "start c/0"}; !slices.Equal(calls, want) {
			t.Errorf("calls of the runtime %q, want %q: one Pod comes, one goes", calls, want)
		}
	})
}

// Containers of which nothing is remembered are left alone until a server says
// whose they are.
func TestUnknownContainersAreLeftAlone(t *testing.T) {
	inOutpost(t, func(o *outpost) {
		pass(10 * time.Minute)
		before, err := os.ReadFile(o.file())
		o.plane.must(err)
		o.make("late")
		pass(100 * time.Millisecond)
		o.runtime.taken()
		o.plane.sever()
		o.end()
		o.plane.must(os.WriteFile(o.file(), before, 0o600)) // as if the power had gone
		o.live()
		pass(10 * time.Minute)
		o.wantCalls()
		if o.network.retained != nil {
			t.Errorf("the addresses of all but %q are free", o.network.retained)
		}
		o.plane.heal()
		pass(15 * time.Second)
		o.wantCalls()
		o.wantReady("late", 0)
		if len(o.network.retained) != 2 {
			t.Errorf("the addresses of all but %q are free", o.network.retained)
		}
	})
}
