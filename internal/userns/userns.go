// Package userns gives Pods user namespaces of their own: root in such a Pod is
// nobody on the machine.
//
// Ranges hands out the IDs, 65536 to each Pod, no ID to two of them; what a Pod
// has is written beside its volumes, so that it keeps it across restarts.
// Create makes the namespaces that belong to a Pod's user namespace. The package
// never looks at an API object.
package userns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Size is how many IDs a Pod has: 0 to 65535 inside.
const Size = 1 << 16

// most is how many Pods can have IDs; the first share is the machine's own.
const most = 1<<16 - 2

// mappingFile is a Pod's record, in its directory.
const mappingFile = "userns"

// Ranges are the IDs of a node's Pods. Its methods are safe for concurrent use.
type Ranges struct {
	root string // of the Pods' directories

	mu    sync.Mutex
	taken map[string]uint32 // first ID on the machine, by Pod UID
}

// mapping is what the record says, in upstream's form.
type mapping struct {
	UIDs []idRange `json:"uidMappings"`
	GIDs []idRange `json:"gidMappings"`
}

type idRange struct {
	Host      uint32 `json:"hostId"`
	Container uint32 `json:"containerId"`
	Length    uint32 `json:"length"`
}

// Open reads what the Pods below root have.
func Open(root string) (*Ranges, error) {
	r := &Ranges{root: root, taken: map[string]uint32{}}
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list pod directories: %w", err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(root, e.Name(), mappingFile))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
			continue
		}
		var m mapping
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil || len(m.UIDs) != 1 || m.UIDs[0].Length != Size {
			continue // cut short: nothing ran with it yet
		}
		r.taken[e.Name()] = m.UIDs[0].Host
	}
	return r, nil
}

// Take returns the first of a Pod's IDs on the machine, which it keeps until
// Free. The Pod's directory must exist.
func (r *Ranges) Take(podUID string) (uint32, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, ok := r.taken[podUID]; ok {
		return first, nil
	}
	used := map[uint32]bool{}
	for _, first := range r.taken {
		used[first] = true
	}
	for n := uint32(1); n <= most; n++ {
		if first := n * Size; !used[first] {
			if err := r.record(podUID, first); err != nil {
				return 0, err
			}
			r.taken[podUID] = first
			return first, nil
		}
	}
	return 0, errors.New("no user IDs are left for another Pod")
}

func (r *Ranges) record(podUID string, first uint32) error {
	ids := []idRange{{Host: first, Length: Size}}
	data, err := json.Marshal(mapping{UIDs: ids, GIDs: ids})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.root, podUID, mappingFile), data, 0o600); err != nil {
		return fmt.Errorf("record user IDs: %w", err)
	}
	return nil
}

// Of returns what Take gave a Pod; ok is false if it has nothing.
func (r *Ranges) Of(podUID string) (first uint32, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, ok = r.taken[podUID]
	return first, ok
}

// Free takes a Pod's IDs back; its directory goes by itself.
func (r *Ranges) Free(podUID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.taken, podUID)
}
