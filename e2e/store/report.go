package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"
)

// introduce says what is compared, and how.
func (b *bench) introduce(ctx context.Context) error {
	version, err := exec.CommandContext(ctx, b.etcd, "--version").Output()
	if err != nil {
		return fmt.Errorf("ask etcd for its version: %w; scripts/bench-store.sh gets it", err)
	}
	line, _, _ := strings.Cut(string(version), "\n")
	if b.quick {
		fmt.Println("A quick run: it shows that everything works, and its figures mean nothing.")
	}
	fmt.Printf(`skiff's store, %s and a bare log (appended to a file that is there already, one fdatasync for all
that wait), in turns on one disk, below %s, with %d CPUs; everything acknowledged is on disk.
- Skiff's store is measured as the server has it: inside the process of its writers. Etcd is another process,
  reached with its Go client as an API server has it: gRPC over a Unix socket, with as many connections, of
  %v, as make it fastest. What that takes is part of etcd's figures: the two storage formats alone are not compared.
- Every update is a compare-and-swap on the object's revision; objects are %d random bytes.
- Etcd has its defaults, with a compaction every 5 minutes as an API server has it. In a run as short as
  this it happens at most a few times.
- CPU is of the writers and the store together, garbage collection included; of that, "server" is etcd's own process.
- Bytes written come from %s.
`, line, b.dir, runtime.NumCPU(), connections, objectBytes, b.source())
	return nil
}

// newTable begins the table of a load over so many objects.
func newTable(objects int) *tabwriter.Writer {
	fmt.Printf("\nUpdates over %d objects\n", objects)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "writers\t\tupdates/s\tp50 ms\tp99 ms\tdisk bytes/update\tCPU µs/update\tserver\ttrips to disk/s\tskiff is\t")
	return t
}

// tell notes and prints what became of the keepers with so many writers.
func (b *bench) tell(t *tabwriter.Writer, rounds []round, writers int, suffix string) {
	for at, name := range []string{"skiff", "etcd", "log"} {
		note := func(what string, figure func(measured) float64) float64 {
			value := middle(rounds, at, figure)
			b.sheet.Set(fmt.Sprintf("%s_%s_%d%s", name, what, writers, suffix), value)
			return value
		}
		updates := note("updates", func(m measured) float64 { return m.perSecond() })
		p50 := note("p50_ms", func(m measured) float64 { return m.latency(0.5) })
		p99 := note("p99_ms", func(m measured) float64 { return m.latency(0.99) })
		written := note("bytes_per_update", func(m measured) float64 { return m.written / float64(len(m.took)) })
		cpu := note("cpu_us_per_update", func(m measured) float64 { return m.cpu(m.selfCPU + m.helpsCPU) })
		server, trips, faster := "", "", ""
		if name == "etcd" {
			server = fmt.Sprintf("%.0f", note("server_cpu_us_per_update", func(m measured) float64 { return m.cpu(m.helpsCPU) }))
		} else {
			trips = fmt.Sprintf("%.0f", note("commits", func(m measured) float64 { return float64(m.commits) / m.elapsed.Seconds() }))
		}
		if at > 0 {
			times := ratio(rounds, at, func(m measured) float64 { return m.perSecond() })
			b.sheet.Set(fmt.Sprintf("%s_ratio_%d%s", name, writers, suffix), times)
			slower := ratio(rounds, at, func(m measured) float64 { return m.latency(0.99) })
			b.sheet.Set(fmt.Sprintf("%s_p99_ratio_%d%s", name, writers, suffix), slower)
			faster = fmt.Sprintf("%.2f× (p99 %.2f×)", times, slower)
		}
		fmt.Fprintf(t, "%d\t%s\t%.0f\t%.2f\t%.2f\t%.0f\t%.0f\t%s\t%s\t%s\t\n",
			writers, name, updates, p50, p99, written, cpu, server, trips, faster)
	}
}

// set notes and prints one figure.
func (b *bench) set(key string, value float64) {
	b.sheet.Set(key, value)
	fmt.Printf("%-42s %16.3f\n", key, value)
}
