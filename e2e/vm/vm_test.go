//go:build vm

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/e2e/process"
)

// patience is how long a boot may go without a report: emulated, a machine is some
// twenty times slower than a real one, and more where others use the processor too.
const patience = 12 * time.Minute

// stopping is how long the machine may take to power off; systemd kills what
// has not ended after 90 seconds.
const stopping = 80 * time.Second

// TestMachine is the life of one machine, boot after boot.
func TestMachine(t *testing.T) {
	m := newMachine(t, "disk.img")
	boots := []struct {
		name   string
		memory int    // MB
		rtc    string // where the clock starts; empty: now
		cut    string // the mark at which the power is cut; empty: the guest powers off
	}{
		// Everything of a first start, in 1970. The power goes as soon as an
		// image is imported.
		{name: "first", memory: 1024, rtc: "1970-01-02", cut: "imported"},
		// What ran comes back. The power goes in the middle of a rollout.
		{name: "work", memory: 512, cut: "rollout"},
		// What was acknowledged is there, and killall leaves nothing.
		{name: "last", memory: 512},
		{name: "small", memory: 256},
	}
	for _, b := range boots {
		ok := t.Run(b.name, func(t *testing.T) { m.boot(t, b.name, b.memory, b.rtc, b.cut) })
		if !ok {
			break // the next boot would begin elsewhere
		}
	}
}

// boot runs one boot and turns what the guest reports into subtests.
func (m *machine) boot(t *testing.T, name string, memory int, rtc, cut string) {
	m.bootUntil(t, name, memory, rtc, cut, func() {})
}

// bootUntil is boot, and does something between the mark and the power cut.
func (m *machine) bootUntil(t *testing.T, name string, memory int, rtc, cut string, before func()) {
	if err := m.fillSteps(); err != nil {
		t.Fatal(err)
	}
	guest, err := m.start(name, memory, rtc)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.end()
	timer := time.AfterFunc(patience, guest.end)
	defer timer.Stop()
	var last string
	for line := range guest.reports() {
		timer.Reset(patience)
		word, rest, _ := strings.Cut(line, " ")
		step, detail, _ := strings.Cut(rest, " ")
		switch word {
		case "run":
			last = step
		case "ok":
			t.Run(step, func(t *testing.T) { t.Log(detail) })
			fmt.Printf("%s: %s took %s\n", name, step, detail)
		case "fail":
			t.Run(step, func(t *testing.T) { t.Error(strings.ReplaceAll(detail, "\x01", "\n")) })
		case "note":
			t.Log(rest)
		case "ack":
			m.acknowledged = append(m.acknowledged, step)
		case "mark":
			if step == cut {
				before()
				return // guest.end is the power cut
			}
		case "done":
			begin := time.Now()
			if cut == "" && guest.wait() == nil {
				if took := time.Since(begin); took > stopping {
					t.Errorf("the machine took %s to go down: it waited for processes that do not end", took)
				}
				return
			}
		}
	}
	t.Fatalf("the machine ended, or was ended after %s without a report, during step %q; its console is %s", patience, last, guest.console)
}

// fillSteps makes the second disk: the executable, its unit, an image, what the
// guest does, and what it must find again.
func (m *machine) fillSteps() error {
	dir := filepath.Join(m.dir, "steps")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	guest, err := filepath.Glob("guest/*")
	if err != nil {
		return err
	}
	skiff, err := process.Skiff()
	if err != nil {
		return err
	}
	for _, path := range append(guest, skiff, "../../scripts/skiff.service", "../../scripts/skiff-agent.service") {
		if err := copyTo(dir, path); err != nil {
			return err
		}
	}
	if err := writeBox(filepath.Join(dir, "box.tar")); err != nil {
		return fmt.Errorf("make the image of busybox: %w", err)
	}
	slices.Sort(m.acknowledged)
	known := []byte(strings.Join(append(m.acknowledged, ""), "\n"))
	if err := os.WriteFile(filepath.Join(dir, "acknowledged"), known, 0o644); err != nil {
		return err
	}
	for name, text := range m.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return makeFileSystem(dir, filepath.Join(m.dir, "steps.img"))
}

func copyTo(dir, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, filepath.Base(path)), data, 0o755)
}
