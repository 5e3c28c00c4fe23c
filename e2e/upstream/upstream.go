// Package upstream starts the servers that are compared with each other: upstream's
// kube-apiserver with an etcd of its own, and skiff, set alike, each on loopback with
// an empty store and keys of its own.
//
// A Server is one that answers /readyz; its Config is an administrator's. The
// invariant: what a Start function has begun, Stop ends and removes, and so does
// Start itself where it fails. The package compares nothing and measures nothing.
//
// Upstream's server runs with its default feature gates and API groups and with
// RBAC, and with the admission plugins that are on by default, and NodeRestriction,
// but for those whose objects skiff does not serve: quotas, limits, runtime classes,
// webhooks, policies, and pod security.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
)

// What both servers are told.
const (
	ServiceRange = "10.43.0.0/16"
	ClusterRange = "10.42.0.0/16"
	NodePorts    = "30000-32767"
	Issuer       = "https://kubernetes.default.svc.cluster.local"
	// Advertised is where Pods would find the servers: no loopback address may be
	// an endpoint, and nobody calls there.
	Advertised = "192.0.2.1"
)

// patience is how long a server may take until it is ready. Upstream's first start
// makes some hundred objects, on a machine that may do other things meanwhile.
const patience = 3 * time.Minute

// Server is one that is ready.
type Server struct {
	Name   string
	Config *rest.Config // of an administrator; no limit on requests
	Dir    string       // all that it writes, its logs among it

	processes []*process // in the order of their start
	owned     bool       // Dir goes with the server
}

// Stop ends the server's processes and removes its directory, where that was not
// named by the caller.
func (s *Server) Stop() error {
	var errs []error
	for i := len(s.processes) - 1; i >= 0; i-- {
		errs = append(errs, s.processes[i].end())
	}
	s.processes = nil
	if s.owned {
		errs = append(errs, os.RemoveAll(s.Dir))
	}
	return errors.Join(errs...)
}

// PIDs returns the processes by name: "skiff", or "etcd" and "kube-apiserver".
func (s *Server) PIDs() map[string]int {
	pids := map[string]int{}
	for _, p := range s.processes {
		pids[p.name] = p.command.Process.Pid
	}
	return pids
}

// newServer makes the directory: dir, or a new one that goes with the server.
func newServer(name, dir string) (*Server, error) {
	if dir != "" {
		return &Server{Name: name, Dir: dir}, os.MkdirAll(dir, 0o700)
	}
	dir, err := os.MkdirTemp("", "skiff-"+name+"-")
	return &Server{Name: name, Dir: dir, owned: true}, err
}

// launch starts a program that logs to its name in the server's directory.
func (s *Server) launch(program string, environment []string, arguments ...string) error {
	p, err := start(filepath.Join(s.Dir, filepath.Base(program)+".log"), program, environment, arguments)
	if err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return nil
}

// anyone is a client that takes every certificate: whether a server is ready
// matters, not who says so.
func anyone() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}
}

// await waits until url answers OK. The server's last process is the one that is
// asked: its end is the end of waiting.
func (s *Server) await(ctx context.Context, web *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p := s.processes[len(s.processes)-1]
	for {
		if answers(ctx, web, url) {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready; the end of its log:\n%s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer at %s: %w; the end of its log:\n%s", p.name, url, ctx.Err(), p.tail())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context, web *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := web.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// freePorts returns ports of loopback that nobody listens on.
func freePorts(n int) ([]string, error) {
	ports := make([]string, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() // after all are chosen, so that they differ
		ports[i] = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// process is one that was started here.
type process struct {
	name    string
	command *exec.Cmd
	log     string
	waiting sync.WaitGroup
	ended   chan struct{} // closed when it has
}

// start starts a program without the environment's settings. It dies with this
// process, however that ends.
func start(log, program string, more, arguments []string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &process{name: filepath.Base(program), log: log, ended: make(chan struct{}), command: exec.Command(program, arguments...)}
	p.command.Env = append(environment(), more...)
	p.command.Stdout, p.command.Stderr = file, file
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w (scripts/upstream.sh builds kube-apiserver and etcd, make build skiff)", p.name, err)
	}
	p.waiting.Go(p.wait)
	return p, nil
}

func (p *process) wait() {
	_ = p.command.Wait() // how it ended is in its log
	close(p.ended)
}

// environment is ours without what the programs would take for settings.
func environment() []string {
	var kept []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "SKIFF_") && !strings.HasPrefix(e, "ETCD_") && !strings.HasPrefix(e, "KUBE") {
			kept = append(kept, e)
		}
	}
	return kept
}

// end asks the process to end, and kills it where it does not.
func (p *process) end() error {
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	p.waiting.Wait()
	return nil
}

// tail returns the end of the process's log.
func (p *process) tail() []byte {
	text, _ := os.ReadFile(p.log)
	return text[max(0, len(text)-4000):]
}
