package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/skiff-sh/skiff/e2e/figures"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// opened is what opening took, in a process that did nothing else.
type opened struct {
	Open    time.Duration // until the store can be written to
	Ready   time.Duration // until every object has been read, and decoded where there is a state
	Anon    float64       // bytes of memory just then
	Rest    float64       // … after the garbage has been returned
	Objects int
}

// open measures how long a store with many Pods takes to open, and the memory
// it takes: the engine, the state over it, and etcd.
func (b *bench) open(ctx context.Context) error {
	fmt.Printf(`
Opening a store of Pods of %d bytes after a clean end, its file in the page cache: the engine until it can be
written to and until all has been read, the state until all is decoded, etcd from the start of its process to
its first answer, an election with itself included. Memory is anonymous; "rest" is after the garbage was returned.
`, newPod(0).Size())
	for _, objects := range b.scale.opened {
		if err := b.openWith(ctx, objects); err != nil {
			return fmt.Errorf("with %d objects: %w", objects, err)
		}
	}
	return nil
}

func (b *bench) openWith(ctx context.Context, objects int) (err error) {
	dir := filepath.Join(b.dir, fmt.Sprint("open-", objects))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "skiff.db")
	if err := fillState(ctx, path, objects); err != nil {
		return err
	}
	e, err := startEtcd(ctx, b.etcd, filepath.Join(dir, "etcd"), objects)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	err = create(ctx, objects, func(ctx context.Context, i int) error {
		value, err := newPod(i).Marshal()
		if err != nil {
			return err
		}
		return e.update(ctx, i, value)
	})
	if err != nil {
		return err
	}
	return b.openRounds(ctx, path, e, objects)
}

func (b *bench) openRounds(ctx context.Context, path string, e *etcd, objects int) error {
	seen := map[string][]float64{}
	for range b.scale.rounds {
		for _, what := range []string{"engine", "state"} {
			o, err := openInChild(ctx, path, what == "state")
			if err != nil {
				return err
			}
			if o.Objects != objects {
				return fmt.Errorf("%s has %d objects of %d", what, o.Objects, objects)
			}
			seen[what+"_ms"] = append(seen[what+"_ms"], figures.Milliseconds(o.Ready))
			seen[what+"_anon_bytes"] = append(seen[what+"_anon_bytes"], o.Anon)
			seen[what+"_rest_bytes"] = append(seen[what+"_rest_bytes"], o.Rest)
			if what == "engine" {
				seen["engine_writable_ms"] = append(seen["engine_writable_ms"], figures.Milliseconds(o.Open))
			}
		}
		if err := e.stop(); err != nil {
			return err
		}
		took, err := e.start(ctx)
		if err != nil {
			return err
		}
		usage, err := figures.UsageOf(e.pids()...)
		if err != nil {
			return err
		}
		seen["etcd_ms"] = append(seen["etcd_ms"], figures.Milliseconds(took))
		seen["etcd_anon_bytes"] = append(seen["etcd_anon_bytes"], usage.Anon)
	}
	for _, key := range []string{"engine_writable_ms", "engine_ms", "engine_anon_bytes", "engine_rest_bytes",
		"state_ms", "state_anon_bytes", "state_rest_bytes", "etcd_ms", "etcd_anon_bytes"} {
		b.set(fmt.Sprintf("open_%s_%d", key, objects), figures.Median(seen[key]))
	}
	return nil
}

// fillState makes a store with Pods.
func fillState(ctx context.Context, path string, objects int) (err error) {
	engine, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	s, err := state.Open(ctx, engine, kind.All, state.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return create(ctx, objects, func(ctx context.Context, i int) error {
		_, err := s.Commit(ctx, state.Write{Kind: kind.Pod, Action: store.Put, Object: newPod(i), Expect: store.Absent})
		return err
	})
}

// openInChild opens a store in a fresh process, this program with -open.
func openInChild(ctx context.Context, path string, decode bool) (o opened, err error) {
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	child := exec.CommandContext(ctx, self, "-open", path, fmt.Sprint("-decode=", decode))
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := child.Output()
	if err != nil {
		return o, fmt.Errorf("open %s in a process of its own: %w", path, err)
	}
	return o, json.Unmarshal(out, &o)
}

// openAndTell is what that process does.
func openAndTell(ctx context.Context, path string, decode bool) (err error) {
	began := time.Now()
	engine, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	o := opened{Open: time.Since(began)}
	var s *state.State
	if decode {
		if s, err = state.Open(ctx, engine, kind.All, state.Options{}); err != nil {
			return err
		}
		o.Objects = s.Snapshot(kind.Pod).Len()
	} else {
		err := engine.Scan(ctx, kind.Pod.Bucket(), func(store.Record) error { o.Objects++; return nil })
		if err != nil {
			return err
		}
	}
	o.Ready = time.Since(began)
	for _, memory := range []*float64{&o.Anon, &o.Rest} {
		usage, err := figures.UsageOf(os.Getpid())
		if err != nil {
			return err
		}
		*memory = usage.Anon
		debug.FreeOSMemory()
	}
	runtime.KeepAlive(s)
	return json.NewEncoder(os.Stdout).Encode(o)
}
