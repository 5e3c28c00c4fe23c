package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/skiff-sh/skiff/e2e/figures"
)

// alonePods is how many Pods are started one after the other.
const alonePods = 40

// stages are the parts of a Pod's start that the agent tells the durations of:
// metric and operation, by the names that the figures have.
var stages = []struct{ name, metric, operation string }{
	{"sandbox", "kubelet_run_podsandbox_duration_seconds", ""},
	{"image", "kubelet_runtime_operations_duration_seconds", "image_status"},
	{"create", "kubelet_runtime_operations_duration_seconds", "create_container"},
	{"start", "kubelet_runtime_operations_duration_seconds", "start_container"},
	{"status", "kubelet_pod_status_sync_duration_seconds", ""},
}

// podStart is how a Pod's start was seen by a client that watched.
type podStart struct {
	asked, bound, ready time.Time
}

// startPods makes Pods at once and follows them until all are Ready.
func (s *server) startPods(ctx context.Context, names []string) (map[string]*podStart, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	w, err := s.client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	seen := map[string]*podStart{}
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range names {
		p := &podStart{asked: time.Now()}
		seen[name] = p
		g.Go(func() error { return s.createPod(ctx, name) })
	}
	g.Go(func() error {
		left := len(names)
		for e := range w.ResultChan() {
			pod, ok := e.Object.(*corev1.Pod)
			if !ok || seen[pod.Name] == nil {
				continue
			}
			p := seen[pod.Name]
			if p.bound.IsZero() && pod.Spec.NodeName != "" {
				p.bound = time.Now()
			}
			if p.ready.IsZero() && podReady(pod) {
				p.ready = time.Now()
				if left--; left == 0 {
					return nil
				}
			}
		}
		return errors.Join(fmt.Errorf("%d Pods are not Ready", left), ctx.Err())
	})
	return seen, g.Wait()
}

// podsAlone measures Pods that start one after the other, each with what its
// stages took, and in turn with them the same container run by runc alone, and
// a process in namespaces of its own.
func (b *bench) podsAlone(ctx context.Context, s *server) error {
	if _, err := s.startPods(ctx, []string{"model"}); err != nil {
		return err
	}
	f, err := s.newFloor(ctx, "model")
	if err != nil {
		return err
	}
	defer f.remove()
	var all, schedule, bare, fork []time.Duration
	parts := map[string][]time.Duration{}
	for i := range alonePods {
		name := fmt.Sprintf("pod-%d", i)
		before, err := s.readStages(ctx)
		if err != nil {
			return err
		}
		seen, err := s.startPods(ctx, []string{name})
		if err != nil {
			return err
		}
		after, err := s.readStages(ctx)
		if err != nil {
			return err
		}
		p := seen[name]
		all = append(all, p.ready.Sub(p.asked))
		schedule = append(schedule, p.bound.Sub(p.asked))
		for stage, took := range after.since(before, 1) {
			parts[stage] = append(parts[stage], took)
		}
		if err := f.both(ctx, &bare, &fork); err != nil {
			return err
		}
	}
	b.set("pod_ready_p50_ms", median(all))
	b.set("pod_ready_p95_ms", milliseconds(figures.Percentile(all, 0.95)))
	b.set("pod_schedule_p50_ms", median(schedule))
	for _, stage := range stages {
		b.set("pod_"+stage.name+"_p50_ms", median(parts[stage.name]))
	}
	b.set("runc_run_p50_ms", median(bare))
	b.set("fork_in_namespaces_p50_ms", median(fork))
	b.set("pod_ready_over_runc", median(all)/median(bare))
	b.set("runc_over_fork", median(bare)/median(fork))
	return nil
}

// podsTogether measures Pods that are made at once, and as many containers that
// runc runs at once.
func (b *bench) podsTogether(ctx context.Context, s *server, n int) error {
	key := fmt.Sprintf("pods%d_", n)
	var last, bare, each, bound []time.Duration
	parts := map[string][]time.Duration{}
	for run := range b.runs {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("pod-%d-%d-%d", n, run, i))
		}
		before, err := s.readStages(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		seen, err := s.startPods(ctx, names)
		if err != nil {
			return err
		}
		last = append(last, time.Since(began))
		after, err := s.readStages(ctx)
		if err != nil {
			return err
		}
		for _, p := range seen {
			each, bound = append(each, p.ready.Sub(p.asked)), append(bound, p.bound.Sub(p.asked))
		}
		for stage, took := range after.since(before, n) {
			parts[stage] = append(parts[stage], took)
		}
		took, err := s.floorOf(ctx, names[0], n)
		if err != nil {
			return err
		}
		bare = append(bare, took)
		if err := s.deleteAll(ctx, labels.Everything()); err != nil {
			return err
		}
	}
	b.set(key+"all_ready_ms", median(last))
	b.set(key+"ready_p50_ms", median(each))
	b.set(key+"ready_p95_ms", milliseconds(figures.Percentile(each, 0.95)))
	b.set(key+"schedule_p50_ms", median(bound))
	for _, stage := range stages {
		b.set(key+stage.name+"_mean_ms", median(parts[stage.name]))
	}
	b.set(key+"runc_run_ms", median(bare))
	b.set(key+"over_runc", median(last)/median(bare))
	return nil
}

// stageSums are what the agent has counted so far: time in all, and how often.
type stageSums map[string]struct{ seconds, count float64 }

// readStages reads what the agent tells of the stages.
func (s *server) readStages(ctx context.Context) (stageSums, error) {
	nodes, err := s.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		return nil, errors.Join(err, fmt.Errorf("expected 1 node, found %d", len(nodes.Items)))
	}
	data, err := s.client.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", nodes.Items[0].Name, "proxy/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the node's metrics: %w", err)
	}
	sums := stageSums{}
	for line := range strings.Lines(string(data)) {
		key, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, labels, _ := strings.Cut(key, "{")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a comment
		}
		for _, stage := range stages {
			if stage.operation != "" && !strings.Contains(labels, strconv.Quote(stage.operation)) {
				continue
			}
			sum := sums[stage.name]
			switch name {
			case stage.metric + "_sum":
				sum.seconds = value
			case stage.metric + "_count":
				sum.count = value
			}
			sums[stage.name] = sum
		}
	}
	return sums, nil
}

// since is what each stage of n Pods took since then; a status, which is written
// several times, by the writing.
func (s stageSums) since(before stageSums, n int) map[string]time.Duration {
	took := map[string]time.Duration{}
	for _, stage := range stages {
		by := float64(n)
		if stage.name == "status" {
			by = max(s[stage.name].count-before[stage.name].count, 1)
		}
		took[stage.name] = time.Duration((s[stage.name].seconds - before[stage.name].seconds) / by * float64(time.Second))
	}
	return took
}
