package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/skiff-sh/skiff/internal/agent"
)

// appArmor confines containers by the profiles that the kernel holds; nil where it
// cannot.
type appArmor struct {
	profiles string // file of the kernel that lists them
	// load gives the kernel a profile, compiled from its text.
	load func(ctx context.Context, text string) error

	mu sync.Mutex // one load at a time
}

// defaultProfile is what containerd calls the one for all who name none: who looks
// at a node by that name finds the same here.
const defaultProfile = "cri-containerd.apparmor.d"

// compiler makes profiles of their text, and hands them to the kernel.
const compiler = "/sbin/apparmor_parser"

// inspectAppArmor returns nil where the kernel does not confine or nothing compiles
// profiles, or inside a container, whose profile would be in the way.
func inspectAppArmor() *appArmor {
	const kernel = "/sys/kernel/security/apparmor"
	enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	_, noKernel := os.Stat(kernel)
	_, noCompiler := os.Stat(compiler)
	if !bytes.HasPrefix(enabled, []byte("Y")) || noKernel != nil || noCompiler != nil || os.Getenv("container") != "" {
		return nil
	}
	return &appArmor{profiles: filepath.Join(kernel, "profiles"), load: compile}
}

// profile names the profile for a container, "" for none. The default one is given
// to the kernel when it is first wanted, or gone.
func (a *appArmor) profile(ctx context.Context, c agent.Container) (string, error) {
	local, named := strings.CutPrefix(c.AppArmor, agent.AppArmorLocal)
	switch {
	case c.AppArmor == agent.AppArmorUnconfined:
		return "", nil
	case a == nil && c.AppArmor == "":
		return "", nil
	case a == nil:
		return "", errors.New("failed to get container spec opts: failed to generate apparmor spec opts: apparmor is not supported")
	case named:
		there, err := a.holds(local)
		if err != nil {
			return "", fmt.Errorf("failed to get container spec opts: failed to generate apparmor spec opts: %w", err)
		}
		if !there {
			return "", fmt.Errorf("failed to get container spec opts: failed to generate apparmor spec opts: apparmor profile not found %s", local)
		}
		return local, nil
	case c.Privileged:
		return "", nil
	}
	return defaultProfile, a.ready(ctx)
}

// ready has the kernel hold the default profile.
func (a *appArmor) ready(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	there, err := a.holds(defaultProfile)
	if err != nil || there {
		return err
	}
	if err := a.load(ctx, profileText(defaultProfile, "/etc/apparmor.d", ownProfile())); err != nil {
		return fmt.Errorf("load apparmor profile %s: %w", defaultProfile, err)
	}
	return nil
}

// holds says whether the kernel has the profile.
func (a *appArmor) holds(name string) (bool, error) {
	list, err := os.ReadFile(a.profiles)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(list)) {
		if strings.HasPrefix(line, name+" (") {
			return true, nil
		}
	}
	return false, nil
}

// compilerPatience bounds the compiler, which a slow board may keep busy for seconds.
const compilerPatience = time.Minute

func compile(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(ctx, compilerPatience)
	defer cancel()
	command := exec.CommandContext(ctx, compiler, "-Kr") // uses no cache, and replaces
	command.Stdin = strings.NewReader(text)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("parser error(%q): %w", bytes.TrimSpace(out), err)
	}
	return nil
}

// ownProfile is the profile that this process runs under.
func ownProfile() string {
	data, _ := os.ReadFile("/proc/self/attr/current") // without AppArmor there is none
	name, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	if name == "" {
		return agent.AppArmorUnconfined
	}
	return name
}

// profileText is the default profile, which allows and denies what containerd's
// does. What of the distribution's definitions below dir is there is used. The
// library's own would bring text/template, and with it the end of dead-code elimination.
func profileText(name, dir, owner string) string {
	has := func(file string) bool {
		_, err := os.Stat(filepath.Join(dir, file))
		return err == nil
	}
	var head, base string
	if has("abi/3.0") {
		head = "abi <abi/3.0>,\n"
	}
	if has("tunables/global") {
		head += "#include <tunables/global>\n"
	} else {
		head += "@{PROC}=/proc/\n"
	}
	if has("abstractions/base") {
		base = "  #include <abstractions/base>\n"
	}
	rules := strings.NewReplacer("SELF", name, "OWNER", owner).Replace(profileRules)
	return head + "\nprofile " + name + " flags=(attach_disconnected,mediate_deleted) {\n" + base + rules + "}\n"
}

// profileRules are the default profile's: nearly everything, but no mounts and no
// writing to what of /proc and /sys is the host's. Signals come from whoever runs
// containers, and pass between the processes of those.
const profileRules = `  network,
  capability,
  file,
  umount,

  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (receive) peer=OWNER,
  signal (send,receive) peer=SELF,

  # In /proc: processes' own directories, and shared memory's settings.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny mount,

  # In /sys: groups of processes.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

  ptrace (trace,tracedby,read,readby) peer=SELF,
`
