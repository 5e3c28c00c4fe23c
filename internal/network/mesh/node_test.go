package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns"
	"github.com/skiff-sh/skiff/internal/netns/netnstest"
	"github.com/skiff-sh/skiff/internal/network/pod"
)

// A node of these tests is a process of its own in a network namespace: links,
// routes and settings are those of the thread that asks. It takes orders on its
// standard input.
const nodeProcess = "SKIFF_TEST_MESH_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(nodeProcess) != "" {
		if err := runNode(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(netnstest.Main(m))
}

// quick is the usual pace, some times faster.
func quick() pace {
	return pace{
		again: 200 * time.Millisecond, tests: 3, checks: 3, idle: time.Second, sized: 2,
		pause: 300 * time.Millisecond, longest: 2 * time.Second, steady: time.Second,
		greet: 300 * time.Millisecond, linger: 300 * time.Millisecond, settle: 50 * time.Millisecond,
	}
}

// setting is what a node's process is told first.
type setting struct {
	Name, DataDir, Switch string
	PodCIDR               netip.Prefix
	Nodes                 []*corev1.Node
	Usual                 bool // at the usual pace
}

// order is what it is told then, one thing at a time.
type order struct {
	Nodes   []*corev1.Node `json:",omitempty"`
	Attach  string         `json:",omitempty"` // a Pod's namespace
	Relay   *bool          `json:",omitempty"`
	Cleanup bool           `json:",omitempty"`
}

type report struct {
	Address string
	Paths   map[string]Path
	Error   string
}

// runNode is a node's process: the Pod network and the mesh.
func runNode(in io.Reader, out io.Writer) error {
	orders, reports := json.NewDecoder(in), json.NewEncoder(out)
	var s setting
	if err := orders.Decode(&s); err != nil {
		return err
	}
	log := zap.Must(zap.Config{
		Level: zap.NewAtomicLevelAt(zapcore.InfoLevel), Encoding: "console", OutputPaths: []string{"stderr"},
		EncoderConfig: zap.NewDevelopmentEncoderConfig(), DisableStacktrace: true,
	}.Build()).Named(s.Name)
	n := &nodeInTest{host: config.NewHost(s.DataDir), client: fake.NewClientset()}
	if err := n.update(s.Nodes); err != nil {
		return err
	}
	var err error
	n.pods, err = pod.New(pod.Config{
		Host: n.host, PodCIDRs: []netip.Prefix{s.PodCIDR}, ClusterCIDRs: cidrs("10.42.0.0/16"),
		ServiceCIDRs: cidrs("10.43.0.0/16"), Log: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	if n.wire, err = dialSwitch(s.Switch, s.PodCIDR); err != nil {
		return err
	}
	defer n.wire.Close()
	n.mesh = New(Config{
		Client: n.client, NodeName: s.Name, Host: n.host, ClusterCIDRs: cidrs("10.42.0.0/16"), Log: log, Packets: n.wire,
	})
	if !s.Usual {
		n.mesh.pace = quick()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.mesh.Run(ctx) }()
	for {
		var o order
		if err := orders.Decode(&o); err != nil { // told to end
			cancel()
			return <-ended
		}
		if o.Cleanup {
			cancel()
			if err := <-ended; err != nil {
				return err
			}
			ended <- nil
		}
		if err := reports.Encode(n.obey(ctx, o)); err != nil {
			return err
		}
	}
}

type nodeInTest struct {
	host   config.Host
	client *fake.Clientset
	pods   *pod.Network
	mesh   *Mesh
	wire   *wire
}

func (n *nodeInTest) obey(ctx context.Context, o order) (r report) {
	var err error
	switch {
	case o.Nodes != nil:
		err = n.update(o.Nodes)
	case o.Attach != "":
		var addrs []netip.Addr
		if addrs, err = n.pods.Attach(ctx, o.Attach, o.Attach, nil); err == nil {
			r.Address = addrs[0].String()
		}
	case o.Relay != nil:
		n.wire.open(*o.Relay)
	case o.Cleanup:
		err = errors.Join(Cleanup(n.host), pod.Cleanup(n.host))
	}
	if err != nil {
		r.Error = err.Error()
	}
	r.Paths = n.mesh.Paths()
	return r
}

// update makes the Nodes those of the list.
func (n *nodeInTest) update(nodes []*corev1.Node) error {
	ctx, api := context.Background(), n.client.CoreV1().Nodes()
	have, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, h := range have.Items {
		known[h.Name] = true
	}
	for _, want := range nodes {
		if known[want.Name] {
			_, err = api.Update(ctx, want, metav1.UpdateOptions{})
		} else {
			_, err = api.Create(ctx, want, metav1.CreateOptions{})
		}
		if err != nil {
			return err
		}
		delete(known, want.Name)
	}
	for name := range known {
		if err := api.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// wire is a node's connection to the switch, which stands for the tunnel.
type wire struct {
	*net.UnixConn
	open func(bool) // set by Connect
}

// dialSwitch connects and says which Pods are behind the connection.
func dialSwitch(path string, podCIDR netip.Prefix) (*wire, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err == nil {
		_, err = c.Write([]byte(podCIDR.String()))
	}
	return &wire{UnixConn: c}, err
}

func (w *wire) Connect(receive func([]byte), open func(bool)) func() {
	open(true)
	w.open = open
	var reading sync.WaitGroup
	_ = w.SetReadDeadline(time.Time{})
	reading.Go(func() {
		b := make([]byte, maxPacket)
		for {
			n, err := w.Read(b)
			if err != nil {
				return
			}
			receive(b[:n])
		}
	})
	return func() {
		_ = w.SetReadDeadline(time.Unix(1, 0))
		reading.Wait()
	}
}

func (w *wire) Send(packet []byte) { _, _ = w.Write(packet) }

// packetSwitch forwards packets between nodes by their destinations.
type packetSwitch struct {
	path string
	mu   sync.Mutex // guards ports
	port map[netip.Prefix]*net.UnixConn
}

func newSwitch(t testing.TB) *packetSwitch {
	s := &packetSwitch{path: filepath.Join(t.TempDir(), "switch"), port: map[netip.Prefix]*net.UnixConn{}}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: s.path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			serving.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, c := range s.port {
			c.Close()
		}
		s.mu.Unlock()
		serving.Wait()
	})
	return s
}

func (s *packetSwitch) serve(c *net.UnixConn) {
	defer c.Close()
	b := make([]byte, maxPacket)
	n, err := c.Read(b)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.port[netip.MustParsePrefix(string(b[:n]))] = c
	s.mu.Unlock()
	for {
		n, err := c.Read(b)
		if err != nil || n == 0 {
			return
		}
		_, to, _ := ends(b[:n])
		s.mu.Lock()
		far := s.port[share(to)]
		s.mu.Unlock()
		if far != nil {
			_, _ = far.Write(b[:n])
		}
	}
}

func share(a netip.Addr) netip.Prefix {
	p, _ := a.Prefix(24)
	return p
}

// machine is a node as the test sees it.
type machine struct {
	name, address, podCIDR string
	ns, dir                string
	switchPath             string
	nodes                  []*corev1.Node
	usual                  bool

	cmd     *exec.Cmd
	orders  *json.Encoder
	reports *json.Decoder
	stdin   io.Closer
}

// start starts the node's process in its namespace.
func (m *machine) start(t testing.TB) {
	t.Helper()
	m.cmd = exec.Command("/proc/self/exe")
	m.cmd.Env = append(os.Environ(), nodeProcess+"=1")
	m.cmd.Stderr = testLog{t}
	in, err := m.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Do(m.ns, m.cmd.Start); err != nil {
		t.Fatal(err)
	}
	m.stdin, m.orders, m.reports = in, json.NewEncoder(in), json.NewDecoder(out)
	err = m.orders.Encode(setting{m.name, m.dir, m.switchPath, netip.MustParsePrefix(m.podCIDR), m.nodes, m.usual})
	if err != nil {
		t.Fatal(err)
	}
}

// stop ends the process as SIGTERM does.
func (m *machine) stop(t testing.TB) {
	t.Helper()
	if m.cmd == nil {
		return
	}
	m.stdin.Close()
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("node %s: %v", m.name, err)
	}
	m.cmd = nil
}

// kill ends it as a crash does.
func (m *machine) kill(t testing.TB) {
	t.Helper()
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
	m.cmd = nil
}

func (m *machine) tell(t testing.TB, o order) report {
	t.Helper()
	var r report
	if err := errors.Join(m.orders.Encode(o), m.reports.Decode(&r)); err != nil {
		t.Fatalf("node %s: %v", m.name, err)
	}
	if r.Error != "" {
		t.Fatalf("node %s: %s", m.name, r.Error)
	}
	return r
}

// testLog writes a node's log to the test's.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}
