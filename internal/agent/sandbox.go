package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/volume"
)

// sandbox is what surrounds a Pod's containers: namespaces, addresses, cgroup
// and volumes.
type sandbox struct {
	Ready   bool
	Stale   bool // taken over from an earlier run of the agent, to be set up again underneath
	IPs     []netip.Addr
	Volumes map[string]string // path on the host, by volume
	Handler string            // what runs the Pod, "" for the default
	RetryAt time.Time
}

// shmSize is what containerd gives a Pod's shared memory.
const shmSize = 64 << 20

// setUpTimeout bounds one attempt: a ConfigMap that does not come is told of.
const setUpTimeout = 2 * time.Minute

func (a *Agent) podDir(uid string) string  { return filepath.Join(a.Host.DataDir, "agent", "pods", uid) }
func (a *Agent) netPin(uid string) string  { return filepath.Join(a.Host.RunDir, "netns", uid) }
func (a *Agent) ipcPin(uid string) string  { return filepath.Join(a.Host.RunDir, "ipcns", uid) }
func (a *Agent) utsPin(uid string) string  { return filepath.Join(a.Host.RunDir, "utsns", uid) }
func (a *Agent) userPin(uid string) string { return filepath.Join(a.Host.RunDir, "userns", uid) }
func (a *Agent) boxMark(uid string) string { return filepath.Join(a.Host.RunDir, "pods", uid) }

// boxStands says whether the Pod's sandbox was set up since the machine
// started: its mark lies where nothing survives a reboot.
func (a *Agent) boxStands(uid string) bool {
	_, err := os.Stat(a.boxMark(uid))
	return err == nil
}

// mountError is a failure of a volume, which has an event of its own.
type mountError struct{ error }

func (e mountError) Unwrap() error { return e.error }

// setUp makes a Pod's sandbox, or completes what is there of it.
func (a *Agent) setUp(ctx context.Context, pod *corev1.Pod) (sandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTimeout)
	defer cancel()
	var box sandbox
	uid := string(pod.UID)
	if err := os.MkdirAll(a.podDir(uid), 0o750); err != nil {
		return box, fmt.Errorf("make pod directory: %w", err)
	}
	var err error
	if box.Handler, err = a.runtimeHandler(ctx, pod); err != nil {
		return box, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if box.Volumes, err = a.volumes.Mount(ctx, pod); err != nil {
			return mountError{err}
		}
		return nil
	})
	g.Go(func() error { return a.Cgroups.Create(podCgroup(pod)) })
	g.Go(func() (err error) {
		box.IPs, err = a.setUpNamespaces(ctx, pod)
		return err
	})
	if err := g.Wait(); err != nil {
		return box, err
	}
	if err := a.writeHostFiles(pod, box.IPs); err != nil {
		return box, err
	}
	if err := volume.WriteIfChanged(a.boxMark(uid), []byte(box.Handler), 0o600); err != nil {
		return box, fmt.Errorf("mark sandbox: %w", err)
	}
	box.Ready = true
	return box, nil
}

func (a *Agent) setUpNamespaces(ctx context.Context, pod *corev1.Pod) ([]netip.Addr, error) {
	if ownUsers(pod) {
		if err := a.setUpUsers(pod); err != nil {
			return nil, err
		}
		return a.setUpNetwork(ctx, pod)
	}
	uid := string(pod.UID)
	if !pod.Spec.HostIPC {
		if err := a.Namespaces.CreateIPC(a.ipcPin(uid), filepath.Join(a.podDir(uid), "shm")); err != nil {
			return nil, err
		}
	}
	if pod.Spec.HostNetwork {
		return a.nodeIPs(), nil
	}
	hostname, err := kernelHostname(pod, a.ClusterDomain)
	if err != nil {
		return nil, err
	}
	if err := a.Namespaces.CreateUTS(a.utsPin(uid), hostname); err != nil {
		return nil, err
	}
	if err := a.Namespaces.Create(a.netPin(uid)); err != nil {
		return nil, err
	}
	return a.setUpNetwork(ctx, pod)
}

// setUpNetwork connects the Pod's network namespace.
func (a *Agent) setUpNetwork(ctx context.Context, pod *corev1.Pod) ([]netip.Addr, error) {
	uid := string(pod.UID)
	ips, err := a.Network.Attach(ctx, uid, a.netPin(uid), reportedIPs(pod))
	if err != nil {
		return nil, fmt.Errorf("attach to the network: %w", err)
	}
	if len(ips) == 0 {
		return nil, errors.New("attach to the network: the Pod got no address")
	}
	if err := a.Network.Expose(uid, hostPorts(pod)); err != nil {
		return nil, fmt.Errorf("attach to the network: %w", err)
	}
	return ips, nil
}

// reportedIPs are the addresses that the API has of a Pod.
func reportedIPs(pod *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	for _, ip := range pod.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			out = append(out, addr)
		}
	}
	return out
}

// tearDown removes everything of a Pod but its logs. It is idempotent and goes
// on past what fails.
func (a *Agent) tearDown(ctx context.Context, uid string) error {
	errs := []error{a.Runtime.RemovePod(ctx, uid), a.Network.Detach(ctx, uid)}
	for _, pin := range []string{a.netPin(uid), a.ipcPin(uid), a.utsPin(uid), a.userPin(uid)} {
		errs = append(errs, a.Namespaces.Remove(pin))
	}
	if err := a.removeImageVolumes(ctx, uid); err != nil {
		errs = append(errs, err) // the next attempt must find what to unmount
	} else {
		errs = append(errs, a.volumes.Unmount(uid))
	}
	errs = append(errs, a.Cgroups.Remove(uid))
	if err := os.Remove(a.boxMark(uid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	a.users.Free(uid)
	a.objects.Release(uid)
	return errors.Join(errs...)
}
