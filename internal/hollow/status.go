package hollow

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	goruntime "runtime"
	"runtime/metrics"
)

// Socket is where the process of a data directory tells its Status, to GET /status.
func Socket(dataDir string) string { return filepath.Join(dataDir, "hollow.sock") }

// Status is how it goes with the nodes and what they cost this process.
type Status struct {
	Nodes, Joined int
	Goroutines    int
	Stacks        uint64 // bytes
	Heap          uint64 // bytes of live objects, after a collection that was asked for
}

func (c *crowd) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		goruntime.GC() // else what is live cannot be told from what was
		samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
		metrics.Read(samples)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Status{ // who asked may have gone
			Nodes: c.Count, Joined: int(c.joined.Load()), Goroutines: goruntime.NumGoroutine(),
			Heap: samples[0].Value.Uint64(), Stacks: samples[1].Value.Uint64(),
		})
	})
	return mux
}
