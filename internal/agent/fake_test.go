package agent

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
	"github.com/skiff-sh/skiff/internal/agent/oom"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/uplink"
	"github.com/skiff-sh/skiff/internal/userns"
)

// fakeRuntime keeps containers in memory. A test ends them with exit.
type fakeRuntime struct {
	mu         sync.Mutex
	containers map[string]*fakeContainer
	calls      []string // "create a/0", "start a/0", "kill a/0 15", …
	followers  []func(ContainerState)
	startErr   error
	endsFirst  bool          // a container's end is told a second before its start is answered
	ahead      time.Duration // of the clock that ends are told by
	// onSignal is asked what a signal does; true ends the container.
	onSignal func(name string, signal int) bool
	execs    func(name string, args []string) (int, string)
}

type fakeContainer struct {
	spec  Container
	state ContainerState
}

func newFakeRuntime() *fakeRuntime {
	return &fakeRuntime{containers: map[string]*fakeContainer{}, onSignal: func(string, int) bool { return true }}
}

func (f *fakeRuntime) note(format string, args ...any) {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fakeRuntime) Create(_ context.Context, c Container) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("create %s/%d", c.Name, c.Attempt)
	f.containers[c.ID] = &fakeContainer{spec: c, state: ContainerState{
		ID: c.ID, Name: c.Name, Attempt: c.Attempt, Pod: c.Pod, Phase: ContainerCreated, CreatedAt: time.Now(), LogPath: c.LogPath,
	}}
	return nil
}

func (f *fakeRuntime) Start(ctx context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	f.note("start %s/%d", c.spec.Name, c.spec.Attempt)
	if f.startErr != nil {
		return f.startErr
	}
	c.state.Phase, c.state.StartedAt, c.state.PID = ContainerRunning, time.Now(), 4711
	if f.endsFirst {
		f.mu.Unlock()
		f.end(id, 0)
		time.Sleep(time.Second)
		f.mu.Lock()
	}
	return ctx.Err()
}

func (f *fakeRuntime) Kill(_ context.Context, id string, signal int) error {
	f.mu.Lock()
	c := f.containers[id]
	f.note("kill %s/%d %d", c.spec.Name, c.spec.Attempt, signal)
	dies := c.state.Phase == ContainerRunning && (signal == 9 || f.onSignal(c.spec.Name, signal))
	f.mu.Unlock()
	if dies {
		f.end(id, 128+signal)
	}
	return nil
}

func (f *fakeRuntime) Remove(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.containers[id]; c != nil {
		f.note("remove %s/%d", c.spec.Name, c.spec.Attempt)
		delete(f.containers, id)
	}
	return nil
}

func (f *fakeRuntime) RemovePod(_ context.Context, uid string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, c := range f.containers {
		if c.state.Pod.UID == uid {
			delete(f.containers, id)
		}
	}
	return nil
}

func (f *fakeRuntime) List(context.Context) ([]ContainerState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []ContainerState
	for _, c := range f.containers {
		out = append(out, c.state)
	}
	return out, nil
}

func (f *fakeRuntime) State(_ context.Context, id string) (ContainerState, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	if c == nil {
		return ContainerState{}, false, nil
	}
	return c.state, true, nil
}

func (f *fakeRuntime) Follow(ctx context.Context, fn func(ContainerState)) error {
	f.mu.Lock()
	f.followers = append(f.followers, fn)
	f.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakeRuntime) Exec(_ context.Context, id string, e Exec) (int, error) {
	f.mu.Lock()
	c := f.containers[id]
	f.note("exec %s/%d %s", c.spec.Name, c.spec.Attempt, e.Args)
	execs := f.execs
	f.mu.Unlock()
	if execs == nil {
		return 0, nil
	}
	code, out := execs(c.spec.Name, e.Args)
	fmt.Fprint(e.Streams.Out, out)
	return code, nil
}

func (f *fakeRuntime) Attach(context.Context, string, Streams) error        { return nil }
func (f *fakeRuntime) Resize(context.Context, string, uint16, uint16) error { return nil }
func (f *fakeRuntime) ReopenLog(context.Context, string) error              { return nil }
func (f *fakeRuntime) LayerUsage(context.Context, string) (int64, int64, error) {
	return 8192, 2, nil
}
func (f *fakeRuntime) ImageDir() string { return "" }
func (f *fakeRuntime) Version() string  { return "containerd://2.3.7" }

// end ends a container by its ID and tells the followers.
func (f *fakeRuntime) end(id string, code int) {
	f.mu.Lock()
	c := f.containers[id]
	c.state.Phase, c.state.ExitCode, c.state.FinishedAt = ContainerExited, code, time.Now().Add(f.ahead)
	state, followers := c.state, slices.Clone(f.followers)
	f.mu.Unlock()
	for _, fn := range followers {
		fn(state)
	}
}

// exit ends the running container of that name.
func (f *fakeRuntime) exit(t *testing.T, name string, code int) {
	t.Helper()
	f.mu.Lock()
	id := ""
	for _, c := range f.containers {
		if c.spec.Name == name && c.state.Phase == ContainerRunning {
			id = c.spec.ID
		}
	}
	f.mu.Unlock()
	if id == "" {
		t.Fatalf("container %s does not run; calls: %q", name, f.taken())
	}
	f.end(id, code)
}

// taken returns the calls since the last time.
func (f *fakeRuntime) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func (f *fakeRuntime) spec(name string) Container {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.spec.Name == name {
			return c.spec
		}
	}
	return Container{}
}

// fakeImages has every image but those that fail to be pulled.
type fakeImages struct {
	mu      sync.Mutex
	absent  map[string]error // what pulling says; nil works
	image   Image
	pulls   int
	removed []string          // by ID
	mounted map[string]string // by key
}

func (f *fakeImages) Get(_ context.Context, ref string) (Image, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, absent := f.absent[ref]
	image := f.image
	image.Ref = ref
	return image, !absent, nil
}

func (f *fakeImages) Pull(_ context.Context, ref string, _ []Credential) (Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulls++
	if err := f.absent[ref]; err != nil {
		return Image{}, err
	}
	delete(f.absent, ref)
	image := f.image
	image.Ref = ref
	return image, nil
}

func (f *fakeImages) List(context.Context) ([]Image, error) { return []Image{f.image}, nil }

func (f *fakeImages) Remove(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = append(f.removed, id)
	return nil
}

func (f *fakeImages) Mount(_ context.Context, image Image, key, dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mounted == nil {
		f.mounted = map[string]string{}
	}
	f.mounted[key] = image.Ref + " at " + filepath.Base(dir)
	return nil
}

func (f *fakeImages) Unmount(_ context.Context, key, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.mounted, key)
	return nil
}

type fakeNetwork struct {
	mu       sync.Mutex
	attached map[string]string
	former   []netip.Addr // of the Pod attached last
	exposed  []string
	retained []string
	onAttach func()
}

func (f *fakeNetwork) Attach(_ context.Context, uid, ns string, former []netip.Addr) ([]netip.Addr, error) {
	if f.onAttach != nil {
		f.onAttach()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attached[uid] = ns
	f.former = former
	return []netip.Addr{netip.MustParseAddr("10.42.0.9")}, nil
}

func (f *fakeNetwork) Expose(uid string, ports []corev1.ContainerPort) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range ports {
		f.exposed = append(f.exposed, fmt.Sprintf("%s %s:%d>%d/%s", uid, p.HostIP, p.HostPort, p.ContainerPort, p.Protocol))
	}
	return nil
}

func (f *fakeNetwork) Detach(_ context.Context, uid string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.attached, uid)
	return nil
}

func (f *fakeNetwork) Retain(_ context.Context, uids []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retained = uids
	return nil
}

type fakeNamespaces struct{}

func (fakeNamespaces) Create(string) error                                  { return nil }
func (fakeNamespaces) CreateIPC(string, string) error                       { return nil }
func (fakeNamespaces) CreateUTS(string, string) error                       { return nil }
func (fakeNamespaces) Remove(string) error                                  { return nil }
func (fakeNamespaces) Spare() error                                         { return nil }
func (fakeNamespaces) CreateUser(userns.Pins, uint32, string, string) error { return nil }
func (fakeNamespaces) DialIn(ctx context.Context, _, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

type fakeRotator struct{}

func (fakeRotator) Add(string, string) {}
func (fakeRotator) Remove(string)      {}
func (fakeRotator) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// noFiles is a directory of static Pods that nobody changes.
func noFiles(ctx context.Context, _ string, _ func()) error {
	<-ctx.Done()
	return nil
}

type fakeCgroups struct{}

func (fakeCgroups) Enforce(uint64, int64) error                    { return nil }
func (fakeCgroups) Whole() (cgroup.Usage, error)                   { return cgroup.Usage{}, nil }
func (fakeCgroups) Create(cgroup.Pod) error                        { return nil }
func (fakeCgroups) Parent(p cgroup.Pod) string                     { return "kubepods/pod" + p.UID }
func (fakeCgroups) Remove(string) error                            { return nil }
func (fakeCgroups) Resize(cgroup.Pod, []cgroup.Change) error       { return nil }
func (fakeCgroups) Usage(cgroup.Pod, string) (cgroup.Usage, error) { return cgroup.Usage{}, nil }
func (fakeCgroups) Path(p cgroup.Pod, container string) string {
	return "/kubepods/pod" + p.UID + "/" + container
}
func (fakeCgroups) UIDs() ([]string, error) { return nil, nil }

// bench is a node under test: an agent on fakes, with a client whose server is
// a fake too.
type bench struct {
	*testing.T
	client   *fake.Clientset
	server   kubernetes.Interface // what the agent uses; nil: client
	labels   map[string]string    // of the Node
	runtime  *fakeRuntime
	images   *fakeImages
	network  *fakeNetwork
	host     config.Host
	time     *uplink.Time // nil: this machine's
	podCIDRs func([]netip.Prefix) error
	cgroups  Cgroups // nil: fakeCgroups
	machine  Machine // nil: this one
	victims  func(context.Context, func(oom.Victim)) error
	kubelet  config.Kubelet // zero: the defaults
	// shutdowns is used if the Kubelet says so.
	shutdowns func(ctx context.Context, wait time.Duration, changed func(bool)) error
	agent     *Agent
	stop      func()
}

// newBench makes a node's surroundings. Call it in the synctest bubble.
func newBench(t *testing.T, objects ...runtime.Object) *bench {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts volumes: needs root")
	}
	objects = append(objects, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.43.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}}},
	})
	b := &bench{
		T: t, client: fake.NewClientset(objects...), runtime: newFakeRuntime(),
		images: &fakeImages{
			absent: map[string]error{},
			image:  Image{ID: "sha256:abc", Names: []string{"hello:1"}, Entrypoint: []string{"/bin/app"}, Env: []string{"A=image"}},
		},
		labels:  map[string]string{"node-role.kubernetes.io/control-plane": ""},
		network: &fakeNetwork{attached: map[string]string{}},
		host:    config.NewHost(t.TempDir()),
		victims: func(context.Context, func(oom.Victim)) error { return nil },
	}
	b.host.RunDir = t.TempDir()
	return b
}

// start runs an agent until the test ends or stop is called.
func (b *bench) start() {
	b.Helper()
	if b.server == nil {
		b.server = b.client
	}
	if b.kubelet.Pods == (config.Pods{}) {
		b.kubelet.Pods = config.DefaultPods()
	}
	a, err := New(Config{
		Client: b.server, NodeName: "n1", NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, Host: b.host,
		Runtime: b.runtime, Images: b.images, Network: b.network,
		PodCIDRs:   b.podCIDRs,
		Ground:     Ground{Machine: b.machine, Namespaces: fakeNamespaces{}, Cgroups: cmp.Or(b.cgroups, Cgroups(fakeCgroups{})), Logs: fakeRotator{}, Watch: noFiles, Victims: b.victims, Shutdowns: b.shutdowns},
		ClusterDNS: []netip.Addr{netip.MustParseAddr("10.43.0.10")}, ClusterDomain: "cluster.local",
		Labels: b.labels, Version: "v1.36.3+skiff1", Kubelet: b.kubelet,
		Informers: informers.NewSharedInformerFactory(b.server, 0), Time: b.time, Log: zaptest.NewLogger(b.T),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	b.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				b.Errorf("agent ended with %v", err)
			}
			a.Informers.Shutdown()
			if n := a.panics.Load(); n > 0 {
				b.Errorf("%d panics were recovered", n)
			}
		})
	}
	b.Cleanup(func() { b.unmount() })
	synctest.Wait()
}

// unmount removes what a Pod that outlived its test has mounted.
func (b *bench) unmount() {
	uids, _ := b.agent.volumes.UIDs()
	for _, uid := range uids {
		if err := b.agent.volumes.Unmount(uid); err != nil {
			b.Error(err)
		}
	}
}

// create brings a Pod into the API.
func (b *bench) create(pod *corev1.Pod) {
	b.Helper()
	if _, err := b.client.CoreV1().Pods(pod.Namespace).Create(context.Background(), pod, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
}

func (b *bench) pod() *corev1.Pod {
	b.Helper()
	pod, err := b.client.CoreV1().Pods("default").Get(context.Background(), "web", metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return pod
}

func (b *bench) podGone() bool {
	_, err := b.client.CoreV1().Pods("default").Get(context.Background(), "web", metav1.GetOptions{})
	return apierrors.IsNotFound(err)
}

// delete asks for a graceful deletion, as the API server keeps it.
func (b *bench) delete(grace int64) {
	b.Helper()
	pod := b.pod()
	now := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second))
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, &grace
	if _, err := b.client.CoreV1().Pods("default").Update(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

// events are the reasons and messages so far, oldest first.
func (b *bench) events() []string {
	var out []string
	for _, action := range b.client.Actions() {
		if create, ok := action.(ktesting.CreateAction); ok && action.GetResource().Resource == "events" {
			e := create.GetObject().(*corev1.Event)
			out = append(out, e.Reason+" "+e.Message)
		}
	}
	return out
}

func (b *bench) wantEvent(text string) {
	b.Helper()
	if all := b.events(); !slices.Contains(all, text) {
		b.Errorf("no event %q among %q", text, all)
	}
}

func (b *bench) wantCalls(want ...string) {
	b.Helper()
	if got := b.runtime.taken(); !slices.Equal(got, want) {
		b.Errorf("calls of the runtime\n got %q\nwant %q", got, want)
	}
}

// webPod is a Pod of one container, "c", bound to the node.
func webPod(change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "11111111-2222-3333-4444-555555555555"},
		Spec: corev1.PodSpec{
			NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
			Containers: []corev1.Container{{
				Name: "c", Image: "hello:1", ImagePullPolicy: corev1.PullIfNotPresent, TerminationMessagePath: "/dev/termination-log",
			}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}},
	}
	for _, fn := range change {
		fn(pod)
	}
	return pod
}

func condition(pod *corev1.Pod, t corev1.PodConditionType) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == t {
			return fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message)
		}
	}
	return "none"
}
