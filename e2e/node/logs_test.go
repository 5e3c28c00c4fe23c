package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Logs of several containers, and of one that was restarted.
func TestLogsOfContainers(t *testing.T) {
	c := shared(t)
	p := pod("many", `n=$(cat /v/n 2>/dev/null); n=$((n + 1)); echo $n >/v/n; echo attempt $n; [ $n = 1 ] && exit 3; exec sleep 1000`)
	mounted(p, "v", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	first, side := *p.Spec.Containers[0].DeepCopy(), *p.Spec.Containers[0].DeepCopy()
	first.Name, first.Command = "first", []string{"sh", "-c", "echo begun"}
	side.Name, side.Command = "side", []string{"sh", "-c", "for i in 1 2 3; do echo side $i; done; exec sleep 1000"}
	p.Spec.InitContainers, p.Spec.Containers = []corev1.Container{first}, append(p.Spec.Containers, side)
	c.create(p)
	c.awaitPod("many", func(p *corev1.Pod) bool { return podReady(p) && mainStatus(p).RestartCount == 1 })
	c.retry(func() error {
		got := c.kubectl("logs", "many", "--all-containers")
		if !strings.Contains(got, "side 3\n") || !strings.Contains(got, "attempt 2\n") {
			return fmt.Errorf("not all is written yet: %q", got)
		}
		return nil
	})
	// Of several containers kubectl asks in no order.
	for _, one := range []struct {
		args, want []string
	}{
		{[]string{"--all-containers", "--prefix"}, []string{"[pod/many/first] begun\n", "[pod/many/main] attempt 2\n", "[pod/many/side] side 1\n[pod/many/side] side 2\n[pod/many/side] side 3\n"}},
		{[]string{"--all-containers", "--tail=1"}, []string{"begun\n", "attempt 2\n", "side 3\n"}},
		{[]string{"--all-containers", "--limit-bytes=6"}, []string{"begun\n", "attemp", "side 1"}},
		{[]string{"--all-containers", "--since=1h"}, []string{"begun\n", "attempt 2\n", "side 1\nside 2\nside 3\n"}},
		{[]string{"-c", "side", "--tail=2"}, []string{"side 2\nside 3\n"}},
		{[]string{"-c", "side", "--tail=1", "--limit-bytes=6"}, []string{"side 3"}},
		{[]string{"-c", "main", "--previous"}, []string{"attempt 1\n"}},
	} {
		got := c.kubectl(append([]string{"logs", "many"}, one.args...)...)
		rest := got
		for _, part := range one.want {
			rest = strings.Replace(rest, part, "", 1)
			c.mustContain(got, part)
		}
		if rest != "" {
			t.Errorf("%v: %q, want %q alone", one.args, got, one.want)
		}
	}
	stamped := c.kubectl("logs", "many", "--all-containers", "--timestamps")
	for line := range strings.Lines(stamped) {
		stamp, _, _ := strings.Cut(line, " ")
		if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	if n := strings.Count(stamped, "\n"); n != 5 {
		t.Errorf("%d lines with their time: %q", n, stamped)
	}
}

// Who follows a log across its rotation gets each line once.
func TestFollowAcrossRotation(t *testing.T) {
	c := shared(t)
	const before, after = 120_000, 1000
	p := once("talker", fmt.Sprintf(`pad=$(head -c 100 /dev/zero | tr '\0' x); seq 1 %d | sed "s/$/ $pad/"
while [ ! -e /go ]; do sleep 0.1; done; seq %d %d`, before, before+1, before+after))
	p = c.startPod(p)
	follow := c.follow("logs", "-f", "talker")
	follow.until(strconv.Itoa(before) + " ")
	dir := filepath.Join(c.host.LogDir, p.Namespace+"_"+p.Name+"_"+string(p.UID), "main")
	c.retry(func() error {
		if files, err := filepath.Glob(filepath.Join(dir, "0.log.*")); err != nil || len(files) == 0 {
			return fmt.Errorf("not rotated yet: %w", os.ErrNotExist)
		}
		return nil
	})
	c.exec("talker", "touch /go")
	rest := follow.rest()
	next := 1
	for line := range strings.Lines(follow.read.String() + rest) {
		if number, _, _ := strings.Cut(strings.TrimSpace(line), " "); number != strconv.Itoa(next) {
			t.Fatalf("line %d begins %q", next, number)
		}
		next++
	}
	if next != before+after+1 {
		t.Errorf("%d lines, want %d", next-1, before+after)
	}
	if got := c.kubectl("logs", "talker", "--tail=2"); got != fmt.Sprintf("%d\n%d\n", before+after-1, before+after) {
		t.Errorf("the last lines: %q", got)
	}
}
