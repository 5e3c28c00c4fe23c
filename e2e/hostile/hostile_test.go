package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// slowest is what 99 of 100 of another client's requests must not exceed, in
// milliseconds, on a machine that does nothing else: only make hostile has it.
const slowest = 50

// Variables by which this executable is told to be an attacker.
const (
	attackVariable     = "SKIFF_HOSTILE_ATTACK"
	kubeconfigVariable = "SKIFF_HOSTILE_KUBECONFIG"
)

// attack is one way to ill-treat a server.
type attack struct {
	name string
	// prepare makes what the attack needs (optional).
	prepare func(ctx context.Context, c *kubernetes.Clientset) error
	// run attacks until the context ends, or it has nothing more to do. It says
	// what it did.
	run func(ctx context.Context, a *attacker) error
	// long says that only make hostile has time for it.
	long bool
}

// full says whether there is time for everything.
var full = os.Getenv("SKIFF_HOSTILE") != ""

// attackTime bounds one attack.
func attackTime() time.Duration {
	if full {
		return 15 * time.Second
	}
	return 500 * time.Millisecond
}

func TestMain(m *testing.M) {
	if name := os.Getenv(attackVariable); name != "" {
		os.Exit(beAttacker(name))
	}
	os.Exit(m.Run())
}

// Whatever clients do, the server lives in its memory and answers the others.
func TestHostile(t *testing.T) {
	attackers := favour(t)
	figures := map[string]testimony{}
	for _, a := range attacks {
		if a.long && !full {
			continue
		}
		t.Run(a.name, func(t *testing.T) { figures[a.name] = startPlane(t).suffer(t, a, attackers) })
		if first := figures[a.name].P99; full && first > slowest {
			t.Run(a.name+" again", func(t *testing.T) { // what the machine's host did does not come twice
				figures[a.name] = startPlane(t).suffer(t, a, attackers)
				if second := figures[a.name].P99; second > slowest {
					t.Errorf("another client's p99 is %.1f ms, then %.1f", first, second)
				}
			})
		}
	}
	if full {
		report(t, figures)
	}
}

// leaveAlone leaves the server alone: what the machine itself does to a witness.
func leaveAlone(ctx context.Context, _ *attacker) error {
	<-ctx.Done()
	return nil
}

func report(t *testing.T, figures map[string]testimony) {
	t.Helper()
	data, err := json.MarshalIndent(figures, "", "  ")
	if err == nil {
		err = os.MkdirAll("../../build", 0o755)
	}
	if err == nil {
		err = os.WriteFile("../../build/hostile.json", append(data, '\n'), 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// suffer lets an attack happen and asks the witness how it was.
func (p *plane) suffer(t *testing.T, a attack, attackers string) testimony {
	t.Helper()
	if a.prepare != nil {
		if err := a.prepare(t.Context(), p.client); err != nil {
			t.Fatal(err)
		}
	}
	witnessed := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "witnessed"}, Data: map[string]string{"k": "v"}}
	if _, err := p.client.CoreV1().ConfigMaps("kube-system").Create(t.Context(), witnessed, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w, err := newWitness(p.config, "/api/v1/namespaces/kube-system/configmaps/witnessed")
	if err != nil {
		t.Fatal(err)
	}
	peak := p.watchMemory()
	said, attackErr := p.attackedBy(t.Context(), a.name, attackers)
	seen := w.end()
	seen.MemoryMiB = float64(peak()) / (1 << 20)
	t.Logf("%d requests, p50 %.2f ms, p99 %.2f ms, longest %.1f ms; %.0f MiB of memory; %s",
		seen.Requests, seen.P50, seen.P99, seen.Max, seen.MemoryMiB, said)
	if attackErr != nil {
		t.Errorf("the attack itself: %v", attackErr)
	}
	if err := p.alive(); err != nil {
		t.Fatal(err)
	}
	for _, err := range seen.failed {
		t.Errorf("another client was not served: %v", err)
	}
	return seen
}

// watchMemory returns what tells the most that was used since.
func (p *plane) watchMemory() func() int64 {
	ctx, cancel := context.WithCancel(context.Background())
	var most int64
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if now, err := p.group.anonymous(); err == nil {
				most = max(most, now)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() int64 {
		cancel()
		done.Wait()
		return most
	}
}

// attackedBy runs the attacker's process, in its group, with what the server leaves of
// the cores: attackers have machines of their own.
func (p *plane) attackedBy(ctx context.Context, name, group string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, attackTime()+30*time.Second)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `echo $$ > "$0"; exec nice -n 19 "$1"`, group, self)
	cmd.Env = append(os.Environ(), attackVariable+"="+name, kubeconfigVariable+"="+p.kubeconfig(), "GOMEMLIMIT=2GiB")
	cmd.Dir = filepath.Dir(p.server.Log)
	out, err := cmd.CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		return said, fmt.Errorf("%w: %s", err, said)
	}
	return said, nil
}
