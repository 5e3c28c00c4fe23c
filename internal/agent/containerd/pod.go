package containerd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// shutdownTimeout is how long a shim may take to end before it is killed.
const shutdownTimeout = 5 * time.Second

// errShimGone says that a Pod's shim does not run.
var errShimGone = errors.New("the Pod's shim does not run")

// pod is the connection to one Pod's shim.
type pod struct {
	dir    string
	client *ttrpc.Client
	tasks  task.TTRPCTaskService
	gone   chan struct{} // closed when the connection is
}

// errClosed says that there is no runtime any more.
var errClosed = errors.New("the container runtime is closed")

// pod returns the connection to a Pod's shim, which is started if start is set
// and it does not run.
func (r *Runtime) pod(uid string, start bool) (*pod, error) {
	p, err := r.runningPod(uid)
	if err == nil || !start || !errors.Is(err, errShimGone) {
		return p, err
	}
	// A process begins slowly: other Pods' matters do not wait for it, and this Pod's
	// other containers wait for the same one.
	started, err, _ := r.starts.Do(uid, func() (any, error) { return r.startPod(uid) })
	if err != nil {
		return nil, err
	}
	return started.(*pod), nil
}

// runningPod returns the connection to a Pod's shim that runs.
func (r *Runtime) runningPod(uid string) (*pod, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	if p, ok := r.pods[uid]; ok && p.alive() {
		return p, nil
	}
	p, err := r.connect(r.podDir(uid))
	if err != nil {
		return nil, err
	}
	r.pods[uid] = p
	return p, nil
}

// startPod gives a Pod the spare shim, or one of its own, unless one came meanwhile.
func (r *Runtime) startPod(uid string) (*pod, error) {
	p, err := r.runningPod(uid)
	if err == nil || !errors.Is(err, errShimGone) {
		return p, err
	}
	if p = r.takeSpare(r.podDir(uid)); p == nil {
		if p, err = r.startShim(r.podDir(uid)); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	closed := r.closed
	if !closed {
		r.pods[uid] = p
	}
	r.mu.Unlock()
	if closed { // whoever opens the runtime next finds it
		p.disconnect()
		return nil, errClosed
	}
	return p, nil
}

func (p *pod) alive() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

func (p *pod) disconnect() {
	p.client.Close()
	<-p.gone
}

// connect reaches a shim that runs.
func (r *Runtime) connect(dir string) (*pod, error) {
	conn, err := net.Dial("unix", filepath.Join(dir, TaskSocket))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errShimGone, err)
	}
	return r.newPod(dir, conn, func() {}), nil
}

func (r *Runtime) newPod(dir string, conn net.Conn, onGone func()) *pod {
	p := &pod{dir: dir, gone: make(chan struct{})}
	var once sync.Once
	p.client = ttrpc.NewClient(conn, ttrpc.WithOnClose(func() {
		once.Do(func() {
			close(p.gone)
			r.shimGone(p)
			onGone()
		})
	}))
	p.tasks = task.NewTTRPCTaskClient(p.client)
	return p
}

// startShim starts a shim in its own session. It inherits its sockets, so that
// it can be called at once.
func (r *Runtime) startShim(dir string) (*pod, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, name := range []string{TaskSocket, StreamSocket} {
		f, err := listen(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	log, err := os.OpenFile(filepath.Join(dir, ShimLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	program, err := r.program(dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(r.config.Shim, "-runc", program, "-root", r.runcDir())
	cmd.Dir = dir
	// What skiff was given is not for Pods; some handlers call runc in turn.
	cmd.Env = []string{"PATH=" + defaultPath + ":" + filepath.Dir(r.config.Runc)}
	cmd.ExtraFiles = files
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start shim: %w", err)
	}
	r.protectShim(cmd.Process.Pid)
	conn, err := net.Dial("unix", filepath.Join(dir, TaskSocket))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to shim: %w", err), cmd.Process.Kill(), cmd.Wait())
	}
	return r.newPod(dir, conn, func() {
		// A shim that ended must not stay a zombie; one that runs on while we
		// close is not ours any more.
		if r.ended.Err() == nil {
			cmd.Wait()
		}
	}), nil
}

// protectShim keeps the kernel from choosing the shim when memory is short, as
// far as we may.
func (r *Runtime) protectShim(pid int) {
	path := filepath.Join("/proc", strconv.Itoa(pid), "oom_score_adj")
	if err := os.WriteFile(path, []byte(strconv.Itoa(max(-998, r.machine.oomScoreAdj))), 0o644); err != nil {
		r.config.Log.Debug("protect shim from the OOM killer", zap.Error(err))
	}
}

func listen(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// RemovePod implements agent.Runtime.
func (r *Runtime) RemovePod(ctx context.Context, podUID string) error {
	defer r.beginRemoval(podUID)()
	for _, id := range r.idsOf(podUID) {
		if err := r.Remove(ctx, id); err != nil {
			return err
		}
	}
	dir := r.podDir(podUID)
	p, err := r.pod(podUID, false)
	if err != nil && !errors.Is(err, errShimGone) {
		return err
	}
	if err == nil {
		if err := r.forgetBundles(ctx, podUID); err != nil {
			return err
		}
		if err := p.shutdown(ctx); err != nil {
			return fmt.Errorf("shut down shim of Pod %s: %w", podUID, err)
		}
	}
	r.mu.Lock()
	delete(r.pods, podUID)
	r.mu.Unlock()
	return r.removePodDir(dir)
}

// beginRemoval waits until nobody else removes the Pod.
func (r *Runtime) beginRemoval(podUID string) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		other, ok := r.removals[podUID]
		if !ok {
			break
		}
		r.mu.Unlock()
		<-other
		r.mu.Lock()
	}
	done := make(chan struct{})
	r.removals[podUID] = done
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.removals, podUID)
		close(done)
	}
}

// forgetBundles makes a shim let go of containers that have no record.
func (r *Runtime) forgetBundles(ctx context.Context, podUID string) error {
	entries, err := os.ReadDir(r.podDir(podUID))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := r.deleteTask(ctx, podUID, e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Runtime) idsOf(podUID string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for id, e := range r.containers {
		if e.state.Pod.UID == podUID {
			ids = append(ids, id)
		}
	}
	return ids
}

// removePodDir removes what remains in a Pod's directory, bundles of unknown
// containers included.
func (r *Runtime) removePodDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := r.removeBundle(e.Name(), filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(dir)
}

// shutdown ends a shim, by force if it does not listen, and returns when its
// process has ended.
func (p *pod) shutdown(ctx context.Context) error {
	defer p.disconnect()
	call, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	pid, err := p.process(call)
	if err != nil && !p.alive() {
		return nil // it has ended by itself
	}
	if err != nil {
		return err
	}
	process, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(process)
	if _, err := p.tasks.Shutdown(call, &task.ShutdownRequest{}); err == nil && hasEnded(process) {
		return nil
	}
	if err := unix.PidfdSendSignal(process, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	if !hasEnded(process) {
		return fmt.Errorf("process %d does not end", pid)
	}
	return nil
}

// process asks a shim for its process number, or looks for what it wrote if it
// does not answer: it may be so young that it has written nothing.
func (p *pod) process(ctx context.Context) (int, error) {
	answer, err := p.tasks.Connect(ctx, &task.ConnectRequest{})
	if err == nil {
		return int(answer.ShimPid), nil
	}
	pid, fileErr := shimPID(p.dir)
	if fileErr != nil {
		return 0, errors.Join(shimError(err), fileErr)
	}
	return pid, nil
}

// hasEnded waits for a process.
func hasEnded(pidfd int) bool {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for end := time.Now().Add(shutdownTimeout); ; {
		n, err := unix.Poll(poll, int(max(0, time.Until(end).Milliseconds())))
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n == 1
		}
	}
}

// shimPID reads a shim's process number; it only means something while the
// shim is connected.
func shimPID(dir string) (int, error) {
	data, err := os.ReadFile(filepath.Join(dir, PIDFile))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}
