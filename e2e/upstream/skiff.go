package upstream

import (
	"context"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/e2e/process"
)

// Skiff is skiff's server to be started. It runs no node.
type Skiff struct {
	Executable string
	Dir        string // "": a temporary one
	// Controllers has it run its controllers and its scheduler. kube-apiserver has
	// none.
	Controllers bool
	// Arguments are added to those of skiff server, Environment to ours.
	Arguments, Environment []string
}

// Start starts skiff server and waits until it is ready.
func (k Skiff) Start(ctx context.Context) (_ *Server, err error) {
	s, err := newServer("skiff", k.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.Stop() // the first error is the one to tell
		}
	}()
	ports, err := process.FreePorts(1)
	if err != nil {
		return nil, err
	}
	// An empty file, so that this machine's own settings are not read.
	settings, data := filepath.Join(s.Dir, "config.yaml"), filepath.Join(s.Dir, "data")
	if err := os.WriteFile(settings, nil, 0o600); err != nil {
		return nil, err
	}
	arguments := []string{
		"server", "--config", settings, "--data-dir", data, "--disable-agent",
		"--node-name", "server", "--node-ip", Advertised,
		"--bind-address", "127.0.0.1", "--https-listen-port", ports[0],
		"--cluster-cidr", ClusterRange, "--service-cidr", ServiceRange, "--service-node-port-range", NodePorts,
		"--etcd-disable-snapshots", "--log-level", "warn",
	}
	if !k.Controllers {
		arguments = append(arguments, "--disable-controller-manager", "--disable-scheduler")
	}
	if err := s.launch(k.Executable, k.Environment, append(arguments, k.Arguments...)...); err != nil {
		return nil, err
	}
	if err := s.await(ctx, process.Anyone(), "https://127.0.0.1:"+ports[0]+"/readyz"); err != nil {
		return nil, err
	}
	s.Config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(data, "kubeconfig.yaml"))
	if err != nil {
		return nil, err
	}
	s.Config.QPS = -1
	return s, nil
}
