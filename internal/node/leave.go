package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/join"
	"github.com/skiff-sh/skiff/internal/local"
)

func agentSocket(host config.Host) string { return filepath.Join(host.RunDir, "agent.sock") }

// Departure is how a machine is to leave its cluster.
type Departure struct {
	Timeout time.Duration `json:"timeout"` // for the Pods to end; 0: as long as it takes
	// Force: also with Pods that nothing makes anew, or that do not end in time,
	// and also where no server answers.
	Force bool `json:"force"`
}

// farewell is one line of the answer to a Departure: what happens, or the end.
type farewell struct {
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
	Left  bool   `json:"left,omitempty"`
	Unit  string `json:"unit,omitempty"` // systemd's, which would start the agent anew
}

// Leave makes the agent that runs on the host leave its cluster: its Pods go
// elsewhere, its Node is deleted, what it did to the machine is undone, and its
// certificates are forgotten. Then the agent ends. say is told what happens; unit
// is the systemd unit that runs the agent, if one does.
func Leave(ctx context.Context, host config.Host, how Departure, say func(text string)) (unit string, err error) {
	body, err := json.Marshal(how)
	if err != nil {
		return "", err
	}
	answer, err := local.NewClient(agentSocket(host)).Ask(ctx, http.MethodPost, "/leave", strings.NewReader(string(body)))
	switch {
	case errors.Is(err, local.ErrNobody):
		return "", nobodyLeaves(host)
	case errors.Is(err, local.ErrForbidden):
		return "", errors.New("leaving a cluster is for root: run it with sudo")
	case err != nil:
		return "", err
	}
	defer answer.Body.Close()
	for lines := json.NewDecoder(answer.Body); ; {
		var line farewell
		if err := lines.Decode(&line); err != nil {
			return "", fmt.Errorf("the agent ended before it had left (%w): see its log", err)
		}
		switch {
		case line.Error != "":
			return "", errors.New(line.Error)
		case line.Left:
			return line.Unit, nil
		}
		say(line.Text)
	}
}

func nobodyLeaves(host config.Host) error {
	if _, err := os.Stat(host.StorePath()); err == nil {
		return fmt.Errorf("%s is a server's data directory: its node stays as long as it runs with one; skiff server --disable-agent runs none", host.DataDir)
	}
	return fmt.Errorf("no agent runs on %s: start skiff agent, which can then leave, or name its data directory with --data-dir; where the cluster is gone, skiff killall ends the Pods", host.DataDir)
}

// commands answers this machine's root, also before the machine has joined.
func (r *resident) commands() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /leave", func(w http.ResponseWriter, q *http.Request) {
		var how Departure
		if err := json.NewDecoder(q.Body).Decode(&how); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if !r.leaving.TryLock() {
			http.Error(w, "this machine is leaving already", http.StatusConflict)
			return
		}
		defer r.leaving.Unlock()
		lines := &farewells{out: json.NewEncoder(w), flush: http.NewResponseController(w).Flush}
		err := r.leave(q.Context(), how, lines.say)
		if err != nil {
			r.log.Warn("did not leave the cluster", zap.Error(err))
			lines.send(farewell{Error: err.Error()})
		} else {
			r.log.Info("left the cluster")
			lines.send(farewell{Left: true, Unit: systemdUnit("/proc/self/cgroup")})
		}
		select {
		case <-r.quit:
			r.gone <- err // the process ends
		default:
		}
	})
	return mux
}

// farewells writes lines as they come, of several at once.
type farewells struct {
	mu    sync.Mutex // guards what follows
	out   *json.Encoder
	flush func() error
}

func (f *farewells) say(format string, args ...any) {
	f.send(farewell{Text: fmt.Sprintf(format, args...)})
}

func (f *farewells) send(line farewell) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.out.Encode(line) // who does not read any more has given up: the context ends
	_ = f.flush()
}

// leave empties the node, ends it, and takes it out of the cluster. Until the
// node ends, the person may give up and nothing but the cordon is left of it;
// from then on it goes through.
func (r *resident) leave(ctx context.Context, how Departure, say func(string, ...any)) error {
	r.mu.Lock()
	m := r.member
	r.mu.Unlock()
	if m != nil {
		if err := r.mayLeave(ctx, m.API()); err != nil && !how.Force {
			return err
		}
		if err := r.drain(ctx, m.API(), how, say); err != nil {
			return err
		}
	}
	ctx = context.WithoutCancel(ctx)
	say("ending the node")
	close(r.quit)
	<-r.away
	if err := undo(ctx, r.host, r.settings.ContainerRuntimeEndpoint); err != nil {
		return fmt.Errorf("undo what the node did to this machine: %w", err)
	}
	if m != nil {
		if err := r.deleteNode(ctx, m.API(), how, say); err != nil {
			return err
		}
	}
	say("forgetting the cluster")
	return r.forget()
}

// mayLeave says whether the cluster will let the node delete itself, before
// anything is done.
func (r *resident) mayLeave(ctx context.Context, client kubernetes.Interface) error {
	ctx, cancel := context.WithTimeout(ctx, deleteTime)
	defer cancel()
	err := client.CoreV1().Nodes().Delete(ctx, r.settings.NodeName, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return nil
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w: leave with --force, and delete it with kubectl delete node %s", err, r.settings.NodeName)
	}
	return fmt.Errorf("ask whether the node may leave: %w: leave without the servers with --force", err)
}

// drain empties the node, as far as Force does not do without.
func (r *resident) drain(ctx context.Context, client kubernetes.Interface, how Departure, say func(string, ...any)) error {
	if how.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, how.Timeout, fmt.Errorf("not done within %s", how.Timeout))
		defer cancel()
	}
	err := drain{client: client, node: r.settings.NodeName, force: how.Force, say: say}.run(ctx)
	switch {
	case err == nil:
		return nil
	case how.Force && !errors.Is(ctx.Err(), context.Canceled):
		say("leaving nevertheless: %v", err)
		return nil
	}
	return fmt.Errorf("%w; the node takes no new Pods: try again, also with --timeout or --force, or stay with kubectl uncordon %s", err, r.settings.NodeName)
}

// deleteTime is how long a server may take to delete a Node.
const deleteTime = 15 * time.Second

func (r *resident) deleteNode(ctx context.Context, client kubernetes.Interface, how Departure, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, deleteTime)
	defer cancel()
	name := r.settings.NodeName
	err := client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
	switch {
	case err == nil, apierrors.IsNotFound(err):
		say("node/%s deleted", name)
		return nil
	case how.Force:
		say("node/%s stays: %v: delete it with kubectl delete node %s", name, err, name)
		return nil
	}
	return fmt.Errorf("delete node %s: %w: its Pods have ended; start the agent and try again, or leave with --force and delete it with kubectl delete node %s", name, err, name)
}

// giveUp ends what was the node's when its name is another machine's: the cluster
// has done away with its Pods together with the Node.
func (r *resident) giveUp(ctx context.Context) error {
	r.log.Warn("this machine is the node no more: what runs of it ends, and it forgets the cluster", zap.String("node", r.settings.NodeName))
	if err := undo(context.WithoutCancel(ctx), r.host, r.settings.ContainerRuntimeEndpoint); err != nil {
		return fmt.Errorf("undo what the node did to this machine: %w", err)
	}
	return r.forget()
}

// forget removes what the cluster gave this machine. Images stay.
func (r *resident) forget() error {
	return errors.Join(join.NewDirectory(r.host).Remove(), os.RemoveAll(filepath.Join(r.host.DataDir, "agent", "checkpoint")))
}

// systemdUnit returns the unit that a process runs in, by its control group; ""
// for none that is a service.
func systemdUnit(cgroup string) string {
	text, err := os.ReadFile(cgroup)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		unit := filepath.Base(strings.TrimSpace(line))
		if strings.HasSuffix(unit, ".service") && strings.Contains(line, "system.slice/") {
			return unit
		}
	}
	return ""
}
