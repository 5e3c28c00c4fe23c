package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/skiff-sh/skiff/e2e/powercut/disk"
)

// TestFaults: the faults fit the sources that they are laid over.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		for _, e := range f.edits {
			dir, err := goList(t.Context(), "-f", "{{.Dir}}", e.pkg)
			if err != nil {
				t.Fatal(err)
			}
			source, err := os.ReadFile(filepath.Join(dir, e.file))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.apply(source); err != nil {
				t.Errorf("%s: %s: %v", f.name, e.file, err)
			}
		}
	}
}

func TestApply(t *testing.T) {
	source := []byte("a x b x c")
	for _, c := range []struct {
		edit edit
		want string
	}{
		{edit{old: "x", new: "y", count: 2, which: 0}, "a y b x c"},
		{edit{old: "x", new: "y", count: 2, which: 1}, "a x b y c"},
		{edit{old: "x", new: "y", count: 1}, ""},
		{edit{old: "z", new: "y", count: 1}, ""},
	} {
		got, err := c.edit.apply(source)
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, %v; want %q", c.edit, got, err, c.want)
		}
	}
}

// TestArchive: headers and data of a newc archive are where the kernel looks.
func TestArchive(t *testing.T) {
	a := &archive{}
	a.add("modules", 0o040755, nil)
	a.add("init", 0o100755, []byte("program"))
	a.add("TRAILER!!!", 0, nil)
	rest := a.Bytes()
	for _, want := range []struct{ name, data string }{{"modules", ""}, {"init", "program"}, {"TRAILER!!!", ""}} {
		var size, length int
		if _, err := fmt.Sscanf(string(rest[54:62])+" "+string(rest[94:102]), "%x %x", &size, &length); err != nil {
			t.Fatal(err)
		}
		data := (110 + length + 3) &^ 3
		if string(rest[:6]) != "070701" || string(rest[110:110+length]) != want.name+"\x00" || string(rest[data:data+size]) != want.data {
			t.Fatalf("want %+v, got %q", want, rest)
		}
		rest = rest[(data+size+3)&^3:]
	}
	if len(rest) != 0 {
		t.Errorf("%d bytes too many", len(rest))
	}
}

// TestPlans: a seed decides everything, and a run of the usual length has cuts
// of every kind.
func TestPlans(t *testing.T) {
	begins, events := map[begin]int{}, map[disk.Event]int{}
	acks, times, beating, snapshots := 0, 0, 0, 0
	for boot := range 200 {
		plan := planLoad(1, boot, false)
		cut := planCut(plan)
		again := planCut(planLoad(1, boot, false))
		if cut.random.Uint64() != again.random.Uint64() {
			t.Fatalf("boot %d loses something else the second time", boot)
		}
		cut.random, again.random = nil, nil
		if !reflect.DeepEqual(cut, again) {
			t.Fatalf("boot %d is %s, and the second time %s", boot, cut, again)
		}
		begins[cut.begin]++
		events[cut.disk.Event]++
		acks, times = acks+min(cut.acks, 1), times+min(int(cut.after), 1)
		if plan.Beating {
			beating++
		}
		if plan.Snapshot {
			snapshots++
		}
	}
	for _, b := range []begin{fromStart, fromLoad, fromCompact, atCompacted, fromClose} {
		if begins[b] < 5 {
			t.Errorf("%d of 200 cuts are counted from %d", begins[b], b)
		}
	}
	for _, e := range []disk.Event{disk.AtWrite, disk.AtFlush, disk.AfterFlush, disk.AtMarked} {
		if events[e] < 10 {
			t.Errorf("%d of 200 cuts are %s", events[e], e)
		}
	}
	if acks < 5 || times < 5 || beating < 20 || snapshots < 20 {
		t.Errorf("%d cuts at acknowledgements, %d at times, %d boots beat, %d make snapshots", acks, times, beating, snapshots)
	}
}
