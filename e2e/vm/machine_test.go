//go:build vm

package vm

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// machine is a disk that is booted again and again.
type machine struct {
	base         string   // kernel and pristine disk, kept between runs
	dir          string   // this run's disk, and the consoles
	acknowledged []string // what the API said was done before a power cut

	outside *lab.Node         // where the emulator runs and has a network; nil: here, without one
	files   map[string]string // further ones for the second disk, with their text
}

// newMachine makes a machine of one of the pristine disks: disk.img, which is bare, or
// node.img.
func newMachine(t *testing.T, disk string) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes file systems: needs root")
	}
	base, err := filepath.Abs("../../build/vm")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{base: base, dir: filepath.Join(base, "run")}
	if err := os.RemoveAll(m.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "--sparse=always", filepath.Join(base, disk), filepath.Join(m.dir, "disk.img"))
	return m
}

func run(t *testing.T, command string, args ...string) {
	t.Helper()
	if out, err := exec.Command(command, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// makeFileSystem makes an image of a directory.
func makeFileSystem(dir, image string) error {
	if err := os.RemoveAll(image); err != nil {
		return err
	}
	out, err := exec.Command("mkfs.ext4", "-q", "-O", "^has_journal", "-d", dir, image, "256M").CombinedOutput()
	if err != nil {
		return fmt.Errorf("make file system: %w: %s", err, out)
	}
	return nil
}

// guest is one boot.
type guest struct {
	process *exec.Cmd
	output  *bufio.Scanner
	console string
	wait    func() error // until the guest has powered off
}

// start boots the machine: one processor, and no network unless it is to have
// one.
func (m *machine) start(name string, memory int, rtc string) (*guest, error) {
	if rtc == "" {
		rtc = "utc"
	}
	g := &guest{console: filepath.Join(m.dir, name+".console")}
	network := []string{"-nic", "none"}
	command := exec.CommandContext
	if m.outside != nil {
		// All that is outside the guest is a process that makes connections.
		network = []string{"-netdev", "user,id=out,ipv6=off", "-device", "virtio-net-pci,netdev=out,romfile="}
		command = m.outside.Command
	}
	g.process = command(context.Background(), "qemu-system-x86_64", append(network,
		"-accel", "tcg,thread=single", "-cpu", "max", "-smp", "1", "-m", strconv.Itoa(memory),
		"-display", "none", "-monitor", "none", "-no-reboot", "-rtc", "base="+rtc,
		"-kernel", filepath.Join(m.base, "vmlinuz"), "-initrd", filepath.Join(m.base, "initrd.img"),
		"-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=0 steps="+name,
		"-drive", "if=virtio,format=raw,file="+filepath.Join(m.dir, "disk.img"),
		"-drive", "if=virtio,format=raw,readonly=on,file="+filepath.Join(m.dir, "steps.img"),
		"-device", "virtio-rng-pci",
		"-serial", "file:"+g.console, "-serial", "stdio")...)
	g.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	g.process.Stderr = os.Stderr
	out, err := g.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g.output = bufio.NewScanner(out)
	if err := g.process.Start(); err != nil {
		return nil, fmt.Errorf("start qemu: %w (make vm-test installs it)", err)
	}
	g.wait = sync.OnceValue(g.process.Wait)
	return g, nil
}

// reports are the lines that the guest's steps write.
func (g *guest) reports() iter.Seq[string] {
	return func(yield func(string) bool) {
		for g.output.Scan() {
			line := strings.TrimRight(g.output.Text(), "\r")
			if os.Getenv("VM_VERBOSE") != "" {
				fmt.Println(strings.ReplaceAll(line, "\x01", "\n  "))
			}
			if !yield(line) {
				return
			}
		}
	}
}

// end takes the power away, if it is still there.
func (g *guest) end() {
	_ = g.process.Process.Kill()
	_ = g.wait()
}
