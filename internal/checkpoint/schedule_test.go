package checkpoint

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func running(at time.Time, ready bool) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Ready: ready, State: corev1.ContainerState{
			Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at)},
		}}}
	}
}

// When what changes reaches the disk.
func TestWhenItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.put("a", running(time.Now(), true))
		b := start(t, s, path)
		b.follow()
		pass(2 * quiet)
		written := size(t, path)
		grows := func(what string, after time.Duration, want bool) {
			t.Helper()
			pass(after)
			if now := size(t, path); (now > written) != want {
				t.Errorf("%s: after %s the file has %d bytes, was %d; want growth: %t", what, after, now, written, want)
			}
			written = size(t, path)
		}
		s.put("a", label("x"))
		grows("a new label", quiet/2, false)
		grows("a new label", quiet, true)
		for i := range 40 {
			s.put("a", label(fmt.Sprint(i)))
			pass(quiet / 2)
		}
		grows("a label that never rests", 0, true)
		pass(2 * quiet)
		written = size(t, path)
		s.put("a", running(time.Now(), false))
		grows("a Pod that is not ready any more", most+quiet, false)
		grows("a Pod that is not ready any more", lazily, true)
		s.put("a", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		grows("a Pod that has ended", 2*quiet, true)
		s.put("a", func(p *corev1.Pod) { p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}} })
		grows("field managers", 2*lazily, false)
		grows("a day on which nothing happens", 24*time.Hour, false)
		s.put("a", running(time.Now(), true))
		s.leave()
		grows("the server's end", 0, true)
		s.come()
		pass(lastProbe)
		s.put("a", running(time.Now(), false))
		b.stop()
		grows("the end of the node", 0, true)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file is %v, %v", info.Mode(), err)
		}
	})
}

// Changes that never end are written ever more rarely, but are written when the
// server goes.
func TestNeverEndingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.put("a")
		b := start(t, s, path)
		core, log := observer.New(zap.DebugLevel)
		b.c.Log = zap.New(core)
		b.follow()
		churn := func(d time.Duration) (writes int) {
			log.TakeAll()
			for begun := time.Now(); time.Since(begun) < d; {
				s.put("a", label(time.Now().String()))
				pass(1500 * time.Millisecond)
			}
			return log.FilterMessage("written").Len()
		}
		if n := churn(30 * time.Second); n < 3 {
			t.Errorf("%d writes in the first seconds", n)
		}
		churn(10 * time.Minute)
		if n := churn(time.Hour); n < 55 || n > 61 {
			t.Errorf("%d writes in an hour", n)
		}
		s.put("last")
		s.leave()
		if got := open(t, path, "here").names(); !slices.Equal(got, []string{"a", "last"}) {
			t.Errorf("when the server goes, %q are on the disk", got)
		}
		s.come()
		pass(rested + time.Minute)
		log.TakeAll()
		s.put("b")
		pass(2 * quiet)
		if n := log.FilterMessage("written").Len(); n != 1 {
			t.Errorf("%d writes after a rest", n)
		}
		b.stop()
	})
}

// A day on which nothing happens but what always does: ten Pods have their tokens
// renewed, and say that they live.
func TestIdleDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newCluster(t)
		s.padding = 900
		b := start(t, s, somewhere(t))
		core, log := observer.New(zap.DebugLevel)
		b.c.Log = zap.New(core)
		b.follow()
		var pods []string
		for i := range 10 {
			pods = append(pods, fmt.Sprint("p", i))
			s.put(pods[i], running(time.Now(), true))
		}
		for range 30 {
			for _, pod := range pods {
				if _, err := b.client.CoreV1().ServiceAccounts("default").CreateToken(b.ctx, "default", tokenRequest(pod), metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				pass(10 * time.Second)
			}
			pass(46 * time.Minute)
		}
		b.stop()
		writes, bytes := 0, int64(0)
		for _, e := range log.FilterMessage("written").All() {
			writes++
			bytes += e.ContextMap()["bytes"].(int64)
		}
		if writes > 40 || bytes > 1<<20 {
			t.Errorf("%d writes, %d bytes", writes, bytes)
		}
		t.Logf("%d writes, %d bytes", writes, bytes)
	})
}
