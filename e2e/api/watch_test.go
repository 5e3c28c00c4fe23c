package api

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"v": value}}, Data: map[string]string{"v": value}}
}

// next returns the next event, bookmarks excepted unless wanted.
func next(t *testing.T, w watch.Interface, bookmarks bool) watch.Event {
	t.Helper()
	for {
		select {
		case event, ok := <-w.ResultChan():
			if !ok {
				t.Fatal("the watch ended")
			}
			if event.Type != watch.Bookmark || bookmarks {
				return event
			}
		case <-time.After(patience):
			t.Fatal("no event came")
		}
	}
}

func revisionOf(t *testing.T, text string) int64 {
	t.Helper()
	return must(strconv.ParseInt(text, 10, 64))(t)
}

// A watch gives what happened after its resourceVersion, in order, in JSON and
// in protobuf.
func TestWatchFromResourceVersion(t *testing.T) {
	p := start(t, nil)
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(contentType, func(t *testing.T) {
			config := p.admin()
			config.ContentType, config.AcceptContentTypes = contentType, contentType
			maps := must(kubernetes.NewForConfig(config))(t).CoreV1().ConfigMaps("default")
			name := "w-" + strconv.Itoa(len(contentType))
			first := must(maps.Create(t.Context(), configMap(name, "1"), metav1.CreateOptions{}))(t)
			must(maps.Update(t.Context(), configMap(name, "2"), metav1.UpdateOptions{}))(t)
			w := must(maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: first.ResourceVersion}))(t)
			defer w.Stop()
			if event := next(t, w, false); event.Type != watch.Modified || event.Object.(*corev1.ConfigMap).Data["v"] != "2" {
				t.Errorf("first event: %s %v", event.Type, event.Object)
			}
			if err := maps.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			event := next(t, w, false)
			gone := event.Object.(*corev1.ConfigMap)
			if event.Type != watch.Deleted || gone.Data["v"] != "2" || revisionOf(t, gone.ResourceVersion) <= revisionOf(t, first.ResourceVersion) {
				t.Errorf("last event: %s %v", event.Type, event.Object)
			}
		})
	}
}

// An object that enters or leaves a selection is added or deleted for whoever
// watches the selection.
func TestWatchOfSelection(t *testing.T) {
	p := start(t, nil)
	maps := p.client().CoreV1().ConfigMaps("default")
	w := must(maps.Watch(t.Context(), metav1.ListOptions{LabelSelector: "v=2"}))(t)
	defer w.Stop()
	must(maps.Create(t.Context(), configMap("a", "1"), metav1.CreateOptions{}))(t)
	for i, want := range []watch.EventType{watch.Added, watch.Deleted} {
		must(maps.Update(t.Context(), configMap("a", strconv.Itoa(i+2)), metav1.UpdateOptions{}))(t)
		if event := next(t, w, false); event.Type != want {
			t.Errorf("event %d: %s, want %s", i, event.Type, want)
		}
	}
}

func TestWatchList(t *testing.T) {
	p := start(t, nil)
	maps := p.client().CoreV1().ConfigMaps("default")
	must(maps.Create(t.Context(), configMap("a", "1"), metav1.CreateOptions{}))(t)
	yes := true
	w := must(maps.Watch(t.Context(), metav1.ListOptions{
		SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true,
	}))(t)
	defer w.Stop()
	if event := next(t, w, true); event.Type != watch.Added {
		t.Errorf("first event: %s", event.Type)
	}
	mark := next(t, w, true)
	obj, ok := mark.Object.(*corev1.ConfigMap)
	if mark.Type != watch.Bookmark || !ok || obj.Annotations[metav1.InitialEventsAnnotationKey] != "true" || obj.ResourceVersion == "" {
		t.Errorf("the initial events end with %s %v", mark.Type, mark.Object)
	}
}

func TestWatchEndsInTime(t *testing.T) {
	p := start(t, nil)
	one := int64(1)
	w := must(p.client().CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{TimeoutSeconds: &one}))(t)
	defer w.Stop()
	select {
	case event, ok := <-w.ResultChan():
		if ok {
			t.Errorf("got %s", event.Type)
		}
	case <-time.After(patience):
		t.Error("the watch goes on")
	}
}

// A watch from before a crash, or from a version that is no longer known,
// is told so in the stream, with 410.
func TestWatchOfLostVersionExpires(t *testing.T) {
	p := start(t, nil)
	maps := p.client().CoreV1().ConfigMaps("default")
	old := must(maps.Create(t.Context(), configMap("a", "1"), metav1.CreateOptions{}))(t)
	must(maps.Create(t.Context(), configMap("b", "1"), metav1.CreateOptions{}))(t)
	p.crash()
	w := must(p.client().CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: old.ResourceVersion}))(t)
	defer w.Stop()
	event := next(t, w, false)
	if err := apierrors.FromObject(event.Object); event.Type != watch.Error || !apierrors.IsResourceExpired(err) {
		t.Errorf("got %s %v", event.Type, event.Object)
	}
}

// Informers see everything, through the server's crash too.
func TestInformerSurvivesCrash(t *testing.T) {
	p := start(t, nil)
	factory := informers.NewSharedInformerFactory(p.client(), 0)
	informer := factory.Core().V1().ConfigMaps().Informer()
	seen := make(chan string, 100)
	must(informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { seen <- "+" + obj.(*corev1.ConfigMap).Name },
		UpdateFunc: func(_, obj any) { seen <- "~" + obj.(*corev1.ConfigMap).Name },
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			seen <- "-" + obj.(*corev1.ConfigMap).Name
		},
	}))(t)
	ctx, cancel := context.WithCancel(t.Context())
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("no sync")
	}
	expect := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-seen:
				if got == want {
					return
				}
			case <-time.After(patience):
				t.Fatalf("%s was never seen", want)
			}
		}
	}
	maps := p.client().CoreV1().ConfigMaps("default")
	must(maps.Create(t.Context(), configMap("a", "1"), metav1.CreateOptions{}))(t)
	expect("+a")
	p.crash()
	maps = p.client().CoreV1().ConfigMaps("default")
	must(maps.Update(t.Context(), configMap("a", "2"), metav1.UpdateOptions{}))(t)
	must(maps.Create(t.Context(), configMap("b", "1"), metav1.CreateOptions{}))(t)
	expect("+b")
	if err := maps.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("-a")
}

// Two who change the same object at once both get through with client-go's
// retry, and neither's change is lost.
func TestConflictsAreRetried(t *testing.T) {
	p := start(t, nil)
	maps := p.client().CoreV1().ConfigMaps("default")
	must(maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"n": "0"}}, metav1.CreateOptions{}))(t)
	done := make(chan error)
	const writers, each = 4, 10
	for range writers {
		go func() {
			for range each {
				backoff := retry.DefaultBackoff
				backoff.Steps, backoff.Factor = 200, 1
				err := retry.RetryOnConflict(backoff, func() error {
					obj, err := maps.Get(t.Context(), "a", metav1.GetOptions{})
					if err != nil {
						return err
					}
					n, err := strconv.Atoi(obj.Data["n"])
					if err != nil {
						return err
					}
					obj.Data["n"] = strconv.Itoa(n + 1)
					_, err = maps.Update(t.Context(), obj, metav1.UpdateOptions{})
					return err
				})
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := must(maps.Get(t.Context(), "a", metav1.GetOptions{}))(t).Data["n"]; got != strconv.Itoa(writers*each) {
		t.Errorf("%s of %d changes are there", got, writers*each)
	}
}

// Closing the handler ends watches at once and cleanly.
func TestShutdownEndsWatches(t *testing.T) {
	p := start(t, nil)
	w := must(p.client().CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{}))(t)
	defer w.Stop()
	p.handler.Close()
	select {
	case event, ok := <-w.ResultChan():
		if ok {
			t.Errorf("got %s %v", event.Type, event.Object)
		}
	case <-time.After(patience):
		t.Error("the watch goes on")
	}
	if code, body, _ := call(t, p.admin(), "GET", "/readyz", "", nil); code != 500 || !strings.Contains(body, "[-]shutdown failed") {
		t.Errorf("readyz: %d %s", code, body)
	}
}

func TestPaging(t *testing.T) {
	p := start(t, nil)
	maps := p.client().CoreV1().ConfigMaps("default")
	for i := range 5 {
		must(maps.Create(t.Context(), configMap("m"+strconv.Itoa(i), "1"), metav1.CreateOptions{}))(t)
	}
	page := must(maps.List(t.Context(), metav1.ListOptions{Limit: 2}))(t)
	if page.RemainingItemCount == nil || *page.RemainingItemCount != 3 || page.Continue == "" {
		t.Fatalf("first page: %+v", page.ListMeta)
	}
	must(maps.Create(t.Context(), configMap("m9", "1"), metav1.CreateOptions{}))(t)
	rest := must(maps.List(t.Context(), metav1.ListOptions{Continue: page.Continue}))(t)
	if len(rest.Items) != 3 || rest.ResourceVersion != page.ResourceVersion {
		t.Errorf("the rest: %d items at %s, first page at %s", len(rest.Items), rest.ResourceVersion, page.ResourceVersion)
	}
}

// Pages in a browser watch over WebSocket: a message for each event.
func TestWatchOverWebSocket(t *testing.T) {
	p := start(t, nil)
	maps := p.client().CoreV1().ConfigMaps("default")
	must(maps.Create(t.Context(), configMap("a", "1"), metav1.CreateOptions{}))(t)
	config := must(restclient.TLSConfigFor(p.admin()))(t)
	dialer := websocket.Dialer{TLSClientConfig: config}
	connection, _, err := dialer.DialContext(t.Context(), "wss://"+p.address+"/api/v1/namespaces/default/configmaps?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	must[any](nil, connection.SetReadDeadline(time.Now().Add(patience)))(t)
	expect := func(want, value string) {
		t.Helper()
		var event struct {
			Type   string
			Object corev1.ConfigMap
		}
		if err := connection.ReadJSON(&event); err != nil {
			t.Fatal(err)
		}
		if event.Type != want || event.Object.Data["v"] != value {
			t.Errorf("%s %v, want %s", event.Type, event.Object.Data, want)
		}
	}
	expect("ADDED", "1")
	must(maps.Update(t.Context(), configMap("a", "2"), metav1.UpdateOptions{}))(t)
	expect("MODIFIED", "2")
	p.handler.Close()
	if _, _, err := connection.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("the watch ends with %v", err)
	}
}
