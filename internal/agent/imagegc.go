package agent

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// imageLook is how often the node looks whether images take too much room.
const imageLook = 5 * time.Minute

// imageUses is what is known of when images were used; for runNode alone.
type imageUses struct {
	first, last map[string]time.Time // by ID: when it was first seen, and last used
	looked      time.Time
}

// see notes which images there are and which are used.
func (u *imageUses) see(images []Image, used map[string]bool, now time.Time) {
	if u.first == nil {
		u.first, u.last = map[string]time.Time{}, map[string]time.Time{}
	}
	there := map[string]bool{}
	for _, i := range images {
		there[i.ID] = true
		if _, known := u.first[i.ID]; !known {
			u.first[i.ID] = now
		}
		if used[i.ID] {
			u.last[i.ID] = now
		}
	}
	for id := range u.first {
		if !there[id] {
			delete(u.first, id)
			delete(u.last, id)
		}
	}
}

// choose returns images to remove until so many bytes are free, those first that
// were not used for the longest time. Images in use, kept by hand or younger than
// that stay. It is pure.
func (u *imageUses) choose(images []Image, used map[string]bool, now time.Time, age time.Duration, bytes int64) (out []Image) {
	free := slices.DeleteFunc(slices.Clone(images), func(i Image) bool {
		return i.Kept || used[i.ID] || now.Sub(u.first[i.ID]) < age
	})
	slices.SortStableFunc(free, func(x, y Image) int {
		return cmp.Or(u.last[x.ID].Compare(u.last[y.ID]), u.first[x.ID].Compare(u.first[y.ID]), strings.Compare(x.ID, y.ID))
	})
	for _, i := range free {
		if bytes <= 0 {
			break
		}
		out = append(out, i)
		bytes -= i.Size
	}
	return out
}

// tooMuch is how many bytes have to go for a disk to be used no more than it should.
func tooMuch(r Room, high, low int) int64 {
	if r.Capacity <= 0 || 100-int(r.Available*100/r.Capacity) < high {
		return 0
	}
	return r.Capacity*int64(100-low)/100 - r.Available
}

// collectImages removes images that nobody uses when the disk is used more than it
// should be, as often as is worth it.
func (a *Agent) collectImages(ctx context.Context) {
	now := time.Now()
	if now.Sub(a.imageUses.looked) < imageLook {
		return
	}
	a.imageUses.looked = now
	rooms := a.Machine.Pressure().Room
	i := slices.IndexFunc(rooms, func(r Room) bool { return r.Signal == "imagefs.available" })
	if i < 0 {
		return
	}
	bytes := tooMuch(rooms[i], a.Kubelet.ImageGCHigh, a.Kubelet.ImageGCLow)
	freed := a.removeImages(ctx, bytes)
	if node := a.own.get(); freed < bytes && node != nil {
		ref := &corev1.ObjectReference{Kind: "Node", Name: a.NodeName, UID: node.UID}
		a.recorder.Eventf(ref, corev1.EventTypeWarning, "FreeDiskSpaceFailed",
			"Failed to garbage collect required amount of images. Attempted to free %d bytes, but only found %d bytes eligible to free.", bytes, freed)
	}
}

// removeImages removes unused images of so many bytes and returns how many they
// had. It notes what is used now even where nothing is to be removed.
func (a *Agent) removeImages(ctx context.Context, bytes int64) (freed int64) {
	images, err := a.Images.List(ctx)
	if err != nil {
		a.log.Debug("list images", zap.Error(err))
		return 0
	}
	now, used := time.Now(), a.usedImages(ctx, images)
	a.imageUses.see(images, used, now)
	for _, i := range a.imageUses.choose(images, used, now, a.Kubelet.ImageMinimumAge, bytes) {
		if err := a.Images.Remove(ctx, i.ID); err != nil {
			a.log.Warn("remove an image that nobody uses", zap.String("image", i.ID), zap.Error(err))
			continue
		}
		a.log.Info("image removed: nobody uses it and room is short", zap.Strings("names", i.Names), zap.Int64("bytes", i.Size))
		freed += i.Size
	}
	if freed > 0 {
		a.pokeNode()
	}
	return freed
}

// allImages asks for all that can go.
const allImages = math.MaxInt64

// usedImages are the IDs of those that Pods of this node run, ran last or name.
func (a *Agent) usedImages(ctx context.Context, images []Image) map[string]bool {
	used := map[string]bool{}
	runs := map[string]bool{}
	var refs []string
	for _, w := range a.allWorkers() {
		w.mu.Lock()
		for _, r := range w.records {
			for _, one := range []*run{r.Current, r.Last} {
				if one != nil {
					runs[one.ImageID] = true
				}
			}
		}
		refs = append(refs, namedImages(&w.pod.Spec)...)
		w.mu.Unlock()
	}
	for _, i := range images {
		if runs[i.ID] || runs[imageID(i)] || slices.ContainsFunc(i.Names, func(name string) bool { return runs[name] }) {
			used[i.ID] = true
		}
	}
	slices.Sort(refs)
	for _, ref := range slices.Compact(refs) {
		if i, ok, err := a.Images.Get(ctx, ref); err == nil && ok {
			used[i.ID] = true
		}
	}
	return used
}

func namedImages(spec *corev1.PodSpec) (refs []string) {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			refs = append(refs, list[i].Image)
		}
	}
	for i := range spec.EphemeralContainers {
		refs = append(refs, spec.EphemeralContainers[i].Image)
	}
	for i := range spec.Volumes {
		if v := spec.Volumes[i].Image; v != nil {
			refs = append(refs, v.Reference)
		}
	}
	return refs
}
