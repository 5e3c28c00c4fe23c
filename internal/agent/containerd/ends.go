package containerd

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ends tells when processes end, with one goroutine for all of them: a file for each
// process (pidfd_open(2)) in one that waits for all (epoll(7)). Safe for concurrent use.
type ends struct {
	epoll *os.File
	conn  syscall.RawConn

	mu      sync.Mutex // guards all below
	last    int32
	waiting map[int32]ending
	closed  bool
}

// ending is a process whose end is waited for.
type ending struct {
	process int // its pidfd
	ended   func()
}

func newEnds() (*ends, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true) // so that Go's own poller takes it
	}
	if err != nil {
		return nil, fmt.Errorf("watch processes: %w", err)
	}
	e := &ends{epoll: os.NewFile(uintptr(fd), "epoll"), waiting: map[int32]ending{}}
	if e.conn, err = e.epoll.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("watch processes: %w", err), e.epoll.Close())
	}
	return e, nil
}

// watch has ended called once when the process is no more, from the goroutine that runs
// e; it must not block. An error, as for a process that has ended already, means that it
// never is.
func (e *ends) watch(pid int, ended func()) error {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.Join(os.ErrClosed, unix.Close(process))
	}
	// Not the descriptor's number: another process's may have it by the time it is told.
	e.last++
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: e.last}
	var addErr error
	err = e.conn.Control(func(fd uintptr) {
		addErr = unix.EpollCtl(int(fd), unix.EPOLL_CTL_ADD, process, &event)
	})
	if err = errors.Join(err, addErr); err != nil {
		return errors.Join(fmt.Errorf("watch process %d: %w", pid, err), unix.Close(process))
	}
	e.waiting[e.last] = ending{process, ended}
	return nil
}

// run calls back until e is closed.
func (e *ends) run() {
	events := make([]unix.EpollEvent, 64)
	_ = e.conn.Read(func(fd uintptr) (closed bool) { // fails when e is closed
		for {
			n, err := unix.EpollWait(int(fd), events, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				return false
			}
			for _, event := range events[:n] {
				e.tell(int(fd), event.Fd)
			}
		}
	})
}

func (e *ends) tell(epoll int, key int32) {
	e.mu.Lock()
	w, ok := e.waiting[key]
	delete(e.waiting, key)
	e.mu.Unlock()
	if ok {
		// Said before it is closed: a child that is just being made may have it too.
		_ = unix.EpollCtl(epoll, unix.EPOLL_CTL_DEL, w.process, nil)
		_ = unix.Close(w.process)
		w.ended()
	}
}

// close ends all watches; none calls back any more once run has returned.
func (e *ends) close() error {
	e.mu.Lock()
	for _, w := range e.waiting {
		_ = unix.Close(w.process)
	}
	clear(e.waiting)
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	if closed {
		return nil
	}
	return e.epoll.Close() // which waits for run, and run may have waited for the lock
}
