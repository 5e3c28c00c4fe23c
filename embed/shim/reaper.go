package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// reaper waits for every child: the programs the shim starts and the processes
// that runc leaves to it. Nothing else in this program may wait for a child.
type reaper struct {
	mu      sync.Mutex // held while forking, so that no exit comes before its waiter
	waiters map[int]chan syscall.WaitStatus
	pending int                        // programs running that may leave processes to us
	early   map[int]syscall.WaitStatus // ended before someone claimed them
}

func newReaper() *reaper {
	return &reaper{waiters: map[int]chan syscall.WaitStatus{}, early: map[int]syscall.WaitStatus{}}
}

func (r *reaper) run() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	for {
		r.reap()
		<-signals
	}
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			return
		}
		if c, ok := r.waiters[pid]; ok {
			delete(r.waiters, pid)
			c <- status
		} else if r.pending > 0 {
			r.early[pid] = status
		}
	}
}

// start runs a program and returns where its end is told.
func (r *reaper) start(path string, args []string, attr *syscall.ProcAttr) (<-chan syscall.WaitStatus, error) {
	_, c, err := r.startPID(path, args, attr)
	return c, err
}

// startPID is start, and returns the process number too.
func (r *reaper) startPID(path string, args []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, args, attr)
	if err != nil {
		return 0, nil, err
	}
	c := make(chan syscall.WaitStatus, 1)
	r.waiters[pid] = c
	return pid, c, nil
}

// expect keeps ends of unknown children until release, for claim.
func (r *reaper) expect() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.pending--; r.pending == 0 {
			clear(r.early)
		}
	}
}

// claim returns where the end of a process that runc left to us is told.
func (r *reaper) claim(pid int) <-chan syscall.WaitStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := make(chan syscall.WaitStatus, 1)
	if status, ok := r.early[pid]; ok {
		delete(r.early, pid)
		c <- status
	} else {
		r.waiters[pid] = c
	}
	return c
}

// signal sends a signal to a claimed process that has not been reaped, whose
// number therefore is not another's.
func (r *reaper) signal(pid int, s syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiters[pid]; !ok {
		return syscall.ESRCH
	}
	return syscall.Kill(pid, s)
}

// exitCode is what a shell would report.
func exitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
