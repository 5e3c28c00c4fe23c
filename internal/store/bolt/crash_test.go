package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
)

const crashDir = "SKIFF_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeUntilKilled(dir)
	}
	if dir, call := os.Getenv(syncErrorDir), os.Getenv(syncErrorCall); call != "" {
		os.Exit(compactWhileSyncFails(dir, call))
	} else if dir != "" {
		os.Exit(writeUntilSyncFails(dir))
	}
	os.Exit(m.Run())
}

// writeUntilKilled is the child: eight writers, each with names of its own, tell
// on standard output what was acknowledged. A value is the writer's count, so
// the newest of two values of a name is the larger one.
func writeUntilKilled(dir string) {
	first, _ := strconv.Atoi(os.Getenv("SKIFF_TEST_CRASH_FIRST"))
	e, err := Open(filepath.Join(dir, testFile), Options{LazyWindow: 20 * time.Millisecond, Reserve: 5})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("open", e.Revision())
	go compactAndCopy(e)
	var mu sync.Mutex
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for n := first; ; n++ {
				kind, ops := randomCommit(w, n, first%2 == 1)
				revisions, err := e.Commit(context.Background(), ops)
				var conflict *store.ConflictError
				if errors.As(err, &conflict) {
					continue // a deletion of what is not there
				}
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				mu.Lock()
				for i, op := range ops {
					fmt.Println(kind, op.Key.Name, revisions[i], n)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

// compactAndCopy never ends, so that a kill may hit it anywhere.
func compactAndCopy(e *Engine) {
	for {
		if err := e.Compact(context.Background()); err != nil {
			fmt.Println("error", err)
		}
		if err := e.Snapshot(context.Background(), io.Discard); err != nil {
			fmt.Println("error", err)
		}
	}
}

// randomCommit returns a pair of names that must always agree, a deletion, or a
// lazy write, which may be most of what happens.
func randomCommit(w, n int, mostlyLazy bool) (kind string, ops []store.Op) {
	op := func(name string, action store.Action) store.Op {
		op := store.Op{Key: store.Key{Bucket: "things", Name: fmt.Sprintf("%d/%s", w, name)}, Action: action, Expect: store.Any}
		if action == store.Put {
			op.Value = append([]byte(strconv.Itoa(n)+" "), make([]byte, rand.IntN(3000))...)
		}
		return op
	}
	choice := rand.IntN(8)
	if mostlyLazy && n%50 != 0 {
		choice = 7
	}
	switch choice {
	case 0, 1, 2:
		return "put", []store.Op{op("left", store.Put), op("right", store.Put)}
	case 3:
		return "delete", []store.Op{op("left", store.Delete), op("right", store.Delete)}
	case 4:
		return "put", []store.Op{op("lease", store.Put)}
	default:
		lazy := op("lease", store.Put)
		lazy.Lazy = true
		return "lazy", []store.Op{lazy}
	}
}

// acknowledged is what the parent knows of a name.
type acknowledged struct {
	count   int // of the last durable commit
	deleted bool
	lazy    int // of the last lazy commit
}

// TestCrash kills a writing process again and again, and checks after each time
// that nothing acknowledged is lost and no revision is used twice.
func TestCrash(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	d, long := soak(t)
	dir := t.TempDir()
	names := map[string]*acknowledged{}
	last, count := store.Revision(0), 0
	commits, round := 0, 0
	for start := time.Now(); !t.Failed() && (round < rounds || long && time.Since(start) < d); round++ {
		used := map[store.Revision]string{}
		before := last
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprintf("SKIFF_TEST_CRASH_FIRST=%d", count+1))
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		after := time.Duration(rand.IntN(150)) * time.Millisecond
		var killer *time.Timer
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			switch fields[0] {
			case "open":
				// It runs, so what follows hits it at work.
				killer = time.AfterFunc(after, func() { child.Process.Kill() })
				if at, _ := strconv.Atoi(fields[1]); store.Revision(at) < last {
					t.Fatalf("round %d: opened at revision %d, %d had been handed out", round, at, last)
				}
				continue
			case "error":
				t.Fatalf("round %d: %s", round, lines.Text())
			}
			if len(fields) != 4 {
				continue // the last line, cut
			}
			commits++
			revision, _ := strconv.Atoi(fields[2])
			n, _ := strconv.Atoi(fields[3])
			if before, again := used[store.Revision(revision)]; again {
				t.Fatalf("round %d: revision %d was given to %q and to %q", round, revision, before, lines.Text())
			}
			if store.Revision(revision) <= before {
				t.Fatalf("round %d: revision %d after %d", round, revision, before)
			}
			used[store.Revision(revision)] = lines.Text()
			last, count = max(last, store.Revision(revision)), max(count, n)
			a := names[fields[1]]
			if a == nil {
				a = &acknowledged{}
				names[fields[1]] = a
			}
			switch fields[0] {
			case "lazy":
				a.lazy = n
			default:
				a.count, a.deleted = n, fields[0] == "delete"
			}
		}
		killer.Stop()
		child.Wait()
		checkSurvivors(t, round, dir, names, last)
	}
	t.Logf("%d acknowledged operations over %d kills", commits, round)
}

// checkSurvivors opens the store as the killed process left it.
func checkSurvivors(t *testing.T, round int, dir string, names map[string]*acknowledged, last store.Revision) {
	t.Helper()
	left, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(left) // there are thousands in a long run
	copied := filepath.Join(left, testFile)
	data, err := os.ReadFile(filepath.Join(dir, testFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, data, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Open(copied, Options{})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	defer e.Close()
	err = e.Check(context.Background(), func(d store.Damage) { t.Errorf("round %d: %s", round, d) })
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	counts := map[string]int{}
	err = e.Scan(context.Background(), "things", func(r store.Record) error {
		counts[r.Key.Name], _ = strconv.Atoi(strings.Fields(string(r.Value))[0])
		if strings.HasSuffix(r.Key.Name, "lease") && r.Revision <= last && names[r.Key.Name] != nil && names[r.Key.Name].lazy > 0 {
			return fmt.Errorf("%s has revision %d, %d had been seen", r.Key, r.Revision, last)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	if e.Revision() < last {
		t.Fatalf("round %d: revision %d, %d had been handed out", round, e.Revision(), last)
	}
	for name, a := range names {
		n, there := counts[name]
		if there && n < a.count || !there && a.count > 0 && !a.deleted && !mayBeDeleted(name) {
			t.Errorf("round %d: %s holds %d (%t), acknowledged was %d", round, name, n, there, a.count)
		}
	}
	for w := range 8 {
		left, isLeft := counts[fmt.Sprintf("%d/left", w)]
		right, isRight := counts[fmt.Sprintf("%d/right", w)]
		if left != right || isLeft != isRight {
			t.Errorf("round %d: writer %d's pair is %d and %d", round, w, left, right)
		}
	}
}

// mayBeDeleted: each writer can have one commit on disk whose acknowledgement
// it could not tell any more; for a pair that may be its deletion.
func mayBeDeleted(name string) bool { return !strings.HasSuffix(name, "lease") }
