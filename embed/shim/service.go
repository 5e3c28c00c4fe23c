package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	types "github.com/containerd/containerd/api/types/task"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// service is containerd's task service, as far as containers' lives go; what
// has streams goes over the stream socket.
type service struct {
	runc     *runc
	pause    pause
	shutdown chan struct{} // closed by Shutdown
	once     sync.Once

	mu         sync.Mutex // of containers
	containers map[string]*slot
	refused    map[string]bool // deleted before they were created
}

// slot is a container, or one that is being created.
type slot struct {
	ready     chan struct{} // closed when Create has ended
	container *container    // nil if that failed
}

func newService(r *runc) *service {
	return &service{runc: r, pause: pause{reaper: r.reaper}, shutdown: make(chan struct{}), containers: map[string]*slot{}, refused: map[string]bool{}}
}

// get returns a container; it waits for one that is being created, since who
// asks may have come after who began.
func (s *service) get(id string) (*container, error) {
	s.mu.Lock()
	found := s.containers[id]
	s.mu.Unlock()
	if found != nil {
		<-found.ready
		if found.container != nil {
			return found.container, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "container %s not found", id)
}

// Create implements task.TTRPCTaskService. Stdin holds a CreateIO.
func (s *service) Create(_ context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	var io CreateIO
	if err := json.Unmarshal([]byte(r.Stdin), &io); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "stdin: %v: expected the streams as JSON", err)
	}
	if len(r.Rootfs) > 0 || r.Checkpoint != "" {
		return nil, status.Error(codes.InvalidArgument, "rootfs, checkpoint: expected a mounted root file system")
	}
	if io.SharePID {
		if err := s.pause.ensure(); err != nil {
			return nil, status.Errorf(codes.Internal, "%v", err)
		}
	}
	reserved, err := s.reserve(r.ID)
	if err != nil {
		return nil, err
	}
	defer close(reserved.ready)
	c, err := createContainer(s.runc, r.ID, r.Bundle, io, r.Terminal)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.containers, r.ID)
		return nil, status.Errorf(codes.Unknown, "%v: unknown", err)
	}
	reserved.container = c
	return &task.CreateTaskResponse{Pid: uint32(c.snapshot().PID)}, nil
}

// reserve takes an ID that is free.
func (s *service) reserve(id string) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused[id] {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s was deleted", id)
	}
	if _, ok := s.containers[id]; ok {
		return nil, status.Errorf(codes.AlreadyExists, "container %s exists", id)
	}
	reserved := &slot{ready: make(chan struct{})}
	s.containers[id] = reserved
	return reserved, nil
}

// Start implements task.TTRPCTaskService.
func (s *service) Start(_ context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.start(); err != nil {
		return nil, status.Errorf(codes.Unknown, "%v: unknown", err)
	}
	return &task.StartResponse{Pid: uint32(c.snapshot().PID)}, nil
}

// State implements task.TTRPCTaskService.
func (s *service) State(_ context.Context, r *task.StateRequest) (*task.StateResponse, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	state := c.snapshot()
	answer := &task.StateResponse{
		ID: c.id, Bundle: c.bundle, Pid: uint32(state.PID), Status: types.Status_CREATED, ExitStatus: uint32(state.ExitCode),
	}
	switch {
	case !state.FinishedAt.IsZero():
		answer.Status = types.Status_STOPPED
		answer.ExitedAt = timestamppb.New(state.FinishedAt)
	case !state.StartedAt.IsZero():
		answer.Status = types.Status_RUNNING
	}
	return answer, nil
}

// Kill implements task.TTRPCTaskService.
func (s *service) Kill(_ context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	err = c.kill(syscall.Signal(r.Signal))
	if errors.Is(err, syscall.ESRCH) {
		return nil, status.Errorf(codes.NotFound, "container %s has ended", r.ID)
	}
	return &emptypb.Empty{}, err
}

// Wait implements task.TTRPCTaskService.
func (s *service) Wait(ctx context.Context, r *task.WaitRequest) (*task.WaitResponse, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	state := c.snapshot()
	return &task.WaitResponse{ExitStatus: uint32(state.ExitCode), ExitedAt: timestamppb.New(state.FinishedAt)}, nil
}

// Delete implements task.TTRPCTaskService; it kills what still runs. An ID that
// is not known cannot be created any more: a killed skiff's request to create
// may still be on its way, past the next one's to delete.
func (s *service) Delete(_ context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	c, err := s.get(r.ID)
	if err != nil {
		if c = s.refuse(r.ID); c == nil {
			return nil, err
		}
	}
	if err := c.remove(); err != nil {
		return nil, status.Errorf(codes.Unknown, "%v: unknown", err)
	}
	s.mu.Lock()
	delete(s.containers, r.ID)
	s.mu.Unlock()
	state := c.snapshot()
	return &task.DeleteResponse{
		Pid: uint32(state.PID), ExitStatus: uint32(state.ExitCode), ExitedAt: timestamppb.New(state.FinishedAt),
	}, nil
}

// refuse makes sure that a container is never created, or returns it if it is
// there by now.
func (s *service) refuse(id string) *container {
	s.mu.Lock()
	s.refused[id] = true
	s.mu.Unlock()
	c, err := s.get(id)
	if err != nil {
		return nil
	}
	return c
}

// ResizePty implements task.TTRPCTaskService.
func (s *service) ResizePty(_ context.Context, r *task.ResizePtyRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.plumbing.resize(uint16(r.Width), uint16(r.Height)); err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "resize: %v", err)
	}
	return &emptypb.Empty{}, nil
}

// CloseIO implements task.TTRPCTaskService.
func (s *service) CloseIO(_ context.Context, r *task.CloseIORequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	c.plumbing.closeStdin()
	return &emptypb.Empty{}, nil
}

// Connect implements task.TTRPCTaskService.
func (s *service) Connect(context.Context, *task.ConnectRequest) (*task.ConnectResponse, error) {
	return &task.ConnectResponse{ShimPid: uint32(os.Getpid()), Version: "v3"}, nil
}

// Shutdown implements task.TTRPCTaskService. A shim with containers stays.
func (s *service) Shutdown(context.Context, *task.ShutdownRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.containers); n > 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "%d containers are left: delete them first", n)
	}
	// The answer goes out before the listener closes.
	s.once.Do(func() { time.AfterFunc(time.Millisecond, func() { close(s.shutdown) }) })
	return &emptypb.Empty{}, nil
}

func notHere(method string) error {
	return status.Errorf(codes.Unimplemented, "%s: not offered by this shim", method)
}

// Pids implements task.TTRPCTaskService.
func (s *service) Pids(context.Context, *task.PidsRequest) (*task.PidsResponse, error) {
	return nil, notHere("Pids")
}

// Pause implements task.TTRPCTaskService.
func (s *service) Pause(context.Context, *task.PauseRequest) (*emptypb.Empty, error) {
	return nil, notHere("Pause")
}

// Resume implements task.TTRPCTaskService.
func (s *service) Resume(context.Context, *task.ResumeRequest) (*emptypb.Empty, error) {
	return nil, notHere("Resume")
}

// Checkpoint implements task.TTRPCTaskService.
func (s *service) Checkpoint(context.Context, *task.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, notHere("Checkpoint")
}

// Exec implements task.TTRPCTaskService.
func (s *service) Exec(context.Context, *task.ExecProcessRequest) (*emptypb.Empty, error) {
	return nil, notHere("Exec (use the stream socket)")
}

// Update implements task.TTRPCTaskService.
func (s *service) Update(context.Context, *task.UpdateTaskRequest) (*emptypb.Empty, error) {
	return nil, notHere("Update")
}

// Stats implements task.TTRPCTaskService.
func (s *service) Stats(context.Context, *task.StatsRequest) (*task.StatsResponse, error) {
	return nil, notHere("Stats")
}
