package oom

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestScanner(t *testing.T) {
	tests := map[string]struct {
		lines string
		want  []Victim
	}{
		"the machine's memory": {`stress invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=1000
CPU: 1 PID: 4711 Comm: stress Not tainted 6.1.0-18-amd64
oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/kubepods/besteffort/pod1/2,task=stress,pid=4711,uid=0
Out of memory: Killed process 4711 (stress) total-vm:2054852kB, anon-rss:1843200kB`, []Victim{{"stress", 4711, "/"}}},
		"a cgroup's limit": {`dd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=986
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=2,mems_allowed=0,oom_memcg=/kubepods/burstable/pod1/2,task_memcg=/kubepods/burstable/pod1/2,task=a,b (c),pid=12,uid=0
Memory cgroup out of memory: Killed process 12 (a,b (c)) total-vm:1kB`, []Victim{{"a,b (c)", 12, "/kubepods/burstable/pod1/2"}}},
		"a kernel before 5.0": {`dd invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0
Task in /pod/1 killed as a result of limit of /pod
Memory cgroup out of memory: Kill process 9 (dd) score 1000 or sacrifice child
Killed process 9 (dd) total-vm:1kB`, []Victim{{"dd", 9, "/pod"}}},
		"two, and another's words": {`Killed process 1 (nobody)
a invoked oom-killer: order=0
eth0: link up
Out of memory: Killed process 3 (a) total-vm:1kB
b invoked oom-killer: order=0
Out of memory: Killed process 4 (b) total-vm:1kB`, []Victim{{"a", 3, "/"}, {"b", 4, "/"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := scanner{}
			var got []Victim
			for line := range strings.SplitSeq(tt.lines, "\n") {
				if v, ok := s.take(line); ok {
					got = append(got, v)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// records stands in for the log: one record with each read, as the kernel does.
type records struct {
	all    []string
	closed chan struct{}
}

func (r *records) Read(p []byte) (int, error) {
	if len(r.all) == 0 {
		<-r.closed
		return 0, io.ErrClosedPipe
	}
	next := r.all[0]
	r.all = r.all[1:]
	if next == "" {
		return 0, syscall.EPIPE
	}
	return copy(p, next), nil
}

func (r *records) Close() error { close(r.closed); return nil }

func TestWatch(t *testing.T) {
	log := &records{closed: make(chan struct{}), all: []string{
		"4,1,100,-;a invoked oom-killer: order=0\n SUBSYSTEM=memory\n", "",
		"3,3,200,-;Out of memory: Killed process 3 (a) total-vm:1kB\n",
	}}
	ctx, cancel := context.WithCancel(t.Context())
	var got []Victim
	err := Watch(ctx, log, func(v Victim) {
		got = append(got, v)
		cancel()
	})
	if err != nil || !slices.Equal(got, []Victim{{"a", 3, "/"}}) {
		t.Errorf("got %+v, %v", got, err)
	}
	select {
	case <-log.closed:
	default:
		t.Error("the log is left open")
	}
}

func TestWatchEndsWithTheLog(t *testing.T) {
	if err := Watch(t.Context(), io.NopCloser(strings.NewReader("")), nil); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}
