package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/skiff-sh/skiff/internal/agent"
)

// Labels of a container's record; those that others use too have their names.
const (
	labelPodUID       = "io.kubernetes.pod.uid"
	labelPodNamespace = "io.kubernetes.pod.namespace"
	labelPodName      = "io.kubernetes.pod.name"
	labelName         = "io.kubernetes.container.name"
	labelAttempt      = "skiff.sh/attempt"
	labelImageID      = "skiff.sh/image-id"
	labelLog          = "skiff.sh/log"
	labelBoot         = "skiff.sh/boot" // the boot in which it was made
)

// runtimeName is what a record says of who runs the container. Any daemon
// that reads it should leave the container alone.
const runtimeName = "skiff"

// specTypeURL is the type of the OCI specification in a record.
const specTypeURL = "types.containerd.io/opencontainers/runtime-spec/1/Spec"

// validID is what names directories and cgroups.
var validID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,75}$`)

// Create implements agent.Runtime.
func (r *Runtime) Create(ctx context.Context, c agent.Container) (err error) {
	if !validID.MatchString(c.ID) || !validID.MatchString(c.Pod.UID) {
		return fmt.Errorf("create container %q of Pod %q: expected letters, digits, dots and dashes", c.ID, c.Pod.UID)
	}
	if err := checkPropagation(c.Mounts, mount.Lookup); err != nil {
		return err
	}
	ctx = r.scope(ctx)
	end, err := r.turn(ctx)
	if err != nil {
		return err
	}
	defer end()
	e, err := r.reserve(c)
	if err != nil {
		return err
	}
	defer e.op.Unlock()
	defer func() {
		if err != nil {
			// What was begun must go, even when the caller has given up.
			if left := r.destroy(context.WithoutCancel(ctx), c.Pod.UID, c.ID); left != nil {
				err = errors.Join(err, left)
			}
		}
	}()
	if err := r.chooseHandler(r.podDir(c.Pod.UID), c.Pod.Handler); err != nil {
		return err
	}
	p, err := r.pod(c.Pod.UID, true)
	if err != nil {
		return err
	}
	share := c.Pod.PIDNS == agent.SharedPIDs
	if share {
		c.Pod.PIDNS = filepath.Join(r.podDir(c.Pod.UID), PIDNamespace)
	}
	if err := r.prepare(ctx, c, e); err != nil {
		return err
	}
	return r.createTask(ctx, c, share, p, e)
}

// reserve takes the ID. The entry is returned locked, so that a Remove waits.
func (r *Runtime) reserve(c agent.Container) (*entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.containers[c.ID]; ok {
		return nil, fmt.Errorf("create container %s: %w", c.ID, fs.ErrExist)
	}
	e := &entry{state: agent.ContainerState{
		ID: c.ID, Name: c.Name, Attempt: c.Attempt,
		Pod:      agent.PodRef{UID: c.Pod.UID, Namespace: c.Pod.Namespace, Name: c.Pod.Name},
		Phase:    agent.ContainerCreated,
		ImageRef: c.Image.Ref, ImageID: c.Image.ID, LogPath: c.LogPath,
	}}
	e.op.Lock()
	r.containers[c.ID] = e
	return e, nil
}

// prepare makes record, snapshot and bundle, in this order: whatever is there
// can be found by the record.
func (r *Runtime) prepare(ctx context.Context, c agent.Container, e *entry) error {
	record, err := r.store.client.ContainerService().Create(ctx, r.record(c))
	if errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("create container %s: %w: %w", c.ID, fs.ErrExist, err)
	}
	if err != nil {
		return fmt.Errorf("record container: %w", err)
	}
	e.state.CreatedAt = record.CreatedAt
	mounts, err := r.store.client.SnapshotService(r.store.snapshotter).Prepare(ctx, c.ID, c.Image.RootFSChain, idLabels(c.Pod)...)
	if err != nil {
		return fmt.Errorf("prepare snapshot of image %s: %w", c.Image.Ref, err)
	}
	bundle := r.bundle(c.Pod.UID, c.ID)
	root := filepath.Join(bundle, RootFS)
	if err := makeDirs(root); err != nil {
		return err
	}
	if err := mount.All(mounts, root); err != nil {
		return fmt.Errorf("mount root file system: %w", err)
	}
	named := c.User.Spec
	if c.User, err = resolveUser(root, c.User); err != nil {
		return fmt.Errorf("user %q: %w", named, err)
	}
	e.state.User = &agent.User{UID: c.User.UID, GID: c.User.GID, Groups: c.User.Groups}
	spec, err := newSpec(c, r.machine)
	if err != nil {
		return err
	}
	if spec.Process.ApparmorProfile, err = r.appArmor.profile(ctx, c); err != nil {
		return err
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bundle, SpecFile), data, 0o600)
}

func (r *Runtime) record(c agent.Container) containers.Container {
	return containers.Container{
		ID:    c.ID,
		Image: c.Image.Ref,
		Labels: map[string]string{
			labelPodUID: c.Pod.UID, labelPodNamespace: c.Pod.Namespace, labelPodName: c.Pod.Name,
			labelName: c.Name, labelAttempt: strconv.Itoa(c.Attempt),
			labelImageID: c.Image.ID, labelLog: c.LogPath, labelBoot: r.boot,
		},
		Runtime:     containers.RuntimeInfo{Name: runtimeName},
		Snapshotter: r.store.snapshotter,
		SnapshotKey: c.ID,
		Spec:        emptySpec{}, // the bundle has it: a record is written to disk
	}
}

// emptySpec stands where a record must have a specification.
type emptySpec struct{}

var _ typeurl.Any = emptySpec{}

// GetTypeUrl implements typeurl.Any.
func (emptySpec) GetTypeUrl() string { return specTypeURL }

// GetValue implements typeurl.Any.
func (emptySpec) GetValue() []byte { return []byte("{}") }

// createTask lets the shim create the container.
func (r *Runtime) createTask(ctx context.Context, c agent.Container, share bool, p *pod, e *entry) error {
	streams, err := json.Marshal(CreateIO{Log: c.LogPath, Stdin: c.Stdin, StdinOnce: c.StdinOnce, SharePID: share})
	if err != nil {
		return err
	}
	answer, err := p.tasks.Create(ctx, &task.CreateTaskRequest{
		ID: c.ID, Bundle: r.bundle(c.Pod.UID, c.ID), Terminal: c.TTY, Stdin: string(streams),
	})
	if err != nil {
		code := status.Code(err)
		err = fmt.Errorf("failed to create containerd task: failed to create shim task: %w", shimError(err))
		if code == codes.Unknown && p.alive() && ctx.Err() == nil {
			return agent.RunError{Cause: err} // runc's verdict
		}
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.state.PID = int(answer.Pid)
	e.made = true
	r.watch(e, p)
	return nil
}

// shimError takes the text out of a ttrpc status.
func shimError(err error) error {
	if s, ok := status.FromError(err); ok {
		return errors.New(s.Message())
	}
	return err
}

// Start implements agent.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) error {
	e, err := r.find(id)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	e.op.Lock()
	defer e.op.Unlock()
	p, err := r.pod(e.state.Pod.UID, false)
	if err != nil {
		return fmt.Errorf("start container %s: %w", id, err)
	}
	if _, err := p.tasks.Start(ctx, &task.StartRequest{ID: id}); err != nil {
		return fmt.Errorf("failed to start containerd task %q: %w", e.state.Name, shimError(err))
	}
	defer r.wantSpare()
	r.mu.Lock()
	defer r.mu.Unlock()
	// A short process may have ended, and been announced, before we know.
	e.state.StartedAt = now()
	if s, err := readState(r.bundle(e.state.Pod.UID, id)); err == nil && !s.StartedAt.IsZero() {
		e.state.StartedAt = s.StartedAt
	}
	if e.state.Phase == agent.ContainerCreated {
		e.state.Phase = agent.ContainerRunning
		r.announce(e.state)
	}
	return nil
}
