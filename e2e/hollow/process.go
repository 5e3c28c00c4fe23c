package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/e2e/figures"
	"github.com/skiff-sh/skiff/e2e/process"
	"github.com/skiff-sh/skiff/internal/hollow"
	"github.com/skiff-sh/skiff/internal/local"
)

// url is where the server is.
const url = "https://127.0.0.1:6443"

// start runs skiff with its log in a file.
func start(skiff, log string, args ...string) (*process.Process, error) {
	return process.Start(exec.Command(skiff, args...), log)
}

// usage is what a process uses.
func usage(p *process.Process) (figures.Usage, error) { return figures.UsageOf(p.PID()) }

// server is the one under measurement.
type server struct {
	*process.Process
	dir    string
	config *rest.Config
	client *kubernetes.Clientset
}

// startServer runs a server without a node, with room for thousands.
func startServer(ctx context.Context, skiff, dir string) (*server, error) {
	s := &server{dir: filepath.Join(dir, "server")}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	return s, s.run(ctx, skiff)
}

// run runs the server's process until it is ready.
func (s *server) run(ctx context.Context, skiff string) (err error) {
	s.Process, err = start(skiff, s.dir+".log", "server", "--disable-agent", "--data-dir", s.dir,
		"--node-name", "server", "--node-ip", "192.0.2.1", "--bind-address", "127.0.0.1", "--cluster-cidr", "10.128.0.0/12")
	if err != nil {
		return err
	}
	if err := s.connect(ctx); err != nil {
		return errors.Join(err, s.Stop())
	}
	return nil
}

func (s *server) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err = s.Ready(ctx, process.Anyone(), url+"/readyz"); err != nil {
		return err
	}
	if s.config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(s.dir, "kubeconfig.yaml")); err != nil {
		return err
	}
	s.config.QPS = -1
	s.config.ContentType = "application/vnd.kubernetes.protobuf"
	s.client, err = kubernetes.NewForConfig(s.config)
	return err
}

// syncs returns how often the server has waited for its disk.
func (s *server) syncs(ctx context.Context) (float64, error) {
	text, err := s.client.RESTClient().Get().AbsPath("/metrics").SetHeader("Accept", "text/plain").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "skiff_store_syncs_total "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, errors.New("/metrics has no skiff_store_syncs_total")
}

// crowd is the process of the hollow nodes.
type crowd struct {
	*process.Process
	dir string
}

func startCrowd(skiff, dir, token string, nodes int) (*crowd, error) {
	c := &crowd{dir: filepath.Join(dir, "nodes")}
	var err error
	c.Process, err = start(skiff, filepath.Join(dir, "nodes.log"), "hollow", "--count", strconv.Itoa(nodes),
		"--server", url, "--token-file", token, "--data-dir", c.dir)
	return c, err
}

func (c *crowd) stop() error {
	if c == nil {
		return nil
	}
	return c.Stop()
}

// status is what the process says of itself.
func (c *crowd) status(ctx context.Context) (s hollow.Status, err error) {
	answer, err := local.NewClient(hollow.Socket(c.dir)).Ask(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		return s, err
	}
	defer answer.Body.Close()
	return s, json.NewDecoder(answer.Body).Decode(&s)
}
