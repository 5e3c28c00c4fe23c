package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A container may end between its creation and its start. Start must say so
// and not wait for ever at the FIFO, whoever comes first.
func TestStartOfWhatHasEnded(t *testing.T) {
	r := &runc{root: t.TempDir()}
	fifo := filepath.Join(r.root, "c", "exec.fifo")
	if err := os.Mkdir(filepath.Dir(fifo), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	close(gone)
	ended := make(chan error, 1)
	for range 200 {
		go func() { ended <- r.start("c", gone) }()
		select {
		case err := <-ended:
			if err == nil {
				t.Fatal("started, expected an error")
			}
		case <-time.After(5 * time.Second):
			t.Fatal("waits for a container that has ended")
		}
	}
}

// One that began before anybody looked has been started.
func TestStartOfWhatBegan(t *testing.T) {
	r := &runc{root: t.TempDir()}
	fifo := filepath.Join(r.root, "c", "exec.fifo")
	if err := os.Mkdir(filepath.Dir(fifo), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(fifo, []byte{'0'}, 0) }()
	if err := r.start("c", make(chan struct{})); err != nil {
		t.Error(err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// A process may end the moment it begins: its beginning must be noted first.
func TestStartIsNotedBeforeItHappens(t *testing.T) {
	dir := t.TempDir()
	c := &container{id: "c", bundle: dir, runc: &runc{root: dir}, done: make(chan struct{})}
	fifo := filepath.Join(dir, "c", "exec.fifo")
	if err := os.Mkdir(filepath.Dir(fifo), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	noted := make(chan bool, 1)
	go func() {
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the reader
		if err != nil {
			t.Error(err)
		}
		noted <- !c.snapshot().StartedAt.IsZero()
		f.Write([]byte{'0'})
		f.Close()
	}()
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	if !<-noted {
		t.Error("the process would run before its start is noted")
	}
}
