package bolt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
)

const (
	benchRecords = 20_000
	benchBytes   = 1_200
)

// BenchmarkCommit has as many writers as its name says update random records of
// 1.2 KB among 20,000 and 200,000, beside a bare log that syncs as many values at
// once.
func BenchmarkCommit(b *testing.B) {
	writers := []int{1, 16, 64, 256, 1000}
	for _, n := range writers {
		b.Run(fmt.Sprintf("log/%d", n), func(b *testing.B) { benchLog(b, n) })
	}
	for _, records := range []int{benchRecords, 10 * benchRecords} {
		b.Run(fmt.Sprint(records), func(b *testing.B) {
			e := filled(b, filepath.Join(b.TempDir(), testFile), records)
			for _, n := range writers {
				b.Run(fmt.Sprintf("store/%d", n), func(b *testing.B) { benchCommit(b, e, records, n) })
			}
			b.Run("lazy/16", func(b *testing.B) { benchLazy(b, e, 16) })
		})
	}
}

func benchLazy(b *testing.B, e *Engine, writers int) {
	value := make([]byte, benchBytes)
	race(b, writers, func(n int) {
		if err := commit(e, lazily(put(fmt.Sprintf("lease/%d", n%100), value))); err != nil {
			b.Error(err)
		}
	})
}

func filled(b *testing.B, path string, records int) *Engine {
	b.Helper()
	e := mustOpen(b, path, Options{})
	fill(b, e, records)
	return e
}

func benchName(i int) string { return fmt.Sprintf("namespace-%02d/record-%05d", i%50, i) }

func benchCommit(b *testing.B, e *Engine, records, writers int) {
	value := make([]byte, benchBytes)
	before := e.Stats()
	race(b, writers, func(int) {
		if err := commit(e, put(benchName(rand.IntN(records)), value)); err != nil {
			b.Error(err)
		}
	})
	after := e.Stats()
	b.ReportMetric(float64(b.N)/float64(after.Commits-before.Commits), "ops/tx")
	b.ReportMetric(float64(after.WrittenBytes-before.WrittenBytes)/float64(b.N), "disk-B/op")
}

// race runs fn b.N times on so many goroutines and reports percentiles.
func race(b *testing.B, writers int, fn func(n int)) {
	b.Helper()
	latencies := make([]time.Duration, b.N)
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range writers {
		all.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= b.N {
					return
				}
				start := time.Now()
				fn(n)
				latencies[n] = time.Since(start)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(latencies)
	b.ReportMetric(float64(latencies[b.N/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(latencies[b.N*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// benchLog is the bound: values appended to a preallocated file, one fdatasync
// for each group.
func benchLog(b *testing.B, group int) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 64 << 20
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		b.Fatal(err)
	}
	f.Sync()
	record := make([]byte, group*(benchBytes+32))
	at := int64(0)
	b.ResetTimer()
	for range (b.N + group - 1) / group {
		if at+int64(len(record)) > size {
			at = 0
		}
		if _, err := f.WriteAt(record, at); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		at += int64(len(record))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkOpen opens a store of 20,000 records and reads them all.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), testFile)
	filled(b, path, benchRecords).Close()
	for b.Loop() {
		e, err := Open(path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		if err := e.Scan(context.Background(), "things", func(store.Record) error { n++; return nil }); err != nil || n != benchRecords {
			b.Fatal(n, err)
		}
		e.Close()
	}
}

// BenchmarkCompact reports the longest that a writer waited while the file was
// compacted beside it, the longest in a second without that, and how long the
// committer stopped.
func BenchmarkCompact(b *testing.B) {
	for _, records := range []int{20_000, 100_000} {
		b.Run(fmt.Sprint(records), func(b *testing.B) {
			var took, pause time.Duration
			var during, without []time.Duration
			for range b.N {
				e := mustOpen(b, filepath.Join(b.TempDir(), testFile), Options{CompactBytes: -1})
				fill(b, e, records)
				var compacting atomic.Bool
				var all sync.WaitGroup
				stop := make(chan struct{})
				all.Go(func() {
					d, w := timeWrites(b, e, records, stop, &compacting)
					during, without = append(during, d...), append(without, w...)
				})
				<-time.After(time.Second)
				start := time.Now()
				compacting.Store(true)
				if err := e.Compact(context.Background()); err != nil {
					b.Fatal(err)
				}
				took += time.Since(start)
				pause = max(pause, time.Duration(e.stats.pause.Load()))
				close(stop)
				all.Wait()
				e.Close()
			}
			b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/compaction")
			b.ReportMetric(float64(pause.Microseconds())/1000, "ms-committer-pause")
			b.ReportMetric(float64(slices.Max(during).Microseconds())/1000, "ms-longest-write")
			b.ReportMetric(float64(slices.Max(without).Microseconds())/1000, "ms-longest-write-without")
		})
	}
}

// timeWrites updates random records and tells how long each took, during the
// compaction and before.
func timeWrites(b *testing.B, e *Engine, records int, stop <-chan struct{}, compacting *atomic.Bool) (during, without []time.Duration) {
	for {
		select {
		case <-stop:
			return during, without
		default:
		}
		start, counts := time.Now(), compacting.Load()
		if err := commit(e, put(benchName(rand.IntN(records)), make([]byte, benchBytes))); err != nil {
			b.Error(err)
			return during, without
		}
		if counts {
			during = append(during, time.Since(start))
		} else {
			without = append(without, time.Since(start))
		}
	}
}
