package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/probe"
)

// hook runs a lifecycle hook of a container and waits for its end.
func (w *worker) hook(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		output, code, err := w.execOutput(ctx, id, h.Exec.Command)
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("command %q exited with %d: %s", h.Exec.Command, code, output)
		}
		return nil
	case w.Reach != nil && (h.HTTPGet != nil || h.TCPSocket != nil):
		return w.Reach(ctx, corev1.ProbeHandler{HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket})
	case h.HTTPGet != nil:
		req, err := probe.Request(ctx, h.HTTPGet, w.target(pod, c, id), "kube-lifecycle/1.36")
		if err != nil {
			return err
		}
		resp, err := probe.Client().Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode < 200 || resp.StatusCode >= 400 {
			return fmt.Errorf("HTTP hook failed with statuscode: %d", resp.StatusCode)
		}
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 10<<10))
		return err
	case h.TCPSocket != nil:
		port, err := probe.Port(h.TCPSocket.Port, c.Ports)
		if err != nil {
			return err
		}
		host := h.TCPSocket.Host
		if host == "" {
			host = w.podAddress()
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return conn.Close()
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-w.exitOf(id): // upstream wakes when the container is over
		}
	}
	return nil
}

// exitOf is closed at the end of a container; nil if it has ended before.
func (w *worker) exitOf(id string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.exits[id]
}

// execOutput runs a command and returns the beginning of what it printed.
func (w *worker) execOutput(ctx context.Context, id string, command []string) (string, int, error) {
	var out probe.Output
	locked := &lockedWriter{w: &out}
	code, err := w.Runtime.Exec(ctx, id, Exec{Args: command, Streams: Streams{Out: locked, Err: locked}})
	locked.mu.Lock()
	defer locked.mu.Unlock()
	return out.String(), code, err
}

func (w *worker) podAddress() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	box := w.standing()
	if len(box.IPs) == 0 {
		return ""
	}
	return box.IPs[0].String()
}

// target is a container as probes and hooks see it.
func (w *worker) target(_ *corev1.Pod, c *corev1.Container, id string) probe.Target {
	return probe.Target{
		Host: w.podAddress(), Ports: c.Ports, Reach: w.Reach,
		Exec: func(ctx context.Context, command []string) (string, int, error) {
			return w.execOutput(ctx, id, command)
		},
	}
}
