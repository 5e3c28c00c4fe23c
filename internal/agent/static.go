package agent

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/agent/static"
)

// statics are the Pods that lie as files on the node, and the objects of the API that
// stand for them.
type statics struct {
	dir  static.Dir
	wake chan struct{}

	mu      sync.Mutex
	mirrors map[string]*corev1.Pod // by namespace/name, as the watch brings them
}

func newStatics(a *Agent) *statics {
	s := &statics{wake: make(chan struct{}, 1), mirrors: map[string]*corev1.Pod{}}
	s.dir = static.Dir{Path: filepath.Join(a.Host.DataDir, "agent", "pod-manifests"), Node: a.NodeName, Trouble: func(path string, err error) {
		a.log.Warn("a file describes no static pod; correct it or take it away", zap.String("path", path), zap.Error(err))
		a.recorder.Eventf(a.nodeReference(), corev1.EventTypeWarning, "InvalidStaticPod", "%s: %v", path, err)
	}}
	return s
}

func (s *statics) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func nameOf(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// saw takes a mirror that the watch brought, and says whether it is one; nil in place of
// a mirror that is gone.
func (s *statics) saw(pod *corev1.Pod, gone bool) bool {
	if _, ok := static.MirrorOf(pod); !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := nameOf(pod); !gone {
		s.mirrors[name] = pod
	} else if known := s.mirrors[name]; known != nil && known.UID == pod.UID {
		delete(s.mirrors, name)
	}
	s.poke()
	return true
}

func (s *statics) seen() map[string]*corev1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*corev1.Pod, len(s.mirrors))
	for name, pod := range s.mirrors {
		out[name] = pod
	}
	return out
}

// runStatics keeps what the directory describes running and mirrored, until the context
// ends. The caller has run the directory's Pods once.
func (a *Agent) runStatics(ctx context.Context) error {
	delay := newRetry(500*time.Millisecond, time.Minute)
	for {
		pods, err := a.hireStatics(ctx)
		var again <-chan time.Time
		if err == nil {
			err = a.mirror(ctx, pods)
		}
		if err != nil && ctx.Err() == nil {
			a.log.Debug("mirror static pods", zap.Error(err))
			again = time.After(delay.step())
		} else {
			delay.reset()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.statics.wake:
		case <-a.registeredOnce(pods):
		case <-again:
		}
	}
}

// registeredOnce is closed when mirrors can be made that could not before.
func (a *Agent) registeredOnce(pods []*corev1.Pod) <-chan struct{} {
	if a.nodeUID.Load() != nil || len(pods) == 0 {
		return nil
	}
	return a.registered
}

// watchStatics hears of changes in the directory. A node that cannot, since the machine's
// watches are used up say, runs all the same.
func (a *Agent) watchStatics(ctx context.Context) {
	if err := a.Watch(ctx, a.statics.dir.Path, a.statics.poke); err != nil {
		a.log.Warn("changes of static pods are not noticed before the next start; is fs.inotify.max_user_instances too low?", zap.Error(err))
	}
}

// hireStatics gives the Pods of the directory workers and lets those go that it does not
// describe any more. One that takes another's name waits until that has ended.
func (a *Agent) hireStatics(ctx context.Context) ([]*corev1.Pod, error) {
	pods, err := a.statics.dir.Pods()
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, pod := range pods {
		wanted[string(pod.UID)] = true
	}
	a.pods.mu.Lock()
	defer a.pods.mu.Unlock()
	taken := map[string]bool{}
	for uid, w := range a.pods.workers {
		if !w.static {
			continue
		}
		taken[w.reference.Namespace+"/"+w.reference.Name] = true
		if !wanted[uid] {
			w.vanish()
		}
	}
	for _, pod := range pods {
		if !taken[nameOf(pod)] {
			a.hire(ctx, pod)
		}
	}
	return pods, nil
}

// mirror makes the API show the static Pods and nothing else in their place.
func (a *Agent) mirror(ctx context.Context, pods []*corev1.Pod) error {
	seen := a.statics.seen()
	var errs []error
	for _, pod := range pods {
		name := nameOf(pod)
		mirror := seen[name]
		delete(seen, name)
		switch {
		case mirror == nil:
			errs = append(errs, a.makeMirror(ctx, pod))
		case !stands(mirror, pod):
			errs = append(errs, a.removeMirror(ctx, mirror))
		default:
			if w := a.worker(string(pod.UID)); w != nil {
				w.setMirror(mirror)
			}
		}
	}
	for _, mirror := range seen {
		errs = append(errs, a.removeMirror(ctx, mirror))
	}
	return errors.Join(errs...)
}

// stands says whether the object still shows the static Pod.
func stands(mirror, pod *corev1.Pod) bool {
	uid, _ := static.MirrorOf(mirror)
	return uid == pod.UID && mirror.DeletionTimestamp == nil
}

func (a *Agent) makeMirror(ctx context.Context, pod *corev1.Pod) error {
	nodeUID := a.nodeUID.Load()
	if nodeUID == nil {
		return nil // the node's registration wakes us
	}
	made, err := a.Client.CoreV1().Pods(pod.Namespace).Create(ctx, static.Mirror(pod, *nodeUID), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // the watch brings it
	}
	if err != nil {
		return err
	}
	a.statics.saw(made, false)
	return nil
}

func (a *Agent) removeMirror(ctx context.Context, mirror *corev1.Pod) error {
	now := int64(0)
	err := a.Client.CoreV1().Pods(mirror.Namespace).Delete(ctx, mirror.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &mirror.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		a.statics.saw(mirror, true)
		return nil
	}
	return err
}

// setMirror tells the worker of a static Pod what the API shows of it.
func (w *worker) setMirror(mirror *corev1.Pod) {
	w.mu.Lock()
	pod := *w.pod
	pod.Status = mirror.Status
	w.pod = &pod
	w.mu.Unlock()
	w.status.mirror(mirror)
	w.poke()
}
