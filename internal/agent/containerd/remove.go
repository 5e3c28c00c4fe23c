package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/skiff-sh/skiff/internal/agent"
)

// Kill implements agent.Runtime.
func (r *Runtime) Kill(ctx context.Context, id string, signal int) error {
	e, err := r.find(id)
	if err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	if r.stateOf(e).Phase == agent.ContainerExited {
		return nil
	}
	p, err := r.pod(e.state.Pod.UID, false)
	if errors.Is(err, errShimGone) {
		return nil // its end is being recorded, and what runs is killed
	}
	if err != nil {
		return err
	}
	_, err = p.tasks.Kill(ctx, &task.KillRequest{ID: id, Signal: uint32(signal)})
	if err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("kill container %s: %w", id, shimError(err))
	}
	return nil
}

func (r *Runtime) stateOf(e *entry) agent.ContainerState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return e.state
}

// Remove implements agent.Runtime.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	r.mu.Lock()
	e, ok := r.containers[id]
	r.mu.Unlock()
	if !ok {
		return nil
	}
	e.op.Lock()
	defer e.op.Unlock()
	// Half a removal is worse than a late one.
	if err := r.destroy(r.scope(context.WithoutCancel(ctx)), e.state.Pod.UID, id); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// destroy removes whatever there is of a container: it can be called for one
// that is half-made or half-removed. The record goes last.
func (r *Runtime) destroy(ctx context.Context, podUID, id string) error {
	r.mu.Lock()
	e := r.containers[id]
	if e != nil {
		e.removing = true
	}
	r.mu.Unlock()
	if err := r.deleteTask(ctx, podUID, id); err != nil {
		return err
	}
	if e != nil {
		r.settle(e)
	}
	if err := r.removeBundle(id, r.bundle(podUID, id)); err != nil {
		return err
	}
	err := r.store.client.SnapshotService(r.store.snapshotter).Remove(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove snapshot: %w", err)
	}
	err = r.store.client.ContainerService().Delete(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove record: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, id)
	return nil
}

// settle takes note of how a container ended before its bundle goes.
func (r *Runtime) settle(e *entry) {
	s, err := readState(r.bundle(e.state.Pod.UID, e.state.ID))
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && !s.FinishedAt.IsZero() && e.made {
		r.end(e, s)
	}
}

// deleteTask lets the shim forget the container; without a shim, removing the
// bundle does what must be done.
func (r *Runtime) deleteTask(ctx context.Context, podUID, id string) error {
	p, err := r.pod(podUID, false)
	if errors.Is(err, errShimGone) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = p.tasks.Delete(ctx, &task.DeleteRequest{ID: id})
	if err == nil || status.Code(err) == codes.NotFound || !p.alive() {
		return nil
	}
	return shimError(err)
}

// removeBundle ends what runc still knows of a container, unmounts its root
// and removes its directory.
func (r *Runtime) removeBundle(id, bundle string) error {
	if _, err := os.Stat(filepath.Join(r.runcDir(), id)); err == nil {
		if err := r.forceDelete(id, filepath.Dir(bundle)); err != nil {
			return err
		}
	}
	if _, err := os.Stat(bundle); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := mount.UnmountRecursive(filepath.Join(bundle, RootFS), 0); err != nil {
		return fmt.Errorf("unmount root file system: %w", err)
	}
	return os.RemoveAll(bundle)
}

// forceDelete is for containers whose shim is gone.
func (r *Runtime) forceDelete(id, podDir string) error {
	program, err := r.program(podDir)
	if err != nil {
		return err
	}
	out, err := exec.Command(program, "--root", r.runcDir(), "delete", "--force", id).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s delete: %w: %s", filepath.Base(program), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// RemoveAll ends every container and every shim of the node.
func (r *Runtime) RemoveAll(ctx context.Context) error {
	errs := []error{r.endSpare()}
	uids := map[string]bool{}
	r.mu.Lock()
	for _, e := range r.containers {
		uids[e.state.Pod.UID] = true
	}
	r.mu.Unlock()
	entries, err := os.ReadDir(r.podsDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		uids[e.Name()] = true
	}
	for uid := range uids {
		errs = append(errs, r.RemovePod(ctx, uid))
	}
	return errors.Join(errs...)
}
