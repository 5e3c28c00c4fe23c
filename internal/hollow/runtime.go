package hollow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/agent"
)

// runtime says that containers run which do not. One that has run is in a file of
// its own, so that it outlives the process as a real one does.
type runtime struct {
	dir     string
	telling sync.Mutex // one call of the follower at a time

	mu         sync.Mutex // guards what follows
	containers map[string]*container
	follower   func(agent.ContainerState)
}

// container is one of them. One that others wait for ends as soon as it has begun.
type container struct {
	agent.ContainerState
	initial bool
}

// openRuntime finds what an earlier process has left in a directory. A file that
// cannot be read is of a container that is no more.
func openRuntime(dir string) (*runtime, error) {
	r := &runtime{dir: dir, containers: map[string]*container{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of containers: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for containers: %w", err)
	}
	for _, f := range files {
		var c container
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err == nil {
			err = json.Unmarshal(data, &c.ContainerState)
		}
		if err == nil && r.file(c.ID) == filepath.Join(dir, f.Name()) {
			r.containers[c.ID] = &c
		}
	}
	return r, nil
}

func (r *runtime) file(id string) string { return filepath.Join(r.dir, id+".json") }

// keep writes a container's file; r.mu is held.
func (r *runtime) keep(c *container) error {
	data, err := json.Marshal(c.ContainerState)
	if err == nil {
		err = os.WriteFile(r.file(c.ID), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep container %s: %w", c.ID, err)
	}
	return nil
}

// Create implements agent.Runtime.
func (r *runtime) Create(_ context.Context, c agent.Container) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.containers[c.ID] = &container{initial: c.Init, ContainerState: agent.ContainerState{
		ID: c.ID, Name: c.Name, Attempt: c.Attempt, Pod: agent.PodRef{UID: c.Pod.UID, Namespace: c.Pod.Namespace, Name: c.Pod.Name},
		Phase: agent.ContainerCreated, CreatedAt: time.Now(), ImageRef: c.Image.Ref, ImageID: c.Image.ID, LogPath: c.LogPath,
	}}
	return nil
}

// Start implements agent.Runtime.
func (r *runtime) Start(_ context.Context, id string) error {
	r.mu.Lock()
	c := r.containers[id]
	if c == nil {
		r.mu.Unlock()
		return fmt.Errorf("there is no container %s", id)
	}
	c.Phase, c.PID, c.StartedAt = agent.ContainerRunning, 1, time.Now()
	err := errors.Join(r.keep(c), c.say())
	ends := c.initial
	r.mu.Unlock()
	if err == nil && ends {
		r.end(id, 0)
	}
	return err
}

// say writes the container's log, as CRI has it.
func (c *container) say() error {
	line := fmt.Sprintf("%s stdout F hollow container %s of %s/%s, attempt %d\n",
		c.StartedAt.UTC().Format(time.RFC3339Nano), c.Name, c.Pod.Namespace, c.Pod.Name, c.Attempt)
	return os.WriteFile(c.LogPath, []byte(line), 0o640)
}

// end ends a container that runs, and tells who follows.
func (r *runtime) end(id string, code int) {
	r.mu.Lock()
	c := r.containers[id]
	if c == nil || c.Phase != agent.ContainerRunning {
		r.mu.Unlock()
		return
	}
	c.Phase, c.ExitCode, c.FinishedAt = agent.ContainerExited, code, time.Now()
	_ = r.keep(c) // a restart would find it running, and its Pod would end it again
	state, tell := c.ContainerState, r.follower
	r.mu.Unlock()
	if tell != nil {
		r.telling.Lock()
		defer r.telling.Unlock()
		tell(state)
	}
}

// Kill implements agent.Runtime. Whoever is told to stop does.
func (r *runtime) Kill(_ context.Context, id string, signal int) error {
	code := 0
	if signal == int(unix.SIGKILL) {
		code = 128 + signal
	}
	r.end(id, code)
	return nil
}

// Remove implements agent.Runtime.
func (r *runtime) Remove(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.remove(id)
}

func (r *runtime) remove(id string) error {
	delete(r.containers, id)
	if err := os.Remove(r.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemovePod implements agent.Runtime.
func (r *runtime) RemovePod(_ context.Context, uid string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for id, c := range r.containers {
		if c.Pod.UID == uid {
			errs = append(errs, r.remove(id))
		}
	}
	return errors.Join(errs...)
}

// List implements agent.Runtime.
func (r *runtime) List(context.Context) ([]agent.ContainerState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []agent.ContainerState
	for _, c := range r.containers {
		all = append(all, c.ContainerState)
	}
	return all, nil
}

// State implements agent.Runtime.
func (r *runtime) State(_ context.Context, id string) (agent.ContainerState, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.containers[id]
	if !ok {
		return agent.ContainerState{}, false, nil
	}
	return c.ContainerState, true, nil
}

// Follow implements agent.Runtime.
func (r *runtime) Follow(ctx context.Context, tell func(agent.ContainerState)) error {
	r.mu.Lock()
	r.follower = tell
	r.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

// Exec implements agent.Runtime: every command succeeds.
func (r *runtime) Exec(_ context.Context, _ string, e agent.Exec) (int, error) {
	if e.Streams.Out == nil {
		return 0, nil
	}
	_, err := fmt.Fprintf(e.Streams.Out, "hollow: %s\n", strings.Join(e.Args, " "))
	return 0, err
}

// Attach implements agent.Runtime: nothing is to be seen.
func (r *runtime) Attach(ctx context.Context, _ string, _ agent.Streams) error {
	<-ctx.Done()
	return nil
}

// Resize implements agent.Runtime.
func (r *runtime) Resize(context.Context, string, uint16, uint16) error { return nil }

// ReopenLog implements agent.Runtime.
func (r *runtime) ReopenLog(context.Context, string) error { return nil }

// LayerUsage implements agent.Runtime: nothing is written.
func (r *runtime) LayerUsage(context.Context, string) (bytes, inodes int64, err error) {
	return 0, 0, nil
}

// ImageDir implements agent.Runtime: there are none.
func (r *runtime) ImageDir() string { return "" }

// Version implements agent.Runtime.
func (r *runtime) Version() string { return "hollow://1" }
