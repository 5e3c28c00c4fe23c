package containerd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/skiff-sh/skiff/internal/agent"
)

func TestExec(t *testing.T) {
	n := newNode(t)
	c := n.run(n.container("sleep 1000", func(c *agent.Container) { c.Env = []string{"COLOR=green"} }))
	var out, errs bytes.Buffer
	code, err := n.Exec(t.Context(), c.ID, agent.Exec{
		Args:    []string{"/bin/sh", "-c", "cat; echo $COLOR; echo bad >&2; exit 5"},
		Streams: agent.Streams{In: strings.NewReader("from stdin\n"), Out: &out, Err: &errs},
	})
	if err != nil || code != 5 || out.String() != "from stdin\ngreen\n" || errs.String() != "bad\n" {
		t.Errorf("exec: %d, %v, %q, %q", code, err, out.String(), errs.String())
	}

	out.Reset()
	resize := make(chan [2]uint16, 1)
	resize <- [2]uint16{100, 40}
	in, typed := io.Pipe()
	first := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-first
		io.WriteString(typed, "stty size; tty=$(ls -l /proc/self/fd/0); echo ${tty##*/dev}; exit\n")
	}()
	code, err = n.Exec(t.Context(), c.ID, agent.Exec{
		Args: []string{"/bin/sh"}, TTY: true, Resize: resize,
		Streams: agent.Streams{In: in, Out: &signalling{w: &out, first: first}},
	})
	<-done
	if err != nil || code != 0 || !strings.Contains(out.String(), "40 100\r\n") || !strings.Contains(out.String(), "/pts/0\r\n") {
		t.Errorf("exec with a terminal: %d, %v, %q", code, err, out.String())
	}

	_, err = n.Exec(t.Context(), c.ID, agent.Exec{Args: []string{"/nosuch"}})
	if err == nil || !strings.Contains(err.Error(), `OCI runtime exec failed: exec failed: unable to start container process: exec: "/nosuch": stat /nosuch: no such file or directory: unknown`) {
		t.Errorf("exec of what does not exist: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	go func() { <-started; cancel() }()
	_, err = n.Exec(ctx, c.ID, agent.Exec{
		Args:    []string{"/bin/sh", "-c", "echo up; exec sleep 4321"},
		Streams: agent.Streams{Out: &signalling{w: io.Discard, first: started}},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("exec that was given up: %v", err)
	}
	n.waitFor("the process of a broken exec to end", func() bool {
		for _, command := range processes(t) {
			if strings.Contains(command, "sleep 4321") {
				return false
			}
		}
		return true
	})
}

// signalling tells when the first byte was written.
type signalling struct {
	w     io.Writer
	once  sync.Once
	first chan struct{}
}

func (s *signalling) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.first) })
	return s.w.Write(b)
}

func TestAttach(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("cat; echo end", func(c *agent.Container) { c.Stdin, c.StdinOnce = true, true }))
	var out bytes.Buffer
	if err := n.Attach(t.Context(), c.ID, agent.Streams{In: strings.NewReader("typed\n"), Out: &out}); err != nil {
		t.Fatal(err)
	}
	f.exit(c.ID)
	if out.String() != "typed\nend\n" || n.output(c, "stdout") != "typed\nend\n" {
		t.Errorf("attached %q, logged %q", out.String(), n.output(c, "stdout"))
	}
}

func TestTerminal(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("read x; stty size; echo got $x", func(c *agent.Container) { c.Stdin, c.TTY = true, true }))
	if err := n.Resize(t.Context(), c.ID, 90, 30); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := n.Attach(t.Context(), c.ID, agent.Streams{In: strings.NewReader("word\n"), Out: &out}); err != nil {
		t.Fatal(err)
	}
	f.exit(c.ID)
	if logged := n.output(c, "stdout"); !strings.Contains(logged, "30 90\n") || !strings.Contains(logged, "got word\n") {
		t.Errorf("logged %q", logged)
	}
}

func TestLogRotation(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("echo one; read x; echo two; head -c 40000 /dev/zero | tr '\\0' x", func(c *agent.Container) { c.Stdin, c.StdinOnce = true, true }))
	n.waitFor("the first line", func() bool {
		data, _ := os.ReadFile(c.LogPath)
		return bytes.HasSuffix(data, []byte("one\n"))
	})
	if err := os.Rename(c.LogPath, c.LogPath+".1"); err != nil {
		t.Fatal(err)
	}
	if err := n.ReopenLog(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.Attach(t.Context(), c.ID, agent.Streams{In: strings.NewReader("go\n")}); err != nil {
		t.Fatal(err)
	}
	f.exit(c.ID)
	if got, want := n.output(c, "stdout"), "two\n"+strings.Repeat("x", 40000); got != want {
		t.Errorf("logged %d bytes: expected %d", len(got), len(want))
	}
}
