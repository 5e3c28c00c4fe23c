package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
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
			pass(slowest + quiet)
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

// A file that is damaged is not used, and does not keep the node from starting.
// Damage to the last record cannot be told from the power's end.
func TestDamage(t *testing.T) {
	path, ends := history(t)
	text := readFile(t, path)
	last := int64(0) // where the last record begins
	for end := range ends {
		if end < int64(len(text)) {
			last = max(last, end)
		}
	}
	for i := range text {
		for _, with := range []byte{0xff, 0x01} {
			damaged := slices.Clone(text)
			damaged[i] ^= with
			writeFile(t, path, damaged)
			got := open(t, path, "here").names()
			if got != nil && (int64(i) < last || !slices.Equal(got, ends[last])) {
				t.Fatalf("damaged at %d of %d: remembered %q", i, len(text), got)
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
