package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
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
	root     int                    // page of the tree of buckets
	blind    map[int]bool           // bytes of which no damage can be noticed: see the README's last paragraph
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
		leaf: make([]int, damagePages), branch: map[int]string{}, root: rootPage(data), blind: map[int]bool{},
	}
	if root := data[o.root*pageSize:]; root[8] == 1 { // a branch
		for i := range int(binary.NativeEndian.Uint16(root[10:])) {
			for j := range 8 {
				o.blind[o.root*pageSize+16+16*i+8+j] = true
			}
		}
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

// rootPage is the page of the tree of buckets by the newer meta page.
func rootPage(data []byte) int {
	field := func(slot, at int) uint64 { return binary.NativeEndian.Uint64(data[slot*4096+16+at:]) }
	slot := 0
	if field(1, 48) > field(0, 48) {
		slot = 1
	}
	return int(field(slot, 16))
}

// without returns the records but some.
func (o *oracle) without(keys ...store.Key) map[store.Key]string {
	rest := maps.Clone(o.records)
	for _, key := range keys {
		delete(rest, key)
	}
	return rest
}

// seen is what came of one damaged file.
type seen struct {
	damages  []store.Damage
	contents Contents
	checkErr error
	read     map[store.Key]string
	readErr  error
	salvaged map[store.Key]string
	saveErr  error
	opened   map[store.Key]string
	openErr  error
	scanErrs map[string]error
	revision store.Revision
	after    store.Revision // of the salvaged store; 0: it was not opened
}

func note(into map[store.Key]string) func(store.Record) error {
	return func(r store.Record) error {
		into[r.Key] = strconv.Itoa(int(r.Revision)) + " " + string(r.Value)
		return nil
	}
}

// examine does all that can be done with a file. Unless full is set, what Check
// and Read tell and what Salvage copies comes from one reading, and there is no
// new file.
func examine(dir string, data []byte, full bool) (s seen, err error) {
	path := filepath.Join(dir, testFile)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return s, err
	}
	if full {
		err = s.whole(path)
	} else {
		s.once(path)
	}
	if err != nil {
		return s, err
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, data) {
		return s, errors.New("the damaged file was written to")
	}
	return s, s.open(path)
}

// once reads the file once for all.
func (s *seen) once(path string) {
	r, end, err := openReader(path, func(d store.Damage) { s.damages = append(s.damages, d) })
	if err == nil {
		defer end()
		r.worse = func(d store.Damage) {
			if s.readErr == nil {
				s.readErr = &damageError{d}
			}
		}
		err = r.load(context.Background())
	}
	s.salvaged = map[store.Key]string{}
	if err == nil {
		s.contents = r.contents()
		err = r.each(context.Background(), func(key store.Key, record []byte) error {
			h, value, err := decodeRecord(key, record)
			if err == nil {
				_ = note(s.salvaged)(store.Record{Key: key, Revision: h.revision, Value: value})
			}
			return err
		})
	}
	s.checkErr, s.saveErr = err, err
	if err != nil {
		s.readErr = err
	}
	if s.readErr == nil {
		s.read = s.salvaged
	}
}

// whole calls what the commands call.
func (s *seen) whole(path string) (err error) {
	ctx := context.Background()
	to := path + ".salvaged"
	s.contents, s.checkErr = Check(ctx, path, func(d store.Damage) { s.damages = append(s.damages, d) })
	s.read = map[store.Key]string{}
	s.readErr = Read(ctx, path, note(s.read))
	os.Remove(to)
	if _, s.saveErr = Salvage(ctx, path, to, func(store.Damage) {}); s.saveErr != nil {
		return nil
	}
	s.salvaged = map[store.Key]string{}
	if err := Read(ctx, to, note(s.salvaged)); err != nil {
		return fmt.Errorf("read what was salvaged: %w", err)
	}
	e, err := Open(to, Options{NoSync: true})
	if err != nil {
		return fmt.Errorf("open what was salvaged: %w", err)
	}
	s.after = e.Revision()
	return e.Close()
}

// open opens and scans the damaged file.
func (s *seen) open(path string) error {
	ctx := context.Background()
	e, err := Open(path, Options{NoSync: true})
	if s.openErr = err; err != nil {
		return nil
	}
	defer e.Close()
	s.revision = e.Revision()
	s.opened, s.scanErrs = map[store.Key]string{}, map[string]error{}
	buckets, err := e.Buckets(ctx)
	if err != nil {
		s.openErr = err
		return nil
	}
	for _, bucket := range buckets {
		part := map[store.Key]string{}
		if err := e.Scan(ctx, bucket, note(part)); err != nil {
			s.scanErrs[bucket] = err
		} else {
			maps.Copy(s.opened, part)
		}
	}
	return nil
}

// judge says what is wrong with what came of a file of which one byte is not as
// it was.
func (o *oracle) judge(s seen, at int) error {
	if o.blind[at] {
		return o.judgeBlind(s)
	}
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
			(oneByteApart(d.Key.Name, victim.key.Name) || d.Key.Name == "" && strings.HasPrefix(d.Reason, "a record behind "))
	})
	switch {
	case !named:
		return fmt.Errorf("%s is damaged; told: %v", victim.key, s.damages)
	case s.openErr == nil && s.scanErrs[victim.key.Bucket] == nil:
		return fmt.Errorf("%s is damaged; the scan told nothing", victim.key)
	}
	return nil
}

// judgeBlind says what is wrong where a page of the tree of buckets may have been
// replaced by one of the past: at least nothing comes out that never was.
func (o *oracle) judgeBlind(s seen) error {
	for _, records := range []map[store.Key]string{s.read, s.salvaged} {
		for key, value := range records {
			if !slices.ContainsFunc(o.past, func(past map[store.Key]string) bool { return past[key] == value }) {
				return fmt.Errorf("%s is what it never was", key)
			}
		}
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
	if s.openErr == nil && s.revision != o.revision {
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

// wreck is a way to damage a file: in so many cases, each of which changes a
// copy of the undamaged data or returns another, and says which pages are not
// what they were.
type wreck struct {
	cases int
	apply func(data []byte, n int) (_ []byte, pages []int)
}

func wrecks() map[string]wreck {
	page := func(data []byte, id int) []byte { return data[id*pageSize:][:pageSize] }
	return map[string]wreck{
		"flip": {damagePages * pageSize, func(data []byte, n int) ([]byte, []int) {
			data[n] ^= byte(1 + (uint32(n)*2654435761>>16)%255)
			return data, nil
		}},
		"zero": {damagePages, func(data []byte, n int) ([]byte, []int) {
			clear(page(data, n))
			return data, []int{n}
		}},
		"cut": {2 * damagePages, func(data []byte, n int) ([]byte, []int) {
			if n == 0 {
				return nil, nil // nobody can tell an empty file from one that is to be a store
			}
			var gone []int
			for id := n / 2; id < damagePages; id++ {
				gone = append(gone, id)
			}
			return data[:n*pageSize/2], gone
		}},
		"swap": {damagePages * damagePages, func(data []byte, n int) ([]byte, []int) {
			a, b := n/damagePages, n%damagePages
			if a >= b {
				return nil, nil
			}
			was := bytes.Clone(page(data, a))
			copy(page(data, a), page(data, b))
			copy(page(data, b), was)
			return data, []int{a, b}
		}},
	}
}

// judgePages says what is wrong with what came of a file of which some pages
// are not what they were, and are nowhere else unless they were swapped.
func (o *oracle) judgePages(s seen, pages []int, swapped bool) error {
	if err := o.judgeErrors(s); err != nil {
		return err
	}
	if s.saveErr != nil {
		if errors.Is(s.saveErr, store.ErrDamaged) && errors.Is(s.checkErr, store.ErrDamaged) && slices.Contains(pages, o.root) {
			return nil
		}
		return fmt.Errorf("salvage: %w", s.saveErr)
	}
	if slices.Contains(pages, o.root) && !swapped {
		// The tree of buckets is gone: what is left is the state before.
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

const damageChild = "SKIFF_TEST_DAMAGE"

// damageInput is what all children work on: no two files are the same, since
// bbolt takes free pages at random.
type damageInput struct {
	Data []byte
	Past []map[store.Key]string
}

func damageFile(dir, kind string) string {
	return filepath.Join(dir, kind)
}

func writeDamageInput(t *testing.T, dir, kind string) {
	t.Helper()
	data, past := damageStore(t, kind)
	f, err := os.Create(damageFile(dir, kind))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gob.NewEncoder(f).Encode(damageInput{data, past}); err != nil {
		t.Fatal(err)
	}
}

// TestDamageChild is a child: it damages what it is told to, and says what it
// found wrong. The case at which it is stands in a file, for the parent to know
// where it ended if it did.
func TestDamageChild(t *testing.T) {
	var how string
	var from, to, step int
	var kind string
	if n, _ := fmt.Sscan(os.Getenv(damageChild), &how, &from, &to, &step, &kind); n != 5 {
		t.Skip("a child of TestDamagedFile")
	}
	f, err := os.Open(damageFile(os.Getenv(damageChild+"_DIR"), kind))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var given damageInput
	if err := gob.NewDecoder(f).Decode(&given); err != nil {
		t.Fatal(err)
	}
	o := newOracle(t, given.Data, given.Past)
	dir := fastDir(t)
	o.open(t, dir)
	where, err := os.Create(os.Getenv(damageChild + "_AT"))
	if err != nil {
		t.Fatal(err)
	}
	defer where.Close()
	keep := os.Getenv(damageChild + "_KEEP") // for a look at a case
	wrong := 0
	w := wrecks()[how]
	for n := from; n < min(to, w.cases) && wrong < 20; n += step {
		where.WriteAt(fmt.Appendf(nil, "%10d", n), 0)
		data, pages := w.apply(bytes.Clone(o.data), n)
		if data == nil {
			continue
		}
		s, err := examine(dir, data, how != "flip" || n/step%8 == 0)
		switch {
		case err != nil:
		case how == "flip":
			err = o.judge(s, n)
		default:
			err = o.judgePages(s, pages, how == "swap")
		}
		if err != nil {
			wrong++
			if keep != "" {
				_ = os.WriteFile(filepath.Join(keep, fmt.Sprint(how, n, ".db")), data, 0o600)
			}
			t.Errorf("%s %d, byte %d of page %d, pages %v: %v", how, n, n%pageSize, n/pageSize, pages, err)
		}
	}
}

// open notes what the undamaged file opens with.
func (o *oracle) open(t testing.TB, dir string) {
	t.Helper()
	s, err := examine(dir, o.data, true)
	if err != nil || s.checkErr != nil || len(s.damages) > 0 || s.readErr != nil || s.openErr != nil {
		t.Fatalf("the undamaged file: %v %v %v %v %v", err, s.checkErr, s.damages, s.readErr, s.openErr)
	}
	o.revision, o.opened = s.revision, s.opened
	if !maps.Equal(s.read, o.records) || !maps.Equal(o.past[len(o.past)-1], o.records) {
		t.Fatalf("the undamaged file: %s", difference(o.records, s.read))
	}
}

// TestDamagedFile flips bytes, zeroes and swaps pages and cuts the file, in
// children that are watched: a sample of it, or all with SKIFF_TEST_DAMAGE_ALL=1.
func TestDamagedFile(t *testing.T) {
	type job struct {
		how   string
		batch int // cases for one child
		step  int
		kind  string
	}
	plan := []job{{"flip", 1 << 18, 509, "clean"}, {"flip", 1 << 18, 4099, "unclean"}, {"flip", 1 << 18, 1021, "many"}, {"zero", 64, 3, "clean"}, {"cut", 128, 7, "clean"}, {"swap", 4096, 37, "clean"}}
	if os.Getenv(damageChild+"_ALL") != "" {
		plan = []job{{"flip", 2048, 1, "clean"}, {"flip", 1 << 13, 61, "unclean"}, {"flip", 1 << 13, 5, "many"}, {"zero", 64, 1, "clean"}, {"zero", 64, 1, "unclean"}, {"zero", 64, 1, "many"}, {"cut", 128, 1, "clean"}, {"swap", 512, 1, "clean"}}
	}
	dir := fastDir(t)
	for _, kind := range []string{"clean", "unclean", "many"} {
		writeDamageInput(t, dir, kind)
	}
	children := make(chan string)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for arguments := range children {
				damageInChild(t, dir, arguments)
			}
		})
	}
	for _, j := range plan {
		for from := 0; from < wrecks()[j.how].cases; from += j.batch {
			children <- fmt.Sprintln(j.how, from, from+j.batch, j.step, j.kind)
		}
	}
	close(children)
	all.Wait()
}

func damageInChild(t *testing.T, dir, arguments string) {
	at := filepath.Join(t.TempDir(), "at")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestDamageChild$", "-test.count=1")
	child.Env = append(os.Environ(), "GOGC=400", "GOMAXPROCS=1", damageChild+"="+arguments, damageChild+"_AT="+at, damageChild+"_DIR="+dir)
	out, err := child.CombinedOutput()
	if err == nil {
		return
	}
	last, _ := os.ReadFile(at)
	t.Errorf("%s: %v (%v), last at %s\n%.6000s", strings.TrimSpace(arguments), err, ctx.Err(), last, out)
}
