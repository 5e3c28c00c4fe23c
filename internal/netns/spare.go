package netns

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Spares are a network and an IPC namespace that are made before somebody asks,
// for whoever creates the next ones. Open files alone hold them: they end with the
// process, however that ends. The zero value has none; it is safe for concurrent use.
type Spares struct {
	mu     sync.Mutex
	files  map[string]*os.File // by the kind's name
	making map[string]bool
}

// Create is as the function of that name, with the spare one if there is one.
func (s *Spares) Create(path string) error { return s.create(path, network()) }

// CreateIPC is as the function of that name, with the spare one if there is one.
func (s *Spares) CreateIPC(path string) error { return s.create(path, ipc()) }

func (s *Spares) create(path string, k kind) error {
	return pin(path, func() error {
		f := s.take(k.name)
		if f == nil {
			return makePinned(path, k)
		}
		defer f.Close()
		return bind(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), path)
	})
}

func (s *Spares) take(name string) *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[name]
	delete(s.files, name)
	return f
}

// Fill makes those that are missing and that nobody else is making.
func (s *Spares) Fill() error {
	var errs []error
	for _, k := range []kind{network(), ipc()} {
		if !s.begin(k.name) {
			continue
		}
		f, err := open(k)
		if err != nil {
			errs = append(errs, fmt.Errorf("spare %s namespace: %w", k.name, err))
		}
		s.keep(k.name, f)
	}
	return errors.Join(errs...)
}

func (s *Spares) begin(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[name] != nil || s.making[name] {
		return false
	}
	if s.files == nil {
		s.files, s.making = map[string]*os.File{}, map[string]bool{}
	}
	s.making[name] = true
	return true
}

// keep takes what was made, or nil if that failed.
func (s *Spares) keep(name string, f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.making, name)
	if f != nil {
		s.files[name] = f
	}
}

// open makes a namespace that ends when the file is closed.
func open(k kind) (f *os.File, err error) {
	err = inNew(k, func() error {
		fd, err := unix.Open(ownPath(k), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			f = os.NewFile(uintptr(fd), ownPath(k))
		}
		return err
	})
	return f, err
}
