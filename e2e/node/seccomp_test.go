package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// noChmod refuses one thing and lets all else be.
const noChmod = `{
	"defaultAction": "SCMP_ACT_ALLOW",
	"syscalls": [{"names": ["chmod", "fchmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]
}`

// What a node's owner says of all its Pods.
func TestSettingsOfAllPods(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, "--kubelet-arg", "seccomp-default=true,max-pods=2,container-log-max-size=64Ki,container-log-max-files=3")
	const script = "grep Seccomp: /proc/self/status"
	if log := c.secure("silent", script, corev1.SecurityContext{}); !strings.Contains(log, "Seccomp:\t2") {
		t.Errorf("who says nothing is not confined: %q", log)
	}
	unconfined := corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}
	if log := c.secure("unconfined", script, unconfined); !strings.Contains(log, "Seccomp:\t0") {
		t.Errorf("who wants no filter has one: %q", log)
	}
	talker := c.startPod(pod("talker", "while :; do head -c 20000 /dev/zero | tr '\\0' x | fold -w 100; sleep 0.2; done"))
	directory := filepath.Join(c.host.LogDir, talker.Namespace+"_talker_"+string(talker.UID), "main")
	c.retry(func() error { // once 64 KiB are written, and looked at again
		if files, err := filepath.Glob(filepath.Join(directory, "*")); err != nil || len(files) != 3 {
			return fmt.Errorf("%q are kept, %v", files, err)
		}
		return nil
	})
	c.create(pod("second", ""))
	c.create(pod("third", ""))
	c.awaitEvent("third", "FailedScheduling", "Too many pods")
}

// Filters of system calls: the runtime's own, none, and one of the node's files.
func TestSeccomp(t *testing.T) {
	c := shared(t)
	profiles := filepath.Join(c.host.DataDir, "agent", "seccomp", c.namespace)
	if err := os.MkdirAll(profiles, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(profiles, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("no-chmod.json", noChmod)
	write("broken.json", "{")
	profile := func(kind corev1.SeccompProfileType, file string) corev1.SecurityContext {
		p := &corev1.SeccompProfile{Type: kind}
		if file != "" {
			p.LocalhostProfile = ptr(c.namespace + "/" + file)
		}
		return corev1.SecurityContext{SeccompProfile: p}
	}

	// Neither needs a capability: without a filter root may do both.
	const script = "grep Seccomp: /proc/self/status; unshare -U true 2>&1 && echo unshared; chmod 700 /etc 2>&1 && echo changed; true"
	for name, want := range map[string]struct {
		context   corev1.SecurityContext
		says, not []string
	}{
		"default":    {profile(corev1.SeccompProfileTypeRuntimeDefault, ""), []string{"Seccomp:\t2", "not permitted", "changed"}, []string{"unshared"}},
		"unconfined": {profile(corev1.SeccompProfileTypeUnconfined, ""), []string{"Seccomp:\t0", "unshared", "changed"}, nil},
		"none-named": {corev1.SecurityContext{}, []string{"Seccomp:\t0", "unshared", "changed"}, nil},
		"own":        {profile(corev1.SeccompProfileTypeLocalhost, "no-chmod.json"), []string{"Seccomp:\t2", "unshared", "ermission denied"}, []string{"changed"}},
	} {
		log := c.secure(name, script, want.context)
		for _, text := range want.says {
			if !strings.Contains(log, text) {
				t.Errorf("%s: no %q in %q", name, text, log)
			}
		}
		for _, text := range want.not {
			if strings.Contains(log, text) {
				t.Errorf("%s: %q is in %q", name, text, log)
			}
		}
	}

	for file, says := range map[string]string{
		"none.json":   `cannot load seccomp profile "` + profiles + `/none.json": open ` + profiles + "/none.json: no such file or directory",
		"broken.json": `decoding seccomp profile failed "` + profiles + `/broken.json": unexpected end of JSON input`,
	} {
		name, _, _ := strings.Cut(file, ".")
		p := pod(name, script+"; exec sleep 1000")
		p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: profile(corev1.SeccompProfileTypeLocalhost, file).SeccompProfile}
		c.create(p)
		p = c.awaitPod(name, waitingFor("CreateContainerError"))
		c.mustContain(mainStatus(p).State.Waiting.Message, says)
		c.awaitEvent(name, "Failed", says)
		write(file, noChmod)
		c.awaitPod(name, podReady)
		c.awaitLog(name, "Seccomp:\t2", "ermission denied")
	}
}
