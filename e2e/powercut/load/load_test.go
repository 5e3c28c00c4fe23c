package load

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// rehearsal is a boot without a machine: writers on a real engine, one commit
// after the other, and a model that hears of all but the last ones.
type rehearsal struct {
	t       *testing.T
	path    string
	engine  *bolt.Engine
	model   *Model
	plan    Plan
	writers []*Writer
	clock   time.Duration
}

func newRehearsal(t *testing.T) *rehearsal {
	return &rehearsal{t: t, path: filepath.Join(t.TempDir(), "store.db"), model: NewModel()}
}

// found opens the store and lets the model judge what is in it, after tamper.
func (r *rehearsal) found(tamper func(map[store.Key]Held)) []string {
	r.t.Helper()
	e, err := bolt.Open(r.path, bolt.Options{NoSync: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { e.Close() })
	r.engine = e
	records := map[store.Key]Held{}
	names, err := e.Buckets(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, bucket := range names {
		err := e.Scan(context.Background(), bucket, func(record store.Record) error {
			records[record.Key] = Held{DigestOf(record.Value), record.Revision}
			return nil
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	there := maps.Clone(records)
	if tamper != nil {
		tamper(records)
	}
	wrong := r.model.Found(e.Revision(), records)
	r.plan = Plan{Seed: 7, Boot: r.plan.Boot + 1, Writers: 3, Window: time.Hour}
	r.model.Start(r.plan)
	r.writers = nil
	for id := range r.plan.Writers {
		r.writers = append(r.writers, NewWriter(r.plan, id, there))
	}
	return wrong
}

// commit makes a writer's next commit; told is whether the model hears of it.
func (r *rehearsal) commit(writer int, told bool) []store.Op {
	r.t.Helper()
	ops, _ := r.writers[writer].Next()
	revisions, err := r.engine.Commit(context.Background(), ops)
	if err != nil {
		r.t.Fatal(err)
	}
	r.writers[writer].Done(ops, revisions)
	r.clock += time.Millisecond
	if told {
		if err := r.model.Ack(Ack{Writer: writer, Begin: r.clock, End: r.clock + 1, Revisions: revisions}); err != nil {
			r.t.Fatal(err)
		}
	}
	return ops
}

func (r *rehearsal) close() {
	r.t.Helper()
	if err := r.engine.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// TestSound: a store that loses nothing is never accused, whether the last
// commit of each writer was heard of or not.
func TestSound(t *testing.T) {
	r := newRehearsal(t)
	for boot := range 8 {
		if wrong := r.found(nil); len(wrong) > 0 {
			t.Fatalf("boot %d: %v", boot, wrong)
		}
		for i := range 300 {
			r.commit(i%3, true)
		}
		for writer := range boot % 4 {
			r.commit(writer, false)
		}
		r.close()
	}
	if r.model.Operations < 1000 {
		t.Errorf("only %d operations", r.model.Operations)
	}
}

// durable returns the newest key that only durable commits wrote.
func (r *rehearsal) durable() (newest store.Key) {
	var last store.Revision
	for _, w := range r.writers {
		for key, held := range w.Held() {
			if key.Bucket != leaseBucket && held.Revision > last {
				newest, last = key, held.Revision
			}
		}
	}
	return newest
}

// TestAccused: what a store must not do is found out.
func TestAccused(t *testing.T) {
	for _, c := range []struct {
		name   string
		want   string
		tamper func(r *rehearsal, records map[store.Key]Held)
	}{
		{"a lost write", "is missing", func(r *rehearsal, records map[store.Key]Held) { delete(records, r.durable()) }},
		{"an older value", "has another value", func(r *rehearsal, records map[store.Key]Held) {
			key := r.durable()
			records[key] = Held{records[key].Digest ^ 2, records[key].Revision - 1}
		}},
		{"another revision", "acknowledged was", func(r *rehearsal, records map[store.Key]Held) {
			key := r.durable()
			records[key] = Held{records[key].Digest, records[key].Revision + 1e6}
		}},
		{"one revision twice", "have the same revision", func(r *rehearsal, records map[store.Key]Held) {
			keys := slices.Collect(maps.Keys(records))
			records[keys[0]] = Held{records[keys[0]].Digest, records[keys[1]].Revision}
		}},
		{"a key from nowhere", "was never written", func(r *rehearsal, records map[store.Key]Held) {
			records[store.Key{Bucket: "bucket0", Name: "9/9"}] = Held{5, 5}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRehearsal(t)
			r.found(nil)
			for i := range 200 {
				r.commit(i%3, true)
			}
			r.close()
			wrong := r.found(func(records map[store.Key]Held) { c.tamper(r, records) })
			if !slices.ContainsFunc(wrong, func(line string) bool { return strings.Contains(line, c.want) }) {
				t.Errorf("found %q, want one that says %q", wrong, c.want)
			}
		})
	}
}

// TestHalf: of a commit under way, one record as after it and the others as
// before.
func TestHalf(t *testing.T) {
	r := newRehearsal(t)
	r.found(nil)
	for range 40 {
		before := r.writers[0].Held()
		ops := r.commit(0, false)
		var puts []store.Key
		for _, op := range ops {
			if op.Action == store.Put && op.Key.Bucket != leaseBucket {
				puts = append(puts, op.Key)
			}
		}
		r.close()
		tear := func(records map[store.Key]Held) {
			if held, was := before[puts[0]]; was {
				records[puts[0]] = held
			} else {
				delete(records, puts[0])
			}
		}
		if len(puts) < 2 {
			if wrong := r.found(nil); len(wrong) > 0 {
				t.Fatalf("nothing is torn, found %q", wrong)
			}
			continue
		}
		wrong := r.found(tear)
		if len(wrong) != 1 || !strings.Contains(wrong[0], "under way") {
			t.Fatalf("found %q, want the torn commit", wrong)
		}
		return
	}
	t.Fatal("no commit put two records")
}

// TestReused: a revision acknowledged twice, or not above that of the opening.
func TestReused(t *testing.T) {
	m := NewModel()
	if wrong := m.Found(10, nil); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	m.Start(Plan{Seed: 1, Writers: 1})
	ack := func(from store.Revision) error {
		ops, _ := NewWriter(Plan{Seed: 1}, 0, nil).Next()
		a := Ack{End: 1}
		for i := range ops {
			a.Revisions = append(a.Revisions, from+store.Revision(i))
		}
		m.Start(Plan{Seed: 1, Writers: 1})
		return m.Ack(a)
	}
	if err := ack(11); err != nil {
		t.Fatal(err)
	}
	for _, from := range []store.Revision{11, 5} {
		if err := ack(from); err == nil {
			t.Errorf("revision %d was accepted again", from)
		}
	}
	if wrong := m.Found(10, nil); len(wrong) == 0 || !strings.Contains(fmt.Sprint(wrong), "had been handed out") {
		t.Errorf("found %q, want the counter that went back", wrong)
	}
}

// TestLazy: what may be missing of a lazy write, when, and how it must look.
func TestLazy(t *testing.T) {
	key := store.Key{Bucket: leaseBucket, Name: "0/0"}
	const window = 100 * time.Millisecond
	for _, c := range []struct {
		name  string
		begin time.Duration // of a durable commit after two lazy writes at 1 and 2 ms
		found Held
		want  string
	}{
		{"the newest", 0, Held{22, 12}, ""},
		{"the newest, stamped", 0, Held{22, 99}, ""},
		{"older, stamped", 0, Held{21, 99}, ""},
		{"older, as it was", 0, Held{21, 11}, "needs a fresh one"},
		{"what was durable, stamped", 0, Held{20, 99}, ""},
		{"behind what was durable", 0, Held{19, 99}, "has another value"},
		{"gone", 0, Held{}, "is missing"},
		{"lost before the window's end", 40 * time.Millisecond, Held{20, 99}, ""},
		{"the older of two after it", 51 * time.Millisecond, Held{21, 99}, ""},
		{"lost after it", 51 * time.Millisecond, Held{20, 99}, "has another value"},
		{"the older of two much later", 60 * time.Millisecond, Held{21, 99}, "has another value"},
	} {
		m := NewModel()
		m.plan.Window, m.last = window, 20
		m.lazy[key] = true
		m.versions[key] = []version{
			{Held{20, 10}, 0}, {Held{21, 11}, time.Millisecond}, {Held{22, 12}, 2 * time.Millisecond},
		}
		if c.begin > 0 {
			m.carried(NewWriter(m.plan, 0, nil), nil, c.begin)
		}
		records := map[store.Key]Held{}
		if c.found.Digest != Absent {
			records[key] = c.found
		}
		wrong := strings.Join(m.Found(100, records), "; ")
		if (wrong == "") != (c.want == "") || !strings.Contains(wrong, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, wrong, c.want)
		}
	}
}

// TestWindow: without any durable commit, a lazy write is on disk when its
// window is long over and the committer has been seen at work since.
func TestWindow(t *testing.T) {
	key := store.Key{Bucket: leaseBucket, Name: "0/0"}
	m := NewModel()
	m.lazy[key] = true
	lazy := Held{21, 11}
	m.versions[key] = []version{{Held{20, 10}, 0}, {lazy, time.Millisecond}}
	m.waiting = []wait{{key: key, held: lazy, due: time.Second}}
	for i := range enough {
		if len(m.versions[key]) != 2 {
			t.Fatalf("on disk after %d commits", i)
		}
		m.pass(Ack{Begin: time.Second / 2})
		m.pass(Ack{Begin: 2 * time.Second})
	}
	if got := m.versions[key]; len(got) != 1 || got[0].Held != lazy {
		t.Errorf("the versions are %v, want the last one alone", got)
	}
}

// TestClosed: after a clean end nothing is missing, and nothing is stamped.
func TestClosed(t *testing.T) {
	r := newRehearsal(t)
	for boot := range 4 {
		if wrong := r.found(nil); len(wrong) > 0 {
			t.Fatalf("boot %d: %v", boot, wrong)
		}
		for i := range 100 {
			r.commit(i%3, true)
		}
		r.close()
		r.model.Close()
	}
	var lease store.Key
	wrong := r.found(func(records map[store.Key]Held) {
		for key, held := range records {
			if key.Bucket == leaseBucket {
				lease = key
				records[key] = Held{held.Digest, held.Revision + 1e6}
				return
			}
		}
	})
	if !slices.ContainsFunc(wrong, func(line string) bool { return strings.HasPrefix(line, lease.String()+" has revision") }) {
		t.Errorf("found %q, want %s to be stamped", wrong, lease)
	}
}

// TestUnheard: a lazy write that nobody heard of is stamped like any other,
// also later.
func TestUnheard(t *testing.T) {
	key := store.Key{Bucket: leaseBucket, Name: "0/0"}
	for seed := range uint64(100) {
		m := NewModel()
		m.Start(Plan{Seed: seed, Writers: 1})
		ops, lazy := NewWriter(Plan{Seed: seed}, 0, nil).Next()
		if !lazy || ops[0].Key != key {
			continue
		}
		held := Held{DigestOf(ops[0].Value), 5}
		if wrong := m.Found(5, map[store.Key]Held{key: held}); len(wrong) > 0 {
			t.Fatal(wrong)
		}
		held.Revision = 9
		if wrong := m.Found(9, map[store.Key]Held{key: held}); len(wrong) > 0 {
			t.Fatal(wrong)
		}
		return
	}
	t.Fatal("no seed begins with a lazy write to " + key.String())
}
