package hostile

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/e2e/process"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/server"
)

// patience is how long a test waits for what must come, on a busy machine.
const patience = 60 * time.Second

// inProcess runs a whole control plane in this process until the test ends: store,
// API, all controllers and the scheduler, without a node. A recovered panic fails it.
func inProcess(t *testing.T) *restclient.Config {
	t.Helper()
	s := config.DefaultServer()
	s.DataDir = t.TempDir()
	s.NodeName = "box"
	s.NodeIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	s.BindAddress = netip.MustParseAddr("127.0.0.1")
	ports, err := process.FreePorts(1)
	if err == nil {
		s.HTTPSListenPort, err = strconv.Atoi(ports[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	s.DisableAgent = true
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var panics []string
	log := zap.NewNop().WithOptions(zap.WrapCore(func(zapcore.Core) zapcore.Core {
		return zapcore.RegisterHooks(listening{}, func(e zapcore.Entry) error {
			if strings.Contains(e.Message, "panic") {
				mu.Lock()
				defer mu.Unlock()
				panics = append(panics, e.Message+"\n"+e.Stack)
			}
			return nil
		})
	}), zap.AddStacktrace(zapcore.ErrorLevel))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, s, log) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the server ended: %v", err)
		}
		for _, p := range panics {
			t.Errorf("recovered: %s", p)
		}
	})
	return awaitReady(t, s.WriteKubeconfig, ended)
}

// listening is a log that writes nothing, so that its hooks see all of it.
type listening struct{}

func (listening) Enabled(l zapcore.Level) bool               { return l >= zapcore.ErrorLevel }
func (listening) With([]zapcore.Field) zapcore.Core          { return listening{} }
func (listening) Write(zapcore.Entry, []zapcore.Field) error { return nil }
func (listening) Sync() error                                { return nil }
func (l listening) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(e.Level) {
		return c.AddCore(e, l)
	}
	return c
}

func awaitReady(t *testing.T, kubeconfig string, ended chan error) *restclient.Config {
	t.Helper()
	deadline := time.After(patience)
	for {
		c, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err == nil {
			c.QPS = -1
			_, err = kubernetes.NewForConfigOrDie(c).Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context())
		}
		if err == nil {
			return c
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the server ended: %v", err)
		case <-deadline:
			t.Fatalf("the server does not become ready: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
