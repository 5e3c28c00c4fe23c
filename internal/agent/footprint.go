package agent

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// footprintAge is how old what is told of a Pod's disks may be: who asks often does
// not have files walked each time. Upstream's volumes are as old.
const footprintAge = time.Minute

// taken is what something takes of a file system.
type taken struct{ Bytes, Inodes int64 }

func (t *taken) add(other taken) {
	t.Bytes += other.Bytes
	t.Inodes += other.Inodes
}

// footprint is what a Pod took of the node's disks at one moment.
type footprint struct {
	At           time.Time
	Layers, Logs map[string]taken           // by the ID of a container that runs
	Volumes      map[string]volumeFootprint // by name, of those that are the Pod's own
	Hosts        taken                      // its /etc/hosts
}

// volumeFootprint is what a volume takes of the file system that it is on.
type volumeFootprint struct {
	taken
	Room  diskStats
	Local bool // it counts for the Pod's ephemeral storage
}

// total is the Pod's ephemeral storage.
func (f *footprint) total() taken {
	sum := f.Hosts
	for _, all := range []map[string]taken{f.Layers, f.Logs} {
		for _, t := range all {
			sum.add(t)
		}
	}
	for _, v := range f.Volumes {
		if v.Local {
			sum.add(v.taken)
		}
	}
	return sum
}

// lastFootprint is what was measured of a Pod last.
type lastFootprint struct {
	mu  sync.Mutex // one measures, the others wait for what comes out
	was *footprint
}

// footprint measures what the Pod takes, unless that was done a short time ago.
// What cannot be read counts as nothing.
func (a *Agent) footprint(ctx context.Context, w *worker, age time.Duration) *footprint {
	w.last.mu.Lock()
	defer w.last.mu.Unlock()
	runs := w.current()
	if f := w.last.was; f != nil && time.Since(f.At) < age && f.covers(runs) {
		return f
	}
	w.mu.Lock()
	pod, paths := w.pod, w.box.Volumes
	w.mu.Unlock()
	f := &footprint{At: time.Now(), Layers: map[string]taken{}, Logs: map[string]taken{}, Volumes: map[string]volumeFootprint{}}
	for _, r := range runs {
		bytes, inodes, err := a.Runtime.LayerUsage(ctx, r.ID)
		if err != nil {
			w.log.Debug("read what a container has written", zap.Error(err))
		}
		f.Layers[r.ID], f.Logs[r.ID] = taken{bytes, inodes}, filesUse(filepath.Dir(r.LogPath))
	}
	for i := range pod.Spec.Volumes {
		if path := paths[pod.Spec.Volumes[i].Name]; path != "" {
			if v, ok := measureVolume(&pod.Spec.Volumes[i].VolumeSource, path); ok {
				f.Volumes[pod.Spec.Volumes[i].Name] = v
			}
		}
	}
	f.Hosts = diskUse(filepath.Join(a.podDir(w.uid), "etc-hosts"))
	w.last.was = f
	return f
}

// covers says whether all of these containers were measured.
func (f *footprint) covers(runs map[string]*run) bool {
	for _, r := range runs {
		if _, ok := f.Layers[r.ID]; !ok {
			return false
		}
	}
	return true
}

// measureVolume measures a volume that is the Pod's own; false for others, which may
// be large and are nobody's.
func measureVolume(v *corev1.VolumeSource, path string) (volumeFootprint, bool) {
	switch {
	case v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault, v.ConfigMap != nil:
		return volumeFootprint{taken: diskUse(path), Room: diskOf(path), Local: true}, true
	case v.EmptyDir != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil:
		// A file system of its own knows what is in it.
		room := diskOf(path)
		return volumeFootprint{taken: taken{int64(room.Used), int64(room.UsedInodes)}, Room: room}, true
	}
	return volumeFootprint{}, false
}

// filesUse is what the files in a directory take, without those in others below.
func filesUse(dir string) (sum taken) {
	entries, _ := os.ReadDir(dir) // may be gone
	for _, e := range entries {
		if !e.IsDir() {
			sum.add(diskUse(filepath.Join(dir, e.Name())))
		}
	}
	return sum
}

// diskUse is what a directory or file takes of its disk, each file once. Other file
// systems below it do not count.
func diskUse(dir string) (sum taken) {
	var root syscall.Stat_t
	if err := syscall.Lstat(dir, &root); err != nil {
		return sum
	}
	seen := map[uint64]bool{} // of files with several names
	// What goes while it is looked at counts for nothing.
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case !ok:
		case s.Dev != root.Dev:
			if e.IsDir() {
				return fs.SkipDir
			}
		case s.Nlink > 1 && !e.IsDir() && seen[s.Ino]:
		default:
			if s.Nlink > 1 && !e.IsDir() {
				seen[s.Ino] = true
			}
			sum.add(taken{s.Blocks * 512, 1})
		}
		return nil
	})
	return sum
}
