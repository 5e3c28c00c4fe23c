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
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/e2e/process"
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

	processes []*process.Process // in the order of their start
	owned     bool               // Dir goes with the server
}

// Stop ends the server's processes and removes its directory, where that was not
// named by the caller.
func (s *Server) Stop() error {
	var errs []error
	for i := len(s.processes) - 1; i >= 0; i-- {
		errs = append(errs, s.processes[i].Stop())
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
		pids[p.Name] = p.PID()
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

// launch starts a program, without our environment's settings, that logs to its name
// in the server's directory.
func (s *Server) launch(program string, more []string, arguments ...string) error {
	command := exec.Command(program, arguments...)
	command.Env = append(environment(), more...)
	p, err := process.Start(command, filepath.Join(s.Dir, filepath.Base(program)+".log"))
	if err != nil {
		return fmt.Errorf("start %s: %w (scripts/upstream.sh builds kube-apiserver and etcd, make build skiff)", filepath.Base(program), err)
	}
	s.processes = append(s.processes, p)
	return nil
}

// await waits until url answers OK, which the server's last process is asked for.
func (s *Server) await(ctx context.Context, web *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.processes[len(s.processes)-1].Ready(ctx, web, url)
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
