package agent

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/skiff-sh/skiff/internal/agent/stream"
)

// backend does what exec, attach and port-forward requests ask for.
type backend struct{ *Agent }

// running returns the ID of a running container.
func (b backend) running(c stream.Container) (*worker, string, error) {
	w := b.workerOf(c.Namespace, c.Pod)
	if w == nil {
		return nil, "", fmt.Errorf("pod does not exist")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.records[c.Name]
	if r == nil || !r.Current.running() {
		return nil, "", fmt.Errorf("container not found (%q)", c.Name)
	}
	return w, r.Current.ID, nil
}

// Exec implements stream.Backend.
func (b backend) Exec(ctx context.Context, c stream.Container, command []string, s stream.Session) (int, error) {
	_, id, err := b.running(c)
	if err != nil {
		return 0, err
	}
	return b.Runtime.Exec(ctx, id, Exec{
		Args: command, TTY: s.TTY, Resize: s.Resize,
		Streams: Streams{In: s.Stdin, Out: s.Stdout, Err: s.Stderr},
	})
}

// Attach implements stream.Backend.
func (b backend) Attach(ctx context.Context, c stream.Container, s stream.Session) error {
	w, id, err := b.running(c)
	if err != nil {
		return err
	}
	w.mu.Lock()
	spec := findContainer(w.pod, c.Name)
	w.mu.Unlock()
	if s.TTY && !spec.TTY {
		return fmt.Errorf("Unable to use a TTY - container %s did not allocate one", c.Name)
	}
	if !spec.Stdin {
		s.Stdin = nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resized := make(chan struct{})
	go func() {
		defer close(resized)
		for s.Resize != nil {
			select {
			case <-ctx.Done():
				return
			case size, ok := <-s.Resize:
				if !ok {
					return
				}
				_ = b.Runtime.Resize(ctx, id, size[0], size[1]) // a wrong size is no reason to end
			}
		}
	}()
	err = b.Runtime.Attach(ctx, id, Streams{In: s.Stdin, Out: s.Stdout, Err: s.Stderr})
	cancel()
	<-resized
	return err
}

// Dial implements stream.Backend: it connects to the Pod's own loopback.
func (b backend) Dial(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
	w := b.workerOf(namespace, pod)
	if w == nil {
		return nil, fmt.Errorf("pod does not exist")
	}
	w.mu.Lock()
	spec, ready := w.pod.Spec, w.box.Ready
	w.mu.Unlock()
	if !ready {
		return nil, fmt.Errorf("pod is not running")
	}
	var err error
	for _, host := range []string{"127.0.0.1", "::1"} {
		address := net.JoinHostPort(host, strconv.Itoa(port))
		var conn net.Conn
		if spec.HostNetwork {
			var d net.Dialer
			conn, err = d.DialContext(ctx, "tcp", address)
		} else {
			conn, err = b.Namespaces.DialIn(ctx, b.netPin(w.uid), "tcp", address)
		}
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}
