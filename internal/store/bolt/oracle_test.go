package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

const damagePages = 64

// What bbolt's pages look like, for tests to find places in them.
const (
	pageHeader   = 16
	pageElement  = 16
	bucketHeader = 16
	pageBranch   = 1
)

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
	inUse, err := format.Walk(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(inUse) > damagePages || len(inUse) < damagePages/2 {
		t.Fatalf("the file has %d pages, want %d at most and not many fewer", len(inUse), damagePages)
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

// metaPage is what one of the first two pages says.
type metaPage struct {
	slot           int
	root, high, tx uint64
}

// metaPages are the page that leads to the last state and the one to that before.
func metaPages(data []byte) (last, before metaPage) {
	read := func(slot int) metaPage {
		field := func(at int) uint64 { return binary.NativeEndian.Uint64(data[slot*pageSize+16+at:]) }
		return metaPage{slot: slot, root: field(16), high: field(40), tx: field(48)}
	}
	if last, before = read(0), read(1); before.tx > last.tx {
		last, before = before, last
	}
	return last, before
}

// leafElement is one of a leaf: where it stands in the page's table, and its name and
// value within the file.
type leafElement struct {
	place       int
	at          int // of the name; the value follows
	name, value []byte
}

func leafElements(data []byte, page int) (all []leafElement) {
	from := page * pageSize
	for i := range int(binary.NativeEndian.Uint16(data[from+10:])) {
		place := from + 16 + 16*i
		field := func(n int) int { return int(binary.NativeEndian.Uint32(data[place+4*n:])) }
		at, size := place+field(1), field(2)
		all = append(all, leafElement{place, at, data[at : at+size], data[at+size : at+size+field(3)]})
	}
	return all
}

// topPages are the pages of the tree of buckets: one, or a branch and its leaves.
func topPages(data []byte) []int {
	last, _ := metaPages(data)
	pages := []int{int(last.root)}
	if root := data[pages[0]*pageSize:]; root[8] == 1 {
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
