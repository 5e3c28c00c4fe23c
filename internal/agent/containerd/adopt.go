package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	types "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/agent"
)

// Exit codes of containers whose end nobody saw, as other runtimes tell them.
const (
	exitUnknown = 255 // ended with the machine
	exitKilled  = 137 // killed since its shim had gone
)

// adopt finds the containers of the last run: those that run are followed,
// those that were being made or removed are removed.
func (r *Runtime) adopt(ctx context.Context) error {
	records, err := r.store.client.ContainerService().List(ctx)
	if err != nil {
		return err
	}
	for _, record := range records {
		if record.Runtime.Name != runtimeName {
			continue
		}
		// One that resists must not keep the others from being looked after.
		if err := r.adoptContainer(ctx, record); err != nil {
			r.config.Log.Error("adopt a container", zap.String("container", record.ID), zap.Error(err))
		}
	}
	return r.removeStrangers(ctx)
}

func (r *Runtime) adoptContainer(ctx context.Context, record containers.Container) error {
	e := adoptedEntry(record)
	bundle := r.bundle(e.state.Pod.UID, record.ID)
	s, err := readState(bundle)
	switch {
	case err == nil:
	case !errors.Is(err, os.ErrNotExist):
		return err
	case record.Labels[labelBoot] == r.boot:
		r.config.Log.Info("removing a container that was not finished", zap.String("container", record.ID))
		return r.destroy(ctx, e.state.Pod.UID, record.ID)
	default: // the machine was restarted since
		s = State{CreatedAt: record.CreatedAt, StartedAt: record.CreatedAt, FinishedAt: now(), ExitCode: exitUnknown}
		if err := writeState(bundle, s); err != nil {
			return err
		}
	}
	e.made = true
	e.state.User = readUser(bundle)
	e.take(s)
	r.mu.Lock()
	r.containers[record.ID] = e
	r.mu.Unlock()
	if e.state.Phase == agent.ContainerExited {
		return nil
	}
	p, err := r.pod(e.state.Pod.UID, false)
	var answer *task.StateResponse
	if err == nil {
		answer, err = p.tasks.State(ctx, &task.StateRequest{ID: record.ID})
	}
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lose(e)
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watch(e, p)
	if answer.Status == types.Status_STOPPED { // its number may be another process's
		r.tasks.Go(func() { r.learnEnd(e) })
	}
	return nil
}

// readUser says whom a container began as, by its specification; nil if that cannot be
// read.
func readUser(bundle string) *agent.User {
	var spec specs.Spec
	data, err := os.ReadFile(filepath.Join(bundle, SpecFile))
	if err != nil || json.Unmarshal(data, &spec) != nil || spec.Process == nil {
		return nil
	}
	u := &agent.User{UID: int64(spec.Process.User.UID), GID: int64(spec.Process.User.GID)}
	for _, gid := range spec.Process.User.AdditionalGids {
		u.Groups = append(u.Groups, int64(gid))
	}
	return u
}

func adoptedEntry(record containers.Container) *entry {
	attempt, _ := strconv.Atoi(record.Labels[labelAttempt])
	return &entry{state: agent.ContainerState{
		ID: record.ID, Name: record.Labels[labelName], Attempt: attempt,
		Pod: agent.PodRef{
			UID: record.Labels[labelPodUID], Namespace: record.Labels[labelPodNamespace], Name: record.Labels[labelPodName],
		},
		CreatedAt: record.CreatedAt, ImageRef: record.Image, ImageID: record.Labels[labelImageID],
		LogPath: record.Labels[labelLog],
	}}
}

// take copies what the shim has recorded.
func (e *entry) take(s State) {
	e.state.PID = s.PID
	e.state.StartedAt, e.state.FinishedAt = s.StartedAt, s.FinishedAt
	e.state.ExitCode, e.state.OOMKilled = s.ExitCode, s.OOMKilled
	switch {
	case !s.FinishedAt.IsZero():
		e.state.Phase = agent.ContainerExited
	case !s.StartedAt.IsZero():
		e.state.Phase = agent.ContainerRunning
	default:
		e.state.Phase = agent.ContainerCreated
	}
}

// watch sees to it that a container's end is learnt of; the caller holds r.mu. Its
// process or its shim ends first.
func (r *Runtime) watch(e *entry, p *pod) {
	if e.shim != nil || r.closed {
		return
	}
	e.shim = p
	if err := r.ends.watch(e.state.PID, func() { r.learn(e) }); err != nil || !p.alive() {
		r.tasks.Go(func() { r.learnEnd(e) })
	}
}

// learn has a container's end learnt of, beside what goes on.
func (r *Runtime) learn(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && e.state.Phase != agent.ContainerExited {
		r.tasks.Go(func() { r.learnEnd(e) })
	}
}

// shimGone has the ends of all containers learnt of that a shim looked after.
func (r *Runtime) shimGone(p *pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.containers {
		if e.shim == p && !r.closed && e.state.Phase != agent.ContainerExited {
			r.tasks.Go(func() { r.learnEnd(e) })
		}
	}
}

// learnEnd asks the shim for a container's end, which has come or comes at once, unless
// the shim is gone.
func (r *Runtime) learnEnd(e *entry) {
	answer, err := e.shim.tasks.Wait(r.ended, &task.WaitRequest{ID: e.state.ID})
	if r.ended.Err() != nil {
		return
	}
	s, stateErr := readState(r.bundle(e.state.Pod.UID, e.state.ID))
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.state.Phase == agent.ContainerExited || r.containers[e.state.ID] != e || e.removing && stateErr != nil {
		return // it is known, or who removes it has told its end
	}
	if err == nil && (stateErr != nil || s.FinishedAt.IsZero()) {
		// It could not write that down, on a full file system say.
		s.PID, s.StartedAt = e.state.PID, e.state.StartedAt
		s.FinishedAt, s.ExitCode = answer.ExitedAt.AsTime(), int(answer.ExitStatus)
		stateErr = nil
	}
	if stateErr != nil || s.FinishedAt.IsZero() {
		r.config.Log.Warn("a Pod's shim is gone: killing what it looked after",
			zap.String("container", e.state.ID), zap.Error(err))
		r.lose(e)
		return
	}
	r.end(e, s)
}

// end records an exit and tells followers; the caller holds r.mu.
func (r *Runtime) end(e *entry, s State) {
	if e.state.Phase == agent.ContainerExited {
		return
	}
	e.take(s)
	r.announce(e.state)
}

// lose ends a container whose shim is gone, since nobody reads its output or
// would learn of its end; the caller holds r.mu.
func (r *Runtime) lose(e *entry) {
	id, bundle := e.state.ID, r.bundle(e.state.Pod.UID, e.state.ID)
	if _, err := os.Stat(filepath.Join(r.runcDir(), id)); err == nil {
		if err := r.forceDelete(id, filepath.Dir(bundle)); err != nil {
			r.config.Log.Error("kill a container without a shim", zap.String("container", id), zap.Error(err))
		}
	}
	s, err := readState(bundle)
	if err != nil {
		s = State{PID: e.state.PID, CreatedAt: e.state.CreatedAt, StartedAt: e.state.StartedAt}
	}
	s.FinishedAt, s.ExitCode = now(), exitKilled
	if err := writeState(bundle, s); err != nil {
		r.config.Log.Warn("record exit", zap.String("container", id), zap.Error(err))
	}
	r.end(e, s)
}

// removeStrangers ends shims and bundles of which there is no record, as when
// the data directory was emptied under them.
func (r *Runtime) removeStrangers(ctx context.Context) error {
	pods, err := os.ReadDir(r.podsDir())
	if err != nil {
		return err
	}
	for _, dir := range pods {
		uid := dir.Name()
		remove := r.RemovePod
		if len(r.idsOf(uid)) > 0 {
			remove = r.removeUnknownBundles
		}
		if err := remove(ctx, uid); err != nil {
			r.config.Log.Error("remove what is left of a Pod", zap.String("pod", uid), zap.Error(err))
		}
	}
	return nil
}

func (r *Runtime) removeUnknownBundles(ctx context.Context, uid string) error {
	entries, err := os.ReadDir(r.podDir(uid))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := r.find(e.Name()); err != nil && e.IsDir() {
			if err := r.deleteTask(ctx, uid, e.Name()); err != nil {
				return err
			}
			if err := r.removeBundle(e.Name(), r.bundle(uid, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func readState(bundle string) (State, error) {
	data, err := os.ReadFile(filepath.Join(bundle, StateFile))
	if err != nil {
		return State{}, err
	}
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("decode %s: %w", filepath.Join(bundle, StateFile), err)
	}
	return s, nil
}

func writeState(bundle string, s State) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := makeDirs(bundle); err != nil {
		return err
	}
	path := filepath.Join(bundle, StateFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
