package bolt

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

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

// seen is what came of one damaged file.
type seen struct {
	damages  []store.Damage
	contents format.Contents
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
	r, end, err := openReader(path, func(d store.Damage, refused bool) {
		s.damages = append(s.damages, d)
		if refused && s.readErr == nil {
			s.readErr = format.Damaged(d)
		}
	})
	if err == nil {
		defer end()
		err = r.Load(context.Background())
	}
	s.salvaged = map[store.Key]string{}
	if err == nil {
		s.contents = r.Contents()
		err = r.Each(context.Background(), func(key store.Key, record []byte) error {
			h, value, err := format.DecodeRecord(key, record)
			if err == nil {
				_ = note(s.salvaged)(store.Record{Key: key, Revision: h.Revision, Value: value})
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
	plan := []job{{"flip", 1 << 18, 509, "clean"}, {"flip", 1 << 18, 4099, "unclean"}, {"flip", 1 << 18, 1021, "many"}, {"zero", 64, 3, "clean"}, {"zero", 64, 5, "many"}, {"cut", 128, 7, "clean"}, {"swap", 4096, 37, "clean"}}
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
