// Package volume puts the volumes of Pods on the node's disk and keeps their
// contents current. Volumes mounts and unmounts whole Pods; Objects watches the
// ConfigMaps and Secrets that Pods refer to, each by its name and only while a
// Pod needs it. What comes from the API is written the way upstream does: a
// directory with a time in its name, which the link ..data is turned to in one
// rename, so that a reader sees all of the old or all of the new.
//
// Everything of a Pod lies under ROOT/UID, and Unmount leaves nothing of it.
// The package never asks the API server again and again: changes come from
// watches, and tokens are renewed when 80 % of their life is over.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// Config is what Volumes needs.
type Config struct {
	Client      kubernetes.Interface
	Objects     *Objects
	Root        string              // of the Pods' directories
	Allocatable corev1.ResourceList // the node's, for the downward API
	Log         *zap.Logger
	Disk        Disk // optional: the machine's own
	// Changed is optional: it is called with each ConfigMap or Secret that
	// Pods hold and that has changed. It must not block.
	Changed func(Ref)
}

// Volumes are the mounted volumes of a node's Pods. Its methods are safe for
// concurrent use; those for one Pod must not run at the same time.
type Volumes struct {
	Config
	tokens tokens
	wake   chan struct{}

	mu      sync.Mutex
	pods    map[string]*mounted // by UID
	changed map[Ref]bool        // since Run last looked
	expired bool                // all tokens have, since then
}

// mounted is a Pod whose volumes are up.
type mounted struct {
	mu        sync.Mutex // held while its contents are written, which may wait for the API
	pod       *corev1.Pod
	unmounted bool
	up        map[string]bool // volumes with contents from the API that have been set up
	refresh   time.Time       // when its first token wants renewal

	// Under Volumes.mu: nobody who brings news waits for a Pod's API calls.
	newer   *corev1.Pod // the Pod's new metadata, not shown yet
	skipped bool        // was busy when something had changed
}

// New makes Volumes that learn of changes from c.Objects.
func New(c Config) *Volumes {
	if c.Disk == nil {
		c.Disk = kernel{memory: c.Allocatable.Memory().Value()}
	}
	v := &Volumes{Config: c, wake: make(chan struct{}, 1), pods: map[string]*mounted{}, changed: map[Ref]bool{}}
	v.tokens.client = c.Client
	c.Objects.subscribe(func(r Ref) {
		v.mu.Lock()
		v.changed[r] = true
		v.mu.Unlock()
		v.poke()
		if c.Changed != nil {
			c.Changed(r)
		}
	})
	return v
}

func (v *Volumes) poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// Dir is where a volume of a Pod is.
func (v *Volumes) Dir(podUID string, vol *corev1.Volume) string {
	return filepath.Join(v.Root, podUID, "volumes", "kubernetes.io~"+pluginName(vol), vol.Name)
}

func pluginName(vol *corev1.Volume) string {
	switch {
	case vol.ConfigMap != nil:
		return "configmap"
	case vol.Secret != nil:
		return "secret"
	case vol.Projected != nil:
		return "projected"
	case vol.DownwardAPI != nil:
		return "downward-api"
	case vol.HostPath != nil:
		return "host-path"
	case vol.Image != nil:
		return imagePlugin
	case vol.NFS != nil:
		return "nfs"
	}
	return "empty-dir"
}

// Mount brings up all volumes of the Pod and returns where each is on the
// host, by name. It is idempotent: a Pod whose volumes are up keeps them.
func (v *Volumes) Mount(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	v.mu.Lock()
	m := v.pods[string(pod.UID)]
	if m == nil {
		m = &mounted{up: map[string]bool{}}
		v.pods[string(pod.UID)] = m
	}
	v.mu.Unlock()
	defer v.poke() // what came in the meantime
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pod = pod
	paths := map[string]string{}
	for i := range pod.Spec.Volumes {
		vol := &pod.Spec.Volumes[i]
		path, err := v.setUp(ctx, m, vol)
		if err != nil {
			return nil, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", vol.Name, err)
		}
		paths[vol.Name] = path
	}
	return paths, nil
}

func (v *Volumes) setUp(ctx context.Context, m *mounted, vol *corev1.Volume) (string, error) {
	dir := v.Dir(string(m.pod.UID), vol)
	if err := v.Disk.prepare(ctx, dir, m.pod, vol); err != nil {
		return "", err
	}
	if vol.HostPath != nil {
		return vol.HostPath.Path, nil
	}
	if !fromAPI(vol) {
		return dir, nil
	}
	m.up[vol.Name] = true
	return dir, v.fill(ctx, m, vol)
}

// fromAPI says whether the volume's contents come from the API.
func fromAPI(vol *corev1.Volume) bool {
	return vol.ConfigMap != nil || vol.Secret != nil || vol.Projected != nil || vol.DownwardAPI != nil
}

// fill writes the present contents of a volume that comes from the API.
func (v *Volumes) fill(ctx context.Context, m *mounted, vol *corev1.Volume) error {
	c := collector{volumes: v, pod: m.pod, files: map[string]file{}}
	if err := c.collect(ctx, vol); err != nil {
		return err
	}
	if !c.refresh.IsZero() && (m.refresh.IsZero() || c.refresh.Before(m.refresh)) {
		m.refresh = c.refresh
	}
	return v.Disk.write(v.Dir(string(m.pod.UID), vol), c.files, fsGroup(m.pod))
}

func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// Update tells of a Pod's new metadata, which downward API volumes show. It does
// not wait, not even for the Pod's Mount.
func (v *Volumes) Update(pod *corev1.Pod) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if m := v.pods[string(pod.UID)]; m != nil {
		m.newer = pod
		v.poke()
	}
}

// RenewTokens has all tokens renewed at once: the time they end by was set.
func (v *Volumes) RenewTokens() {
	v.tokens.expire()
	v.mu.Lock()
	v.expired = true
	v.mu.Unlock()
	v.poke()
}

// Unmount takes down all of a Pod's volumes and removes what was in them. A Pod
// that has none is no error.
func (v *Volumes) Unmount(podUID string) error {
	v.mu.Lock()
	m := v.pods[podUID]
	delete(v.pods, podUID)
	v.mu.Unlock()
	if m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.unmounted = true
	}
	v.tokens.forget(podUID)
	return v.Disk.remove(filepath.Join(v.Root, podUID))
}

// UIDs lists the Pods that have a directory.
func (v *Volumes) UIDs() ([]string, error) {
	entries, err := os.ReadDir(v.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list pod directories: %w", err)
	}
	var uids []string
	for _, e := range entries {
		uids = append(uids, e.Name())
	}
	return uids, nil
}

// Run rewrites volumes when what they show changes, until the context ends.
func (v *Volumes) Run(ctx context.Context) error {
	for {
		next := v.refresh(ctx, time.Now())
		var due <-chan time.Time
		var timer *time.Timer
		if !next.IsZero() {
			timer = time.NewTimer(time.Until(next))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-v.wake:
		case <-due:
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// retryUpdate is when a volume that could not be rewritten is tried again.
const retryUpdate = 10 * time.Second

// refresh rewrites what has changed or is due and returns when the next is.
func (v *Volumes) refresh(ctx context.Context, now time.Time) time.Time {
	v.mu.Lock()
	changed, expired := v.changed, v.expired
	v.changed, v.expired = map[Ref]bool{}, false
	all := make([]*mounted, 0, len(v.pods))
	for _, m := range v.pods {
		all = append(all, m)
	}
	v.mu.Unlock()
	var next time.Time
	for _, m := range all {
		if !m.mu.TryLock() {
			// It is being mounted, which may take long; others must not wait
			// for that. Its end wakes us.
			v.mu.Lock()
			m.skipped = true
			v.mu.Unlock()
			continue
		}
		if expired && !m.refresh.IsZero() {
			m.refresh = now
		}
		at := v.refreshPod(ctx, m, changed, now)
		m.mu.Unlock()
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// news takes what came for the Pod, and says whether something did.
func (v *Volumes) news(m *mounted) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	came := m.skipped || m.newer != nil
	if m.newer != nil {
		m.pod = m.newer
	}
	m.newer, m.skipped = nil, false
	return came
}

// refreshPod does that for one Pod; m.mu is held.
func (v *Volumes) refreshPod(ctx context.Context, m *mounted, changed map[Ref]bool, now time.Time) time.Time {
	if m.unmounted || m.pod == nil {
		return time.Time{}
	}
	due := !m.refresh.IsZero() && !now.Before(m.refresh)
	if came := v.news(m); !came && !due && !touches(m.pod, changed) {
		return m.refresh
	}
	m.refresh = time.Time{}
	for i := range m.pod.Spec.Volumes {
		vol := &m.pod.Spec.Volumes[i]
		if !m.up[vol.Name] {
			continue // nothing of it changes, or Mount has not come to it yet
		}
		if err := v.fill(ctx, m, vol); err != nil {
			v.Log.Debug("update volume", zap.String("pod", m.pod.Namespace+"/"+m.pod.Name),
				zap.String("volume", vol.Name), zap.Error(err))
			m.refresh = now.Add(retryUpdate)
		}
	}
	return m.refresh
}

func touches(pod *corev1.Pod, changed map[Ref]bool) bool {
	if len(changed) == 0 {
		return false
	}
	for _, r := range volumeRefs(pod) {
		if changed[r] {
			return true
		}
	}
	return false
}
