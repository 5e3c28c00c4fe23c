package agent

import (
	"context"
	"fmt"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
	"github.com/skiff-sh/skiff/internal/agent/logind"
	"github.com/skiff-sh/skiff/internal/agent/oom"
	"github.com/skiff-sh/skiff/internal/agent/static"
	"github.com/skiff-sh/skiff/internal/agent/stream"
	"github.com/skiff-sh/skiff/internal/agent/volume"
	"github.com/skiff-sh/skiff/internal/netns"
	"github.com/skiff-sh/skiff/internal/userns"
)

// Ground is the machine that an Agent works on. What of it is not set is this
// machine's own.
type Ground struct {
	Machine    Machine
	Namespaces Namespaces
	Cgroups    Cgroups
	Logs       Logs
	Disk       volume.Disk
	// Watch calls changed at once and whenever the directory of static Pods may hold
	// other ones, until the context ends.
	Watch func(ctx context.Context, dir string, changed func()) error
	// Victims calls found with every process that the kernel kills for its memory,
	// until the context ends.
	Victims func(ctx context.Context, found func(oom.Victim)) error
	// Shutdowns calls changed with true when the machine begins to go down, which waits
	// for it to return, up to that long, and with false when it does not go after all.
	// It returns when the context ends or the machine does not tell.
	Shutdowns func(ctx context.Context, wait time.Duration, changed func(goes bool)) error
	// Reach, where it is set, answers in a Pod's place what probes and hooks ask of
	// it over the network; an error is a failure.
	Reach func(context.Context, corev1.ProbeHandler) error
}

// Namespaces makes what Pods live in; package netns is the real one.
type Namespaces interface {
	// Create, CreateIPC and CreateUTS make a namespace pinned at path. One
	// that is pinned there already stays as it is. The shared memory of an IPC
	// namespace is mounted at shm.
	Create(path string) error
	CreateIPC(path, shm string) error
	CreateUTS(path, hostname string) error
	// Spare makes what the next Create and CreateIPC then need not wait for. It ends
	// with this process if nobody asks.
	Spare() error
	// CreateUser makes a user namespace with the IDs from first on, and pins it and
	// network, IPC and UTS namespaces that belong to it. The shared memory is as
	// CreateIPC's.
	CreateUser(pins userns.Pins, first uint32, hostname, shm string) error
	// Remove unpins one. A path that does not exist is no error.
	Remove(path string) error
	// DialIn connects from inside the network namespace pinned at path.
	DialIn(ctx context.Context, path, network, address string) (net.Conn, error)
}

// Cgroups are the Pods' control groups; *cgroup.Tree is the real one.
type Cgroups interface {
	// Enforce keeps all of them together to what the node has for Pods: memory up to
	// that many bytes (0: no limit), and CPU time by shares.
	Enforce(cpuShares uint64, memory int64) error
	// Whole is what all Pods use together.
	Whole() (cgroup.Usage, error)
	Create(cgroup.Pod) error
	Parent(cgroup.Pod) string
	Resize(cgroup.Pod, []cgroup.Change) error
	Remove(uid string) error
	UIDs() ([]string, error)
	// Usage is what a Pod or one of its containers uses; Path is where its cgroup
	// is below the hierarchies.
	Usage(p cgroup.Pod, container string) (cgroup.Usage, error)
	Path(p cgroup.Pod, container string) string
}

// Logs keeps logs small; *stream.Rotator is the real one.
type Logs interface {
	Add(containerID, path string)
	Remove(containerID string)
	Run(ctx context.Context) error
}

// complete sets what is not set to this machine's own.
func (g Ground) complete(c Config) (Ground, error) {
	if g.Machine == nil {
		g.Machine = hostMachine{dir: c.Host.DataDir, images: c.Runtime.ImageDir()}
	}
	if g.Namespaces == nil {
		g.Namespaces = &hostNamespaces{}
	}
	if g.Watch == nil {
		g.Watch = static.Watch
	}
	if g.Victims == nil {
		g.Victims = oom.Follow
	}
	if g.Shutdowns == nil {
		g.Shutdowns = logind.Follow
	}
	if g.Logs == nil {
		g.Logs = stream.NewRotator(stream.RotatorConfig{
			Reopen: c.Runtime.ReopenLog, Log: c.Log, MaxSize: c.Kubelet.Pods.LogSize, MaxFiles: c.Kubelet.Pods.LogFiles,
		})
	}
	if g.Cgroups == nil {
		tree, err := cgroup.Open(c.Host.CgroupRoot)
		if err != nil {
			return g, fmt.Errorf("open cgroups: %w", err)
		}
		g.Cgroups = tree
	}
	return g, nil
}

// hostNamespaces are the kernel's.
type hostNamespaces struct{ spares netns.Spares }

func (h *hostNamespaces) Create(path string) error            { return h.spares.Create(path) }
func (h *hostNamespaces) Spare() error                        { return h.spares.Fill() }
func (*hostNamespaces) CreateUTS(path, hostname string) error { return netns.CreateUTS(path, hostname) }
func (*hostNamespaces) Remove(path string) error              { return netns.Remove(path) }
func (h *hostNamespaces) CreateIPC(path, shm string) error {
	if err := h.spares.CreateIPC(path); err != nil {
		return err
	}
	return volume.Tmpfs(shm, shmSize)
}
func (*hostNamespaces) CreateUser(pins userns.Pins, first uint32, hostname, shm string) error {
	if err := userns.Create(pins, first, hostname); err != nil {
		return err
	}
	return volume.Tmpfs(shm, shmSize)
}
func (*hostNamespaces) DialIn(ctx context.Context, path, network, address string) (net.Conn, error) {
	return netns.DialIn(ctx, path, network, address)
}
