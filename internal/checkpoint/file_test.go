package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const podsQuestion question = "/api/v1/pods?"

// names are what is remembered of Pods.
func (c *Checkpoint) names() []string {
	var names []string
	if k := c.known[podsQuestion]; k != nil {
		for name := range k.objects {
			names = append(names, strings.TrimPrefix(name, "default/"))
		}
	}
	slices.Sort(names)
	return names
}

// open opens what is at a path, to look at.
func open(t *testing.T, path, cluster string) *Checkpoint {
	t.Helper()
	c := Open(Config{Path: path, Cluster: cluster, Log: zap.NewNop()})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

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

// The file does not grow without end, and each of its states is whole.
func TestWrittenAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		b := start(t, s, path)
		b.follow()
		large := strings.Repeat("x", 100<<10)
		for i := range 60 {
			s.put("a", func(p *corev1.Pod) { p.Annotations = map[string]string{"v": large + fmt.Sprint(i)} })
			s.put(fmt.Sprint("p", i%7))
			pass(2 * quiet)
			if now := size(t, path); now > 3*int64(len(large))+room+1<<16 {
				t.Fatalf("after %d changes the file has %d bytes", i, now)
			}
		}
		b.stop()
		c := open(t, path, "here")
		if got := c.names(); !slices.Equal(got, []string{"a", "p0", "p1", "p2", "p3", "p4", "p5", "p6"}) {
			t.Errorf("remembered: %q", got)
		}
		data, err := c.dataOf(c.known[podsQuestion].objects["default/a"])
		if err != nil || !strings.Contains(string(data), large+"59") {
			t.Errorf("the large one is not what it was last: %d bytes, %v", len(data), err)
		}
	})
}

// history makes a file of several records and returns it, with where each ends
// and what was known by then.
func history(t *testing.T) (path string, ends map[int64][]string) {
	ends = map[int64][]string{}
	synctest.Test(t, func(t *testing.T) {
		s := newCluster(t)
		path = filepath.Join(t.TempDir(), "checkpoint")
		b := start(t, s, path)
		b.follow()
		for _, name := range []string{"a", "b", "c"} {
			pass(most)
			ends[size(t, path)] = b.c.names()
			s.put(name)
		}
		b.stop()
		ends[size(t, path)] = []string{"a", "b", "c"}
		text := readFile(t, path)
		path = filepath.Join(os.TempDir(), fmt.Sprintf("checkpoint-%d", os.Getpid()))
		writeFile(t, path, text)
	})
	t.Cleanup(func() { _ = os.Remove(path) })
	return path, ends
}

// Cut off anywhere, the file is what it was after the last whole record, and can
// be gone on with.
func TestCutOff(t *testing.T) {
	path, ends := history(t)
	text := readFile(t, path)
	for n := range len(text) + 1 {
		for _, filled := range []bool{false, true} {
			cut := slices.Clone(text[:n])
			if filled { // with zeros, as a file system may
				cut = append(cut, make([]byte, 64)...)
			}
			writeFile(t, path, cut)
			whole := n
			for filled && whole < len(text) && text[whole] == 0 {
				whole++ // that was a zero before, too
			}
			var want []string
			for end, names := range ends {
				if end <= int64(whole) && len(names) >= len(want) {
					want = names
				}
			}
			c := open(t, path, "here")
			if got := c.names(); !slices.Equal(got, want) && !(filled && got == nil) {
				t.Fatalf("cut off at %d of %d (zeros behind: %t): remembered %q, want %q", n, len(text), filled, got, want)
			}
			if c.file == nil {
				continue
			}
			var w recorder
			w.text(fieldCollection, string(podsQuestion))
			w.text(fieldName, "default/z")
			w.text(fieldData, "z")
			if _, err := c.file.append(w.body); err != nil {
				t.Fatal(err)
			}
			if got := open(t, path, "here").names(); !slices.Equal(got, append(slices.Clone(want), "z")) {
				t.Fatalf("cut off at %d and gone on with: remembered %q", n, got)
			}
		}
	}
}

// A file that is damaged anywhere is not used, and does not keep the node from
// starting; what it says is never something else.
func TestDamage(t *testing.T) {
	path, ends := history(t)
	text := readFile(t, path)
	before := map[string]bool{"[]": true}
	for _, names := range ends {
		before[fmt.Sprint(names)] = true
	}
	for i := range text {
		for _, with := range []byte{0xff, 0x01} {
			damaged := slices.Clone(text)
			damaged[i] ^= with
			writeFile(t, path, damaged)
			c := open(t, path, "here")
			got := c.names()
			if !before[fmt.Sprint(got)] || len(got) == 3 {
				t.Fatalf("damaged at %d: remembered %q", i, got)
			}
		}
	}
}

// A file of another cluster, or of this node in another life, is not used.
func TestOtherCluster(t *testing.T) {
	path, _ := history(t)
	if got := open(t, path, "elsewhere").names(); got != nil {
		t.Errorf("remembered %q", got)
	}
	if got := open(t, path, "here").names(); len(got) != 3 {
		t.Errorf("remembered %q", got)
	}
}

// A disk that fails is told of, and does not end anything; when it works again,
// all is written.
func TestDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir := newCluster(t), t.TempDir()
		path := filepath.Join(dir, "agent", "checkpoint")
		writeFile(t, filepath.Join(dir, "agent"), nil) // in the way of the directory
		s.put("a")
		b := start(t, s, path)
		store, _ := b.follow()
		pass(2 * quiet)
		s.put("b")
		b.wantPods(store, "a", "b")
		if err := os.Remove(filepath.Join(dir, "agent")); err != nil {
			t.Fatal(err)
		}
		pass(again)
		if got := open(t, path, "here").names(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("remembered %q", got)
		}
		// What cannot be appended to is written anew, with all that is known.
		b.c.mu.Lock()
		_ = b.c.file.file.Close()
		b.c.file.file, _ = os.Open(path) // cannot be written
		b.c.mu.Unlock()
		s.put("c")
		pass(2*quiet + again)
		if got := open(t, path, "here").names(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("remembered %q", got)
		}
		b.stop()
	})
}

// What leads on from a moment that is not known is not remembered: it would lack
// what happened in between.
func TestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newCluster(t), somewhere(t)
		s.put("a")
		b := start(t, s, path)
		b.follow()
		b.stop()
		b = start(t, s, path)
		w, err := b.client.CoreV1().Pods("").Watch(b.ctx, metav1.ListOptions{ResourceVersion: "100", AllowWatchBookmarks: true})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range w.ResultChan() {
			}
		}()
		s.revision = 100
		s.put("b")
		w.Stop()
		b.stop()
		if got := open(t, path, "here").names(); got != nil {
			t.Errorf("remembered %q", got)
		}
	})
}

// Former Secrets do not stay on the disk.
func TestFormerSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := somewhere(t)
		b := start(t, newCluster(t), path)
		const q question = "/api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Ds"
		tell := func(value string) {
			secret := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Data: map[string][]byte{"k": []byte(value)}}
			raw, err := secret.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			f, err := formOf(runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Secret"}, Raw: raw})
			if err != nil {
				t.Fatal(err)
			}
			b.c.mu.Lock()
			k := b.c.collect(q)
			k.apiVersion, k.kind, k.revision = "v1", "Secret", "1"
			b.c.put(q, k, f)
			b.c.mu.Unlock()
			pass(2 * quiet)
		}
		tell("former-password")
		tell("present-password")
		pass(scrubbing)
		if text := string(readFile(t, path)); strings.Contains(text, "former-password") || !strings.Contains(text, "present-password") {
			t.Errorf("the file has %q", text)
		}
		b.stop()
	})
}

// What of an object counts as a change, and what has to be written at once.
func TestForms(t *testing.T) {
	node := func(change func(*corev1.Node)) runtime.Unknown {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
		}}
		change(n)
		raw, err := n.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Node"}, Raw: raw}
	}
	pod := func(change func(*corev1.Pod)) runtime.Unknown {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "p"}}
		change(p)
		raw, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Raw: raw}
	}
	theNode, thePod := node(func(*corev1.Node) {}), pod(func(*corev1.Pod) {})
	state := func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}
	}
	for _, c := range []struct {
		what        string
		before, now runtime.Unknown
		sum, atOnce bool
	}{
		{"a heartbeat", theNode, node(func(n *corev1.Node) {
			n.ResourceVersion = "2"
			n.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
		}), false, false},
		{"images", theNode, node(func(n *corev1.Node) { n.Status.Images = []corev1.ContainerImage{{SizeBytes: 1}} }), false, false},
		{"a Node not ready", theNode, node(func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }), true, false},
		{"a Node's address", theNode, node(func(n *corev1.Node) { n.Status.Addresses[0].Address = "192.0.2.2" }), true, true},
		{"a Node's Pod range", theNode, node(func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.42.1.0/24"} }), true, true},
		{"a Pod's revision", thePod, pod(func(p *corev1.Pod) { p.ResourceVersion = "2" }), false, false},
		{"a Pod's label", thePod, pod(label("1")), true, true},
		{"a Pod's condition", thePod, pod(func(p *corev1.Pod) { p.Status.Conditions = []corev1.PodCondition{{Type: "X"}} }), true, false},
		{"a Pod's address", thePod, pod(func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.42.0.2"}} }), true, true},
		{"the end of a container that starts again", pod(func(p *corev1.Pod) { p.Spec.RestartPolicy = "Always" }),
			pod(func(p *corev1.Pod) { p.Spec.RestartPolicy = "Always"; state(p) }), true, false},
		{"the end of a container that does not", pod(func(p *corev1.Pod) { p.Spec.RestartPolicy = "Never" }),
			pod(func(p *corev1.Pod) { p.Spec.RestartPolicy = "Never"; state(p) }), true, true},
	} {
		before, err := formOf(c.before)
		if err != nil {
			t.Fatal(err)
		}
		now, err := formOf(c.now)
		if err != nil {
			t.Fatal(err)
		}
		if changed, atOnce := before.sum != now.sum, before.core != now.core; changed != c.sum || atOnce != c.atOnce {
			t.Errorf("%s: a change %t, at once %t; want %t, %t", c.what, changed, atOnce, c.sum, c.atOnce)
		}
	}
}
