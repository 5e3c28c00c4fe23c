package hollow_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/hollow"
	"github.com/skiff-sh/skiff/internal/server"
)

// plane is a control plane in this process, without a node.
type plane struct {
	settings config.Server
	client   *kubernetes.Clientset
}

func startPlane(t *testing.T) *plane {
	t.Helper()
	s := config.DefaultServer()
	s.DataDir, s.NodeName, s.DisableAgent = t.TempDir(), "box", true
	s.NodeIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	s.BindAddress = netip.MustParseAddr("127.0.0.1")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.HTTPSListenPort = listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	log := following(zapcore.InfoLevel, func(message string, _ map[string]any) {
		if message == "server started" {
			close(started)
		}
	})
	run(t, func(ctx context.Context) error { return server.Run(ctx, s, log) })
	select {
	case <-started:
	case <-time.After(20 * time.Second):
		t.Fatal("the server does not start")
	}
	c, err := clientcmd.BuildConfigFromFlags("", s.WriteKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c.QPS = -1
	p := &plane{settings: s}
	if p.client, err = kubernetes.NewForConfig(c); err != nil {
		t.Fatal(err)
	}
	return p
}

// settingsOf are those of hollow nodes of this cluster.
func (p *plane) settingsOf(t *testing.T, dir string, count int) config.Hollow {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(p.settings.DataDir, "server", "token"))
	if err != nil {
		t.Fatal(err)
	}
	h := config.DefaultHollow()
	h.Count, h.DataDir, h.Token = count, dir, strings.TrimSpace(string(token))
	h.Servers = []string{"https://127.0.0.1:" + strconv.Itoa(p.settings.HTTPSListenPort)}
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	return h
}

// startNodes runs hollow nodes until the test ends or they are stopped.
func (p *plane) startNodes(t *testing.T, dir string, count int, log *zap.Logger) (stop func()) {
	t.Helper()
	settings := p.settingsOf(t, dir, count)
	return run(t, func(ctx context.Context) error { return hollow.Run(ctx, settings, log) })
}

// run runs a part until the test ends or it is stopped.
func run(t *testing.T, part func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := part(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// await watches until there are n objects, all of them as they should be.
func await[T interface {
	runtime.Object
	metav1.Object
}](t *testing.T, open func(context.Context, metav1.ListOptions) (watch.Interface, error), n int, done func(T) bool) map[string]T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w, err := open(ctx, metav1.ListOptions{
		SendInitialEvents: new(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	all, listed := map[string]T{}, false
	for e := range w.ResultChan() {
		object, ok := e.Object.(T)
		switch {
		case e.Type == watch.Bookmark:
			listed = true
		case !ok:
			t.Fatalf("the watch says %+v", e.Object)
		case e.Type == watch.Deleted:
			delete(all, object.GetName())
		default:
			all[object.GetName()] = object
		}
		ready := 0
		for _, object := range all {
			if done(object) {
				ready++
			}
		}
		if listed && len(all) == n && ready == n {
			return all
		}
	}
	t.Fatalf("%d instead of %d: %v", len(all), n, all)
	return nil
}

// follower is a log that tells each entry with its fields.
type follower struct {
	zapcore.LevelEnabler
	with []zapcore.Field
	tell func(message string, fields map[string]any)
}

// following returns a logger that tells each entry of a level.
func following(level zapcore.Level, tell func(message string, fields map[string]any)) *zap.Logger {
	return zap.New(follower{LevelEnabler: level, tell: tell})
}

func (f follower) With(fields []zapcore.Field) zapcore.Core {
	f.with = slices.Concat(f.with, fields)
	return f
}

func (f follower) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if f.Enabled(e.Level) {
		return c.AddCore(e, f)
	}
	return c
}

func (f follower) Write(e zapcore.Entry, fields []zapcore.Field) error {
	all := zapcore.NewMapObjectEncoder()
	for _, field := range slices.Concat(f.with, fields) {
		field.AddTo(all)
	}
	f.tell(e.Message, all.Fields)
	return nil
}

func (f follower) Sync() error { return nil }
