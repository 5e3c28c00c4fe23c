package node

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// follower is a command whose output is read as it comes.
type follower struct {
	t     *testing.T
	cmd   *exec.Cmd
	end   context.CancelFunc
	in    io.WriteCloser
	lines chan string
	read  strings.Builder
}

// follow starts kubectl in the test's namespace.
func (c *cluster) follow(args ...string) *follower {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	f := &follower{t: c.t, cmd: c.kubectlCommand(ctx, args...), end: cancel, lines: make(chan string, 10_000)}
	out, err := f.cmd.StdoutPipe()
	if err == nil {
		f.cmd.Stderr = f.cmd.Stdout
		f.in, err = f.cmd.StdinPipe()
	}
	if err == nil {
		err = c.inside(f.cmd.Start)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(f.lines)
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadString('\n')
			if line != "" {
				f.lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	c.t.Cleanup(f.stop)
	return f
}

// until reads until a line has the text, and returns the line.
func (f *follower) until(text string) string {
	f.t.Helper()
	for line := range f.lines {
		f.read.WriteString(line)
		if strings.Contains(line, text) {
			return line
		}
	}
	f.t.Fatalf("%s ended without %q: %s", f.cmd, text, f.read.String())
	return ""
}

// rest waits for the command's end and returns all that it wrote and that
// was not read before.
func (f *follower) rest() string {
	f.t.Helper()
	var b strings.Builder
	for line := range f.lines {
		b.WriteString(line)
	}
	if err := f.cmd.Wait(); err != nil {
		f.t.Errorf("%s: %v: %s", f.cmd, err, b.String())
	}
	return b.String()
}

func (f *follower) stop() {
	f.end()
	for range f.lines {
	}
	_ = f.cmd.Wait() // killed, or waited for before
}
