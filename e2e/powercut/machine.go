package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/skiff-sh/skiff/e2e/powercut/disk"
	"github.com/skiff-sh/skiff/e2e/powercut/nbd"
)

// machine is what is started and killed again and again.
type machine struct {
	dir    string // sockets, console, memory
	kernel string
	initrd string
	disk   *disk.Disk
	memory string // a file of what the machine remembers at "ready"; empty: it boots
}

// guest is one life of a machine.
type guest struct {
	process *exec.Cmd
	input   io.WriteCloser
	lines   chan string // what the guest tells; closed at its end
	conn    chan net.Conn
	all     sync.WaitGroup
	ended   sync.Once
	listen  net.Listener
}

// kernelOptions: the timer needs no check, which fails when the emulator has to
// wait for a processor, and nobody attacks the guest.
const kernelOptions = "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off"

// start starts the machine: one processor, its disk, and a port to us.
func (m *machine) start(ctx context.Context, extra ...string) (*guest, error) {
	socket := filepath.Join(m.dir, "disk.socket")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listen, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	g := &guest{process: m.command(ctx, socket, extra), lines: make(chan string, 64), conn: make(chan net.Conn, 1), listen: listen}
	output, err := m.power(g)
	if err != nil {
		listen.Close()
		return nil, fmt.Errorf("start qemu: %w (make powercut installs it)", err)
	}
	g.all.Go(func() { g.serve(m.disk) })
	g.all.Go(func() {
		defer close(g.lines)
		r := bufio.NewReader(output)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return // a line without an end was cut
			}
			g.lines <- strings.TrimRight(line, "\r\n")
		}
	})
	return g, nil
}

// command returns how QEMU is started.
func (m *machine) command(ctx context.Context, socket string, extra []string) *exec.Cmd {
	process := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "192", "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", m.kernel, "-initrd", m.initrd, "-append", kernelOptions,
		"-serial", "file:" + filepath.Join(m.dir, "console"),
		// The guest's flushes reach the server, and nobody else makes any.
		"-drive", "if=none,id=disk,format=raw,cache=none,file=nbd+unix:///?socket=" + socket,
		"-device", "virtio-blk-pci,drive=disk",
		"-chardev", "stdio,id=port,signal=off", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port",
	}, extra...)...)
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	process.Stderr = os.Stderr
	return process
}

// power starts a guest's process, from the kept memory if there is any.
func (m *machine) power(g *guest) (output io.Reader, err error) {
	if m.memory != "" {
		memory, err := os.Open(m.memory)
		if err != nil {
			return nil, err
		}
		defer memory.Close()
		g.process.ExtraFiles = []*os.File{memory}
		g.process.Args = append(g.process.Args, "-incoming", "fd:3")
	}
	if output, err = g.process.StdoutPipe(); err != nil {
		return nil, err
	}
	if g.input, err = g.process.StdinPipe(); err != nil {
		return nil, err
	}
	return output, g.process.Start()
}

// serve answers the machine's one connection, which stays open after the cut:
// the guest waits for its disk.
func (g *guest) serve(d *disk.Disk) {
	conn, err := g.listen.Accept()
	if err != nil {
		return
	}
	g.conn <- conn
	// How it ends says nothing: by the cut, or with the machine.
	_ = nbd.Serve(conn, d)
}

// console returns the lines that the guest's kernel wrote in its last life.
func (m *machine) console() []string {
	text, err := os.ReadFile(filepath.Join(m.dir, "console"))
	if err != nil {
		return []string{err.Error()}
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\r' || r == '\n' })
}

// kill takes the machine away; what it told before is still in lines. The
// caller reads these to their end, then calls release.
func (g *guest) kill() { _ = g.process.Process.Kill() }

// release ends all that belongs to the guest.
func (g *guest) release() {
	g.ended.Do(func() {
		g.kill()
		g.listen.Close()
		select {
		case conn := <-g.conn:
			conn.Close()
		default:
		}
		for range g.lines {
		}
		g.all.Wait()
		_ = g.process.Wait()
	})
}

// remember boots the machine until it is ready, and keeps its memory.
func (m *machine) remember(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	control := filepath.Join(m.dir, "control.socket")
	g, err := m.start(ctx, "-qmp", "unix:"+control+",server=on,wait=off")
	if err != nil {
		return err
	}
	defer g.release()
	for line := range g.lines {
		if line == "ready" {
			path := filepath.Join(m.dir, "memory")
			if err := m.save(control, path); err != nil {
				return fmt.Errorf("keep the machine's memory: %w", err)
			}
			m.memory = path
			return nil
		}
	}
	return fmt.Errorf("the machine ended before it was ready:\n%s", strings.Join(m.console(), "\n"))
}

// save has the machine send its state to us.
func (m *machine) save(control, path string) error {
	socket := filepath.Join(m.dir, "memory.socket")
	listen, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer listen.Close()
	conn, err := net.Dial("unix", control)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, command := range []any{
		map[string]any{"execute": "qmp_capabilities"},
		map[string]any{"execute": "migrate-set-parameters", "arguments": map[string]any{"max-bandwidth": 4 << 30}},
		map[string]any{"execute": "migrate", "arguments": map[string]any{"uri": "unix:" + socket}},
	} {
		if err := json.NewEncoder(conn).Encode(command); err != nil {
			return err
		}
	}
	from, err := listen.Accept()
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(path)
	if err != nil {
		return err
	}
	defer to.Close()
	if n, err := io.Copy(to, from); err != nil || n == 0 {
		return fmt.Errorf("%d bytes came: %w", n, err)
	}
	return nil
}
