package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
)

const damagePages = 64

// damageStore makes a file with all that there is in files: branches, leaves,
// records that go on over pages, buckets within their header, empty ones, lazy
// records, and the past in free pages.
//
// kind is "clean" or "unclean", as it was stopped, or "many": with so many
// buckets that their tree has several pages.
func damageStore(t testing.TB, kind string) (data []byte, past []map[store.Key]string) {
	t.Helper()
	path := filepath.Join(fastDir(t), testFile)
	e := mustOpen(t, path, Options{NoSync: true, Reserve: 100})
	random := rand.New(rand.NewPCG(7, 7))
	value := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	op := func(bucket, name string, n int) store.Op {
		return store.Op{Key: store.Key{Bucket: bucket, Name: name}, Expect: store.Any, Value: value(n)}
	}
	must := func(ops ...store.Op) {
		t.Helper()
		revisions, err := e.Commit(context.Background(), ops)
		if err != nil {
			t.Fatal(err)
		}
		now := map[store.Key]string{}
		if len(past) > 0 {
			now = maps.Clone(past[len(past)-1])
		}
		for i, op := range ops {
			if delete(now, op.Key); op.Action == store.Put {
				now[op.Key] = fmt.Sprintf("%d %s", revisions[i], op.Value)
			}
		}
		past = append(past, now)
	}
	for i := range 3 {
		if kind == "many" {
			for j := range 90 {
				must(op(fmt.Sprintf("widgets-%02d.example.org", j), fmt.Sprintf("default/w%d", i), 40))
			}
			continue
		}
		must(op("namespaces", fmt.Sprintf("namespace-%d", i), 60), op("!clusterips", fmt.Sprintf("10.43.0.%d", i), 9))
		must(op("configmaps", fmt.Sprintf("default/large-%d", i), 5000+2000*i))
		must(op("events", fmt.Sprintf("default/event-%d", i), 300))
	}
	pods := 160
	if kind == "many" {
		pods = 90
	}
	for i := range pods {
		must(op("pods", fmt.Sprintf("default/pod-%02d", i), 300+random.IntN(500)))
	}
	for i := range 12 {
		beat := op("leases.coordination.k8s.io", fmt.Sprintf("kube-node-lease/node-%02d", i), 90)
		beat.Lazy = i%2 == 0
		must(beat)
	}
	for i := range pods / 6 {
		must(op("pods", fmt.Sprintf("default/pod-%02d", i*4), 300+random.IntN(600)))
	}
	for i := range 3 {
		gone := op("events", fmt.Sprintf("default/event-%d", i), 0)
		gone.Action, gone.Value = store.Delete, nil
		if kind != "many" {
			must(gone)
		}
		gone.Key = store.Key{Bucket: "pods", Name: fmt.Sprintf("default/pod-%02d", i*9+1)}
		must(gone)
	}
	if err := e.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if kind != "unclean" {
		e.Close()
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	walked, err := walkPages(data)
	if err != nil {
		t.Fatal(err)
	}
	if walked.high > damagePages || walked.high < damagePages/2 {
		t.Fatalf("the file has %d pages, want %d at most and not many fewer", walked.high, damagePages)
	}
	return append(data, make([]byte, damagePages*pageSize)...)[:damagePages*pageSize], past
}

// fastDir is a directory in memory if there is one: the tests are about what is
// read, not about when it is on disk.
func fastDir(t testing.TB) string {
	in := "/dev/shm"
	if own := os.Getenv(damageChild + "_DIR"); own != "" {
		in = own // the parent removes it, whatever becomes of us
	}
	dir, err := os.MkdirTemp(in, "skiff-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// oracle knows which records a file has and where the bytes of each are. It asks
// bbolt, and shares no code with what is tested.
type oracle struct {
	data     []byte
	records  map[store.Key]string   // revision and value
	opened   map[store.Key]string   // after an unclean stop lazy records have other revisions
	at       []*place               // by byte; nil: no record's
	past     []map[store.Key]string // all that the file ever held
	leaf     []int                  // by page: the first page of what it is part of, 0: of nothing
	branch   map[int]string         // the bucket of each branch
	tops     []int                  // pages of the tree of buckets
	revision store.Revision         // the store opens with
	reserved store.Revision         // may have been handed out
}

type place struct {
	key    store.Key
	inName bool
}

func newOracle(t testing.TB, data []byte, past []map[store.Key]string) *oracle {
	t.Helper()
	path := filepath.Join(fastDir(t), testFile)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	o := &oracle{
		data: data, past: past, records: map[store.Key]string{}, at: make([]*place, len(data)),
		leaf: make([]int, damagePages), branch: map[int]string{}, tops: topPages(data),
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	base := db.Info().Data
	locate := func(k, v []byte) int {
		if at := int(uintptr(unsafe.Pointer(unsafe.SliceData(k))) - base); at >= 0 && at < len(data) {
			return at
		}
		// What lies within a bucket's header bbolt may have copied out of its page.
		both := append(bytes.Clone(k), v...)
		for id, head := range o.leaf {
			if i := bytes.Index(data[id*pageSize:][:pageSize], both); i >= 0 && head > 0 {
				return id*pageSize + i
			}
		}
		t.Fatalf("no page has %q", k)
		return 0
	}
	spread := func(from, n int, p *place) {
		for i := range n {
			o.at[from+i] = p
		}
	}
	err = db.View(func(tx *bbolt.Tx) error {
		state := tx.Bucket([]byte("meta")).Get([]byte("state"))
		o.reserved = store.Revision(binary.BigEndian.Uint64(state[9:]))
		for id := 2; id < damagePages; id++ {
			page, err := tx.Page(id)
			if err != nil || page == nil || page.Type != "leaf" && page.Type != "branch" {
				continue
			}
			for i := range page.OverflowCount + 1 {
				o.leaf[id+i] = id
			}
			if page.Type == "branch" {
				o.branch[id] = "pods" // the only bucket that is so large
			}
			id += page.OverflowCount
		}
		return tx.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
			name, ok := strings.CutPrefix(string(bucket), "b/")
			if !ok {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
				key := store.Key{Bucket: name, Name: string(k)}
				o.records[key] = fmt.Sprintf("%d %s", binary.BigEndian.Uint64(v[2:]), v[14:])
				at := locate(k, v)
				spread(at, len(k), &place{key, true})
				spread(at+len(k), len(v), &place{key, false})
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// topPages are the pages of the tree of buckets by the newer meta page: one, or a
// branch and its leaves.
func topPages(data []byte) []int {
	field := func(slot, at int) uint64 { return binary.NativeEndian.Uint64(data[slot*4096+16+at:]) }
	slot := 0
	if field(1, 48) > field(0, 48) {
		slot = 1
	}
	pages := []int{int(field(slot, 16))}
	if root := data[pages[0]*4096:]; root[8] == 1 {
		for i := range int(binary.NativeEndian.Uint16(root[10:])) {
			pages = append(pages, int(binary.NativeEndian.Uint64(root[16+16*i+8:])))
		}
	}
	return pages
}

// without returns the records but some.
func (o *oracle) without(keys ...store.Key) map[store.Key]string {
	rest := maps.Clone(o.records)
	for _, key := range keys {
		delete(rest, key)
	}
	return rest
}

// judge says what is wrong with what came of a file of which one byte is not as
// it was.
func (o *oracle) judge(s seen, at int) error {
	var victim *place
	expected := o.records
	if victim = o.at[at]; victim != nil {
		expected = o.without(victim.key)
	}
	switch {
	case s.checkErr != nil:
		return fmt.Errorf("check: %w", s.checkErr)
	case s.saveErr != nil:
		return fmt.Errorf("salvage: %w", s.saveErr)
	case !maps.Equal(s.salvaged, expected):
		return fmt.Errorf("salvaged: %s; told: %v", difference(expected, s.salvaged), s.damages)
	case s.after != 0 && s.after <= o.reserved:
		return fmt.Errorf("the salvaged store goes on at revision %d, %d may have been handed out", s.after, o.reserved)
	}
	if err := o.judgeErrors(s); err != nil {
		return err
	}
	if victim == nil {
		return nil
	}
	named := slices.ContainsFunc(s.damages, func(d store.Damage) bool {
		return d.Key == victim.key || victim.inName && d.Key.Bucket == victim.key.Bucket &&
			(oneByteApart(d.Key.Name, victim.key.Name) || d.Key.Name == "" && strings.HasPrefix(d.Reason, "a record "))
	})
	switch {
	case !named:
		return fmt.Errorf("%s is damaged; told: %v", victim.key, s.damages)
	case s.openErr == nil && s.scanErrs[victim.key.Bucket] == nil:
		return fmt.Errorf("%s is damaged; the scan told nothing", victim.key)
	}
	return nil
}

// judgeErrors checks that whatever was read is right, and that every refusal is
// a clear one of which the check knows.
func (o *oracle) judgeErrors(s seen) error {
	refusals := []error{s.readErr, s.openErr}
	for bucket, err := range s.scanErrs {
		refusals = append(refusals, err)
		for key := range o.records {
			if key.Bucket == bucket && s.opened != nil {
				s.opened[key] = o.opened[key] // told to be damaged, so nothing is claimed of it
			}
		}
	}
	for _, err := range refusals {
		switch {
		case err == nil:
		case !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), goOn):
			return fmt.Errorf("not a clear error: %w", err)
		case len(s.damages) == 0 && s.checkErr == nil:
			return fmt.Errorf("the check found nothing, but: %w", err)
		}
	}
	if s.readErr == nil && !maps.Equal(s.read, o.records) {
		return fmt.Errorf("read: %s", difference(o.records, s.read))
	}
	if s.openErr == nil && !maps.Equal(s.opened, o.opened) {
		return fmt.Errorf("opened and scanned: %s; %v", difference(o.opened, s.opened), s.scanErrs)
	}
	if s.openErr == nil && s.revision != o.revision && (len(s.scanErrs) == 0 || s.revision < o.reserved) {
		return fmt.Errorf("opened at revision %d, want %d", s.revision, o.revision)
	}
	return nil
}

func oneByteApart(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n == 1
}

// difference names the records that are not the same.
func difference(want, have map[store.Key]string) string {
	var text []string
	for key, value := range want {
		if got, ok := have[key]; !ok {
			text = append(text, "lost "+key.String())
		} else if got != value {
			text = append(text, "changed "+key.String())
		}
	}
	for key := range have {
		if _, ok := want[key]; !ok {
			text = append(text, "not there before "+key.String())
		}
	}
	slices.Sort(text)
	if len(text) > 12 {
		text = append(text[:12], fmt.Sprint(len(text)-12, " more"))
	}
	return strings.Join(text, ", ")
}

// judgePages says what is wrong with what came of a file of which some pages
// are not what they were, and are nowhere else unless they were swapped.
func (o *oracle) judgePages(s seen, pages []int, swapped bool) error {
	if err := o.judgeErrors(s); err != nil {
		return err
	}
	if s.saveErr != nil {
		if errors.Is(s.saveErr, store.ErrDamaged) && errors.Is(s.checkErr, store.ErrDamaged) && slices.ContainsFunc(pages, o.top) {
			return nil
		}
		return fmt.Errorf("salvage: %w", s.saveErr)
	}
	if slices.ContainsFunc(pages, o.top) && !swapped {
		// Which buckets there were is gone: what is left is the state before.
		durable := maps.Clone(s.salvaged)
		// Lazy writes came to disk later than they were made.
		maps.DeleteFunc(durable, func(k store.Key, _ string) bool { return strings.HasPrefix(k.Bucket, "leases") })
		for _, past := range append(o.past, nil) {
			part := maps.Clone(durable)
			maps.DeleteFunc(part, func(k store.Key, v string) bool { return past[k] == v })
			if len(part) == 0 && len(s.damages) > 0 {
				return nil
			}
		}
		return fmt.Errorf("salvaged what never was: %s", difference(o.records, s.salvaged))
	}
	lost := o.loses(pages, swapped)
	may := map[store.Key]bool{}
	for _, id := range pages {
		if bucket, ok := o.branch[id]; ok && len(pages) > 2 {
			// Without its branch nothing of the bucket can be proved to be whole
			// when parts of it are gone as well.
			for key := range o.records {
				may[key] = may[key] || key.Bucket == bucket
			}
		}
	}
	for _, key := range lost {
		may[key] = may[key] || len(pages) > 2 // of a page that was cut, the rest is still there
	}
	for key := range may {
		if _, kept := s.salvaged[key]; !kept && !slices.Contains(lost, key) {
			lost = append(lost, key)
		} else if kept {
			lost = slices.DeleteFunc(lost, func(k store.Key) bool { return k == key })
		}
	}
	if expected := o.without(lost...); !maps.Equal(s.salvaged, expected) {
		return fmt.Errorf("salvaged: %s; told: %v", difference(expected, s.salvaged), s.damages)
	}
	for _, key := range lost {
		if !slices.ContainsFunc(s.damages, func(d store.Damage) bool {
			return d.Key == key || d.Key == store.Key{Bucket: key.Bucket}
		}) {
			return fmt.Errorf("%s is lost; told: %v", key, s.damages)
		}
	}
	return nil
}

func (o *oracle) top(page int) bool { return slices.Contains(o.tops, page) }

// loses returns the records that are lost with some pages. Pages that were
// swapped can be found again, unless they are part of several that belong
// together.
func (o *oracle) loses(pages []int, swapped bool) (lost []store.Key) {
	size := map[int]int{}
	for _, head := range o.leaf {
		size[head]++
	}
	gone := map[store.Key]bool{}
	for at, place := range o.at {
		page := at / pageSize
		head := o.leaf[page]
		if place == nil || swapped && size[head] == 1 {
			continue
		}
		if slices.Contains(pages, page) || slices.Contains(pages, head) {
			gone[place.key] = true
		}
	}
	return slices.Collect(maps.Keys(gone))
}
