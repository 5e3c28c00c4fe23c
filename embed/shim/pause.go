package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The names that this program has when it is process 1 of a Pod's shared process
// namespace: first it makes itself harmless, then it waits and reaps. Containers can
// look into process 1, so it is in empty namespaces, sees nothing but its own program,
// read-only, and is nobody.
const (
	pauseSetUp = "skiff-pause"
	pauseName  = "/pause"
)

// Descriptors of that process.
const (
	pauseAlive = 3 // it ends when the shim's side closes
	pauseReady = 4 // a byte comes when it may be joined
)

const nobody = 65535

// pauseSpaces are what process 1 has of its own besides the process namespace.
const pauseSpaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// pause is the first process of the process namespace that a Pod's containers share.
type pause struct {
	reaper *reaper

	mu    sync.Mutex // held while one is started
	alive *os.File   // our side; nil: there is none
	ended <-chan syscall.WaitStatus
}

// ensure starts the process if there is none, or none any more, and makes PIDNamespace
// lead to its namespace.
func (p *pause) ensure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alive != nil {
		select {
		case <-p.ended:
			p.alive.Close()
			p.alive = nil
		default:
			return nil
		}
	}
	if err := p.start(); err != nil {
		return fmt.Errorf("start the first process of the shared process namespace: %w", err)
	}
	return nil
}

func (p *pause) start() error {
	aliveTheirs, aliveOurs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer aliveTheirs.Close()
	readyOurs, readyTheirs, err := os.Pipe()
	if err != nil {
		return errors.Join(err, aliveOurs.Close())
	}
	defer readyOurs.Close()
	attr := &syscall.ProcAttr{
		Files: []uintptr{0, 1, 2, aliveTheirs.Fd(), readyTheirs.Fd()},
		Env:   []string{"GOMAXPROCS=1"},
		Sys:   &syscall.SysProcAttr{Cloneflags: pauseSpaces, Setsid: true},
	}
	// By its path: what is mounted in another mount namespace cannot be mounted there.
	program, err := os.Executable()
	if err != nil {
		return errors.Join(err, readyTheirs.Close(), aliveOurs.Close())
	}
	pid, ended, err := p.reaper.startPID(program, []string{pauseSetUp}, attr)
	readyTheirs.Close()
	if err == nil {
		if _, err = io.ReadFull(readyOurs, make([]byte, 1)); err != nil {
			err = fmt.Errorf("it ended at once: see %s", ShimLog)
		}
	}
	if err == nil {
		err = replaceLink("/proc/"+strconv.Itoa(pid)+"/ns/pid", PIDNamespace)
	}
	if err != nil {
		return errors.Join(err, aliveOurs.Close())
	}
	p.alive, p.ended = aliveOurs, ended
	return nil
}

// replaceLink makes path lead to target. What a crash left half done is no hindrance.
func replaceLink(target, path string) error {
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, path+".new"); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// becomePause makes this process, the first of its namespaces, see nothing but its own
// program, which it then runs again. The program is mounted read-only: its file is the
// node's, and a container that may look into process 1 could write to it.
func becomePause() error {
	// It is found in every root, and nothing of it is needed any more.
	const root = "/dev"
	const program = root + pauseName
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0555,size=64k"); err != nil {
		return fmt.Errorf("mount an empty root: %w", err)
	}
	if err := os.WriteFile(program, nil, 0o555); err != nil {
		return err
	}
	if err := unix.Mount("/proc/self/exe", program, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount the program: %w", err)
	}
	for _, path := range []string{program, root} {
		if err := unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
			return fmt.Errorf("make %s read-only: %w", path, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the former root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", pauseName, syscall.Exec(pauseName, []string{pauseName}, []string{"GOMAXPROCS=1"}))
}

// pauseUntilAlone gives up all rights and waits until the shim has gone. No signal
// means anything to it; what ends in its namespace the kernel removes by itself, since
// it ignores SIGCHLD.
func pauseUntilAlone() error {
	signal.Ignore()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody)); err != nil {
		return fmt.Errorf("become nobody: %w", err)
	}
	if _, err := syscall.Write(pauseReady, []byte{1}); err != nil {
		return err
	}
	closeOthers()
	for {
		if _, err := syscall.Read(pauseAlive, make([]byte, 1)); err != syscall.EINTR {
			return nil
		}
	}
}

// closeOthers closes every descriptor but pauseAlive, also those that skiff was given
// by who started it.
func closeOthers() {
	for fd := range pauseAlive {
		syscall.Close(fd)
	}
	const after = pauseAlive + 1
	if unix.CloseRange(after, math.MaxInt32, 0) == nil {
		return
	}
	for fd := after; fd < 1024; fd++ { // Linux before 5.9
		syscall.Close(fd)
	}
}
