package containerd

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/agent"
)

func TestAppArmorProfile(t *testing.T) {
	const prefix = "failed to get container spec opts: failed to generate apparmor spec opts: "
	for _, c := range []struct {
		name       string
		privileged bool
		off        bool // the kernel has no AppArmor
		want, err  string
		loads      int
	}{
		{name: "", want: defaultProfile, loads: 1},
		{name: agent.AppArmorDefault, want: defaultProfile, loads: 1},
		{name: agent.AppArmorUnconfined},
		{name: "localhost/deny", want: "deny"},
		{name: "localhost/den", err: prefix + "apparmor profile not found den"},
		{name: "", privileged: true},
		{name: agent.AppArmorDefault, privileged: true},
		{name: "localhost/deny", privileged: true, want: "deny"},
		{name: "", off: true},
		{name: agent.AppArmorUnconfined, off: true},
		{name: agent.AppArmorDefault, off: true, err: prefix + "apparmor is not supported"},
		{name: "localhost/deny", off: true, err: prefix + "apparmor is not supported"},
	} {
		list := filepath.Join(t.TempDir(), "profiles")
		write := func(text string) {
			if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("other (enforce)\ndeny (enforce)\n")
		loads := 0
		a := &appArmor{profiles: list, load: func(context.Context, string) error {
			loads++
			write(defaultProfile + " (enforce)\n")
			return nil
		}}
		if c.off {
			a = nil
		}
		for range 2 { // the second time what was loaded is there
			got, err := a.profile(t.Context(), agent.Container{AppArmor: c.name, Privileged: c.privileged})
			if got != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("%+v: %q, %v", c, got, err)
			}
		}
		if loads != c.loads {
			t.Errorf("%+v: %d loads", c, loads)
		}
	}
}

func TestProfileText(t *testing.T) {
	bare := profileText("mine", t.TempDir(), "skiff")
	for _, want := range []string{
		"@{PROC}=/proc/\n", "\nprofile mine flags=(attach_disconnected,mediate_deleted) {\n",
		"peer=skiff,\n", "signal (send,receive) peer=mine,\n", "deny mount,\n", "peer=mine,\n}\n",
	} {
		if !strings.Contains(bare, want) {
			t.Errorf("%q is not in %s", want, bare)
		}
	}
	dir := t.TempDir()
	for _, file := range []string{"abi/3.0", "tunables/global", "abstractions/base"} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	full := profileText("mine", dir, "skiff")
	want := "abi <abi/3.0>,\n#include <tunables/global>\n\nprofile mine flags=(attach_disconnected,mediate_deleted) {\n  #include <abstractions/base>\n  network,\n"
	if !strings.HasPrefix(full, want) {
		t.Errorf("it begins %.300s", full)
	}
}
