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
func damageStore(t testing.TB, clean bool) []byte {
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
		if err := commit(e, ops...); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		must(op("namespaces", fmt.Sprintf("namespace-%d", i), 60), op("!clusterips", fmt.Sprintf("10.43.0.%d", i), 9))
		must(op("configmaps", fmt.Sprintf("default/large-%d", i), 5000+2000*i))
		must(op("events", fmt.Sprintf("default/event-%d", i), 300))
	}
	for i := range 160 {
		must(op("pods", fmt.Sprintf("default/pod-%02d", i), 300+random.IntN(500)))
	}
	for i := range 12 {
		beat := op("leases.coordination.k8s.io", fmt.Sprintf("kube-node-lease/node-%02d", i), 90)
		beat.Lazy = i%2 == 0
		must(beat)
	}
	for i := range 25 {
		must(op("pods", fmt.Sprintf("default/pod-%02d", i*4), 300+random.IntN(600)))
	}
	for i := range 3 {
		gone := op("events", fmt.Sprintf("default/event-%d", i), 0)
		gone.Action, gone.Value = store.Delete, nil
		must(gone)
		gone.Key = store.Key{Bucket: "pods", Name: fmt.Sprintf("default/pod-%02d", i*9+1)}
		must(gone)
	}
	if err := e.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if clean {
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
	if walked.high > damagePages || walked.high < damagePages*3/4 {
		t.Fatalf("the file has %d pages, want %d at most and not many fewer", walked.high, damagePages)
	}
	return append(data, make([]byte, damagePages*pageSize)...)[:damagePages*pageSize]
}

// fastDir is a directory in memory if there is one: the tests are about what is
// read, not about when it is on disk.
func fastDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "skiff-test-")
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
	records  map[store.Key]string // revision and value
	opened   map[store.Key]string // after an unclean stop lazy records have other revisions
	at       []*place             // by byte; nil: no record's
	revision store.Revision       // the store opens with
	reserved store.Revision       // may have been handed out
}

type place struct {
	key    store.Key
	inName bool
}

func newOracle(t testing.TB, data []byte) *oracle {
	t.Helper()
	path := filepath.Join(fastDir(t), testFile)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	o := &oracle{data: data, records: map[store.Key]string{}, at: make([]*place, len(data))}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	base := db.Info().Data
	spread := func(b []byte, p *place) {
		from := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) - base)
		if from < 0 || from >= len(data) {
			// What lies within a bucket's header bbolt may have copied out of
			// the page, which is the tree of buckets' only one.
			root := rootPage(data) * pageSize
			from = root + bytes.Index(data[root:root+pageSize], b)
		}
		for i := range b {
			o.at[from+i] = p
		}
	}
	err = db.View(func(tx *bbolt.Tx) error {
		state := tx.Bucket([]byte("meta")).Get([]byte("state"))
		o.reserved = store.Revision(binary.BigEndian.Uint64(state[9:]))
		return tx.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
			name, ok := strings.CutPrefix(string(bucket), "b/")
			if !ok {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
				key := store.Key{Bucket: name, Name: string(k)}
				o.records[key] = fmt.Sprintf("%d %s", binary.BigEndian.Uint64(v[2:]), v[14:])
				spread(k, &place{key, true})
				spread(v, &place{key, false})
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
	saved    Contents
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

// examine does all that can be done with a file.
func examine(dir string, data []byte) (s seen, err error) {
	ctx := context.Background()
	path, to := filepath.Join(dir, testFile), filepath.Join(dir, "salvaged")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return s, err
	}
	s.contents, s.checkErr = Check(ctx, path, func(d store.Damage) { s.damages = append(s.damages, d) })
	s.read = map[store.Key]string{}
	s.readErr = Read(ctx, path, note(s.read))
	os.Remove(to)
	s.saved, s.saveErr = Salvage(ctx, path, to, func(store.Damage) {})
	if now, _ := os.ReadFile(path); !bytes.Equal(now, data) {
		return s, errors.New("the damaged file was written to")
	}
	if s.saveErr == nil {
		s.salvaged = map[store.Key]string{}
		if err := Read(ctx, to, note(s.salvaged)); err != nil {
			return s, fmt.Errorf("read what was salvaged: %w", err)
		}
		if len(s.damages) == 0 && rand.IntN(16) > 0 {
			return s, s.open(path)
		}
		e, err := Open(to, Options{NoSync: true})
		if err != nil {
			return s, fmt.Errorf("open what was salvaged: %w", err)
		}
		s.after = e.Revision()
		e.Close()
	}
	return s, s.open(path)
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
		return d.Key == victim.key || victim.inName && d.Key.Bucket == victim.key.Bucket && oneByteApart(d.Key.Name, victim.key.Name)
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
	return strings.Join(text, ", ")
}

// flip is how the byte at a place is changed.
func flip(at int) byte {
	return byte(1 + (uint32(at)*2654435761>>16)%255)
}

const damageChild = "SKIFF_TEST_DAMAGE"

// TestDamageChild is a child: it flips the bytes it is told to, and says what
// it found wrong. The place at which it is stands in a file, for the parent to
// know where it ended if it did.
func TestDamageChild(t *testing.T) {
	from, to, step, clean := 0, 0, 0, 0
	if n, _ := fmt.Sscan(os.Getenv(damageChild), &from, &to, &step, &clean); n != 4 {
		t.Skip("a child of TestEveryByte")
	}
	data := damageStore(t, clean == 1)
	o := newOracle(t, data)
	dir := fastDir(t)
	o.open(t, dir)
	where, err := os.Create(os.Getenv(damageChild + "_AT"))
	if err != nil {
		t.Fatal(err)
	}
	defer where.Close()
	wrong := 0
	for at := from; at < to && wrong < 20; at += step {
		where.WriteAt(fmt.Appendf(nil, "%10d", at), 0)
		data[at] ^= flip(at)
		s, err := examine(dir, data)
		data[at] ^= flip(at)
		if err == nil {
			err = o.judge(s, at)
		}
		if err != nil {
			wrong++
			t.Errorf("byte %d of page %d (%d): %v", at%pageSize, at/pageSize, at, err)
		}
	}
}

// open notes at which revision the undamaged file opens.
func (o *oracle) open(t testing.TB, dir string) {
	t.Helper()
	s, err := examine(dir, o.data)
	if err != nil || s.checkErr != nil || len(s.damages) > 0 || s.readErr != nil || s.openErr != nil {
		t.Fatalf("the undamaged file: %v %v %v %v %v", err, s.checkErr, s.damages, s.readErr, s.openErr)
	}
	o.revision, o.opened = s.revision, s.opened
	if !maps.Equal(s.read, o.records) {
		t.Fatalf("the undamaged file: %s", difference(o.records, s.read))
	}
}

// TestEveryByte changes single bytes of a file, in children that are watched: a
// sample of them, or all with SKIFF_TEST_DAMAGE_ALL=1.
func TestEveryByte(t *testing.T) {
	step, batch := 211, damagePages*pageSize/2+1
	if os.Getenv("SKIFF_TEST_DAMAGE_ALL") != "" {
		step, batch = 1, 2048
	}
	type job struct{ from, to, clean int }
	jobs := make(chan job)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for j := range jobs {
				flipInChild(t, j.from, j.to, step, j.clean)
			}
		})
	}
	for from := 0; from < damagePages*pageSize; from += batch {
		jobs <- job{from, min(from+batch, damagePages*pageSize), 1}
	}
	close(jobs)
	all.Wait()
}

func flipInChild(t *testing.T, from, to, step, clean int) {
	at := filepath.Join(t.TempDir(), "at")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestDamageChild$", "-test.count=1")
	child.Env = append(os.Environ(), "GOGC=400", "GOMAXPROCS=1", fmt.Sprintf("%s=%d %d %d %d", damageChild, from, to, step, clean), damageChild+"_AT="+at)
	out, err := child.CombinedOutput()
	if err == nil {
		return
	}
	text, _ := os.ReadFile(at)
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	t.Errorf("bytes %d to %d: %v (%v), last at byte %d of page %d\n%.6000s", from, to, err, ctx.Err(), n%pageSize, n/pageSize, out)
}
