package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// cluster is a server of Pods that answers watches the way ours does, and can
// be away.
type cluster struct {
	*testing.T

	mu       sync.Mutex
	down     error // what asking it says; nil: it answers
	silent   bool  // asking it says nothing
	polite   bool  // when it goes, it ends its watches first
	code     int   // answered to everything, where it is not 0
	revision int
	oldest   int // watches from before are told to begin anew
	pods     map[string]*corev1.Pod
	watches  map[*io.PipeWriter]bool
	asked    []string // the watches, since taken
	tokens   int
	padding  int // of tokens
}

var errDown = errors.New("connection refused")

func newCluster(t *testing.T) *cluster {
	return &cluster{T: t, revision: 10, pods: map[string]*corev1.Pod{}, watches: map[*io.PipeWriter]bool{}}
}

// RoundTrip implements http.RoundTripper.
func (s *cluster) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Query().Get("watch") != "" {
		s.asked = append(s.asked, "from "+r.URL.Query().Get("resourceVersion"))
	}
	switch {
	case s.silent:
		s.mu.Unlock()
		<-r.Context().Done()
		s.mu.Lock()
		return nil, r.Context().Err()
	case s.down != nil:
		return nil, s.down
	case s.code != 0:
		return answer(r, s.code, "text/plain", io.NopCloser(strings.NewReader(""))), nil
	case r.Method == http.MethodPost:
		return s.giveToken(r)
	case r.URL.Path == "/livez":
		return answer(r, http.StatusOK, "text/plain", io.NopCloser(strings.NewReader("ok"))), nil
	}
	body, to := io.Pipe()
	text := s.begin(r)
	s.watches[to] = true
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		_, _ = to.Write(text) // a client that has gone does not read
	}()
	return answer(r, http.StatusOK, watchProtobuf, body), nil
}

// begin is what a watch is told first; s.mu is held.
func (s *cluster) begin(r *http.Request) []byte {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	var text []byte
	if !wantsInitial(r) && from < s.oldest {
		status := metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: http.StatusGone}
		return s.event(text, watch.Error, "Status", &status)
	}
	for _, name := range slices.Sorted(maps.Keys(s.pods)) {
		pod := s.pods[name]
		at, _ := strconv.Atoi(pod.ResourceVersion)
		if wantsInitial(r) || at > from {
			text = s.event(text, watch.Added, "Pod", pod)
		}
	}
	if wantsInitial(r) {
		mark := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			ResourceVersion: strconv.Itoa(s.revision),
			Annotations:     map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		}}
		text = s.event(text, watch.Bookmark, "Pod", mark)
	}
	return text
}

func (s *cluster) event(to []byte, t watch.EventType, kind string, object message) []byte {
	raw, err := object.Marshal()
	if err != nil {
		s.Error(err)
	}
	to, err = appendEvent(to, t, runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: kind}, Raw: raw})
	if err != nil {
		s.Error(err)
	}
	return to
}

// tell sends an event to all watches.
func (s *cluster) tell(t watch.EventType, pod *corev1.Pod) {
	s.mu.Lock()
	text := s.event(nil, t, "Pod", pod)
	all := slices.Collect(maps.Keys(s.watches))
	s.mu.Unlock()
	for _, to := range all {
		_, _ = to.Write(text) // some clients have gone
	}
}

func (s *cluster) put(name string, change ...func(*corev1.Pod)) {
	s.mu.Lock()
	s.revision++
	pod, is := s.pods[name]
	if is {
		pod = pod.DeepCopy()
	} else {
		pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid-of-" + "x"}}
	}
	for _, fn := range change {
		fn(pod)
	}
	pod.ResourceVersion = strconv.Itoa(s.revision)
	s.pods[name] = pod
	s.mu.Unlock()
	if is {
		s.tell(watch.Modified, pod)
	} else {
		s.tell(watch.Added, pod)
	}
	synctest.Wait()
}

func (s *cluster) remove(name string) {
	s.mu.Lock()
	s.revision++
	pod := s.pods[name].DeepCopy()
	pod.ResourceVersion = strconv.Itoa(s.revision)
	delete(s.pods, name)
	s.mu.Unlock()
	s.tell(watch.Deleted, pod)
	synctest.Wait()
}

// leave ends all connections and answers no more.
func (s *cluster) leave() {
	s.mu.Lock()
	s.down = errDown
	all := s.watches
	s.watches = map[*io.PipeWriter]bool{}
	s.mu.Unlock()
	end := errors.New("connection reset by peer")
	if s.polite {
		end = io.EOF
	}
	for to := range all {
		_ = to.CloseWithError(end)
	}
	synctest.Wait()
}

func (s *cluster) come() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down, s.silent, s.code = nil, false, 0
}

// taken returns the watches that were begun since the last time.
func (s *cluster) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *cluster) giveToken(r *http.Request) (*http.Response, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	request, wrapped, err := decodeToken(text)
	if err != nil {
		return nil, err
	}
	s.tokens++
	request.Status.Token = "token " + strconv.Itoa(s.tokens) + strings.Repeat("x", s.padding)
	if wrapped.Raw, err = request.Marshal(); err != nil {
		return nil, err
	}
	if text, err = encodeObject(wrapped); err != nil {
		return nil, err
	}
	return answer(r, http.StatusCreated, mediaProtobuf, io.NopCloser(bytes.NewReader(text))), nil
}

// box is a node under test: a Checkpoint, and a client behind it.
type box struct {
	*testing.T
	path   string
	server *cluster
	c      *Checkpoint
	client kubernetes.Interface
	ctx    context.Context
	told   int    // how often caches heard of a Pod
	stop   func() // the node's end
	cut    func() // the power's
}

// start starts a node at a path. Call it in a bubble.
func start(t *testing.T, s *cluster, path string) *box {
	t.Helper()
	b := &box{T: t, path: path, server: s}
	b.c = Open(Config{Path: path, Cluster: "here", Next: s, Log: zaptest.NewLogger(t)})
	var err error
	b.client, err = kubernetes.NewForConfig(&rest.Config{
		Host: "https://server:6443", Transport: b.c, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: mediaProtobuf, AcceptContentTypes: mediaProtobuf + ",application/json"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	b.ctx = ctx
	ended := make(chan error, 1)
	go func() { ended <- b.c.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := b.c.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
	b.stop = end
	b.cut = func() {
		text := readFile(t, path)
		end()
		writeFile(t, path, text)
	}
	t.Cleanup(end)
	return b
}

// follow keeps a cache of Pods, as every part of a node does.
func (b *box) follow() (cache.Store, cache.Controller) {
	b.Helper()
	lw := cache.NewListWatchFromClient(b.client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, fields.Everything())
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(lw, b.client), ObjectType: &corev1.Pod{}, Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { b.told++ },
			UpdateFunc: func(_, _ any) { b.told++ },
			DeleteFunc: func(any) { b.told++ },
		},
	})
	go controller.RunWithContext(b.ctx)
	synctest.Wait()
	return store, controller
}

// wantPods checks which Pods a cache has.
func (b *box) wantPods(store cache.Store, want ...string) {
	b.Helper()
	got := store.ListKeys()
	slices.Sort(got)
	for i := range got {
		got[i] = strings.TrimPrefix(got[i], "default/")
	}
	if !slices.Equal(got, want) {
		b.Errorf("the cache has %q, want %q", got, want)
	}
}

func somewhere(t *testing.T) string { return filepath.Join(t.TempDir(), "agent", "checkpoint") }
