package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/skiff-sh/skiff/e2e/powercut/load"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// live opens the store, tells what is in it and writes, until the power goes or
// the plan is done.
func live(h *host, plan load.Plan, path string) error {
	rest := -1
	if plan.Known {
		var err error
		if rest, err = atRest(path); err != nil {
			return err
		}
	}
	e, err := bolt.Open(path, bolt.Options{LazyWindow: plan.Window, Reserve: plan.Reserve})
	if err != nil {
		return err
	}
	there, err := tellRecords(h, e)
	if err != nil {
		return err
	}
	if rest >= 0 && rest != len(there) {
		return fmt.Errorf("the file at rest had %d records, the open store %d", rest, len(there))
	}
	var all sync.WaitGroup
	begin := time.Now()
	failed := make(chan error, plan.Writers+2)
	for id := range plan.Writers {
		w := load.NewWriter(plan, id, there)
		all.Go(func() { failed <- write(h, e, plan, w, id, begin) })
	}
	if plan.Compact {
		all.Go(func() { failed <- compact(h, e) })
	}
	if plan.Snapshot {
		all.Go(func() { failed <- snapshot(h, e, path+".snapshot") })
	}
	go func() { all.Wait(); close(failed) }()
	for err := range failed {
		if err != nil {
			return err
		}
	}
	if err := e.Close(); err != nil {
		return err
	}
	h.tell("closed")
	return nil
}

// atRest checks a file that nobody has open, and returns how many records it
// has.
func atRest(path string) (records int, err error) {
	// A search for what is left of a damaged file may take long.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var damages []error
	contents, err := bolt.Check(ctx, path, func(d store.Damage) {
		damages = append(damages, fmt.Errorf("check %s: %s", path, d))
	})
	for _, n := range contents.Buckets {
		records += n
	}
	return records, errors.Join(append(damages, err)...)
}

// tellRecords scans everything and tells it.
func tellRecords(h *host, e *bolt.Engine) (map[store.Key]load.Held, error) {
	there := map[store.Key]load.Held{}
	lines := bytes.NewBuffer(nil)
	fmt.Fprintf(lines, "opened %d\n", e.Revision())
	names, err := e.Buckets(context.Background())
	if err != nil {
		return nil, err
	}
	for _, bucket := range names {
		err := e.Scan(context.Background(), bucket, func(r store.Record) error {
			held := load.Held{Digest: load.DigestOf(r.Value), Revision: r.Revision}
			there[r.Key] = held
			fmt.Fprintf(lines, "record %s %s %d %d\n", r.Key.Bucket, r.Key.Name, held.Revision, held.Digest)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(lines, "checked %d\n", len(there))
	h.tellAll(lines.Bytes())
	return there, nil
}

// write commits what a writer has to write, and tells of each commit before the
// next.
func write(h *host, e *bolt.Engine, plan load.Plan, w *load.Writer, id int, start time.Time) error {
	pause := plan.Random(1000 + id)
	for n := 0; plan.Commits == 0 || n < plan.Commits; n++ {
		ops, _ := w.Next()
		begin := time.Since(start)
		revisions, err := e.Commit(context.Background(), ops)
		if err != nil {
			return fmt.Errorf("writer %d: %w", id, err)
		}
		end := time.Since(start)
		w.Done(ops, revisions)
		line := fmt.Sprintf("ack %d %d %d", id, begin.Microseconds(), end.Microseconds()+1)
		h.tell("%s %s", line, strings.Trim(fmt.Sprint(revisions), "[]"))
		if plan.Beating {
			time.Sleep(time.Duration(pause.IntN(4000)) * time.Microsecond)
		}
	}
	return nil
}

// compact compacts while others write, as long as the power is there.
func compact(h *host, e store.Engine) error {
	for {
		h.tell("compacting")
		if err := e.Compact(context.Background()); err != nil {
			return fmt.Errorf("compact: %w", err)
		}
		h.tell("compacted")
		time.Sleep(50 * time.Millisecond)
	}
}

// online checks the open store.
func online(e store.Engine) error {
	var damages []error
	err := e.Check(context.Background(), func(d store.Damage) {
		damages = append(damages, fmt.Errorf("check the open store: %s", d))
	})
	return errors.Join(append(damages, err)...)
}

// snapshot copies the store while others write, and checks both.
func snapshot(h *host, e store.Engine, path string) error {
	for {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		h.tell("snapshotting")
		err = e.Snapshot(context.Background(), f)
		if err == nil {
			err = f.Sync()
		}
		f.Close()
		if err == nil {
			_, err = atRest(path)
		}
		if err == nil {
			err = online(e)
		}
		if err != nil {
			return err
		}
		h.tell("snapshotted")
		time.Sleep(50 * time.Millisecond)
	}
}
