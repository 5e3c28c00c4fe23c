package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/figures"
	"github.com/skiff-sh/skiff/internal/hollow"
	"github.com/skiff-sh/skiff/internal/local"
)

// url is where the server is.
const url = "https://127.0.0.1:6443"

// process is a skiff that runs.
type process struct {
	*exec.Cmd
	log string
}

// start runs skiff with its log in a file.
func start(skiff, log string, args ...string) (*process, error) {
	p := &process{Cmd: exec.Command(skiff, args...), log: log}
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p.Stdout, p.Stderr = file, file
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return p, p.Start()
}

// stop asks the process to end and waits for that. It may be called again, and of
// none.
func (p *process) stop() error {
	if p == nil || p.ProcessState != nil {
		return nil
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := p.Wait(); err != nil {
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s: %w; the end of its log:\n%s", p.Args[1], err, text[max(0, len(text)-4000):])
	}
	return nil
}

func (p *process) usage() (figures.Usage, error) { return figures.UsageOf(p.Process.Pid) }

// server is the one under measurement.
type server struct {
	*process
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
	s.process, err = start(skiff, s.dir+".log", "server", "--disable-agent", "--data-dir", s.dir,
		"--node-name", "server", "--node-ip", "192.0.2.1", "--bind-address", "127.0.0.1", "--cluster-cidr", "10.128.0.0/12")
	if err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return errors.Join(err, s.stop())
	}
	return nil
}

func (s *server) ready(ctx context.Context) error {
	web := http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // that it answers matters, not who it is
		DisableKeepAlives: true,
	}}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := await.Try(ctx, func() error {
		answer, err := web.Get(url + "/readyz")
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
	if err != nil {
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
	*process
	dir string
}

func startCrowd(skiff, dir, token string, nodes int) (*crowd, error) {
	c := &crowd{dir: filepath.Join(dir, "nodes")}
	var err error
	c.process, err = start(skiff, filepath.Join(dir, "nodes.log"), "hollow", "--count", strconv.Itoa(nodes),
		"--server", url, "--token-file", token, "--data-dir", c.dir)
	return c, err
}

func (c *crowd) stop() error {
	if c == nil {
		return nil
	}
	return c.process.stop()
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
