package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skiff-sh/skiff/e2e/figures"
)

// How long some number of nodes may take for anything, and how long everything
// gets to come to rest.
const (
	patience = 10 * time.Minute
	settle   = 70 * time.Second // Events reach the disk after a minute
)

// trial measures one number of nodes.
type trial struct {
	*bench
	nodes  int
	server *server
	crowd  *crowd
	dir    string

	bare   figures.Usage // of the server without nodes
	joined figures.Usage // … when all had joined
}

func (t *trial) set(key, unit string, value float64) { t.bench.set(t.nodes, key, unit, value) }

// each notes a figure by node.
func (t *trial) each(key, unit string, value float64) { t.set(key, unit, value/float64(t.nodes)) }

func (t *trial) empty(ctx context.Context) (err error) {
	if err := sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	t.bare, err = usage(t.server.Process)
	return err
}

// join starts the nodes and waits until all of them are Ready.
func (t *trial) join(ctx context.Context) error {
	syncs, err := t.server.syncs(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := t.startCrowd(); err != nil {
		return err
	}
	if err := t.awaitNodes(ctx); err != nil {
		return err
	}
	t.set("all_ready", "s", time.Since(began).Seconds())
	if t.joined, err = usage(t.server.Process); err != nil {
		return err
	}
	nodes, err := usage(t.crowd.Process)
	if err != nil {
		return err
	}
	after, err := t.server.syncs(ctx)
	if err != nil {
		return err
	}
	t.each("join_server_cpu_each", "ms", figures.Milliseconds(t.joined.CPU-t.bare.CPU))
	t.each("join_node_cpu_each", "ms", figures.Milliseconds(nodes.CPU))
	t.each("join_written_each", "B", t.joined.Written-t.bare.Written)
	t.each("join_syncs_each", "", after-syncs)
	return nil
}

func (t *trial) startCrowd() (err error) {
	t.crowd, err = startCrowd(t.skiff, t.dir, filepath.Join(t.server.dir, "server", "token"), t.nodes)
	return err
}

func (t *trial) awaitNodes(ctx context.Context) error {
	return count(ctx, t.server.client.CoreV1().Nodes().Watch, t.nodes, func(node *corev1.Node) bool {
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return node.Spec.PodCIDR != ""
			}
		}
		return false
	})
}

// pods runs as many Pods as there are nodes, and ends them.
func (t *trial) pods(ctx context.Context) error {
	before, err := usage(t.server.Process)
	if err != nil {
		return err
	}
	app := map[string]string{"app": "hollow"}
	sets := t.server.client.AppsV1().Deployments(metav1.NamespaceDefault)
	began := time.Now()
	_, err = sets.Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "hollow"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(t.nodes)), Selector: metav1.SetAsLabelSelector(app),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: app},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/hollow:1"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := t.awaitPods(ctx, t.nodes); err != nil {
		return err
	}
	t.set("a_pod_each_ready", "s", time.Since(began).Seconds())
	after, err := usage(t.server.Process)
	if err != nil {
		return err
	}
	t.each("pod_server_cpu_each", "ms", figures.Milliseconds(after.CPU-before.CPU))
	t.each("pod_written_each", "B", after.Written-before.Written)
	began = time.Now()
	if err := sets.Delete(ctx, "hollow", metav1.DeleteOptions{}); err != nil {
		return err
	}
	err = t.awaitPods(ctx, 0)
	t.set("all_pods_gone", "s", time.Since(began).Seconds())
	return err
}

func (t *trial) awaitPods(ctx context.Context, n int) error {
	return count(ctx, t.server.client.CoreV1().Pods(metav1.NamespaceDefault).Watch, n, func(pod *corev1.Pod) bool {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	})
}

// idle leaves all alone for a while.
func (t *trial) idle(ctx context.Context) error {
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	status, err := t.crowd.status(ctx)
	if err != nil {
		return err
	}
	before, nodes, err := t.both()
	if err != nil {
		return err
	}
	if err := sleep(ctx, t.quiet); err != nil {
		return err
	}
	after, nodesAfter, err := t.both()
	if err != nil {
		return err
	}
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / t.quiet.Seconds() }
	t.set("idle_server_cpu", "%", percent(after.CPU-before.CPU))
	t.set("idle_nodes_cpu", "%", percent(nodesAfter.CPU-nodes.CPU))
	t.set("idle_written_per_hour", "B", (after.Written-before.Written)/t.quiet.Hours())
	t.set("server_rss", "B", after.RSS)
	t.set("server_anon", "B", after.Anon)
	t.each("server_anon_each", "B", after.Anon-t.bare.Anon)
	t.each("node_anon_each", "B", nodesAfter.Anon)
	t.each("node_heap_each", "B", float64(status.Heap))
	t.each("node_goroutines_each", "", float64(status.Goroutines))
	return nil
}

func (t *trial) both() (server, nodes figures.Usage, err error) {
	server, err = usage(t.server.Process)
	if err != nil {
		return server, nodes, err
	}
	nodes, err = usage(t.crowd.Process)
	return server, nodes, err
}

// restart ends the nodes and starts them again, as a power cut does, and then the
// server; each time it waits until all nodes are heard of.
func (t *trial) restart(ctx context.Context) error {
	before, err := usage(t.server.Process)
	if err != nil {
		return err
	}
	if err := t.crowd.stop(); err != nil {
		return err
	}
	began := time.Now()
	if err := t.startCrowd(); err != nil {
		return err
	}
	if err := t.awaitLeases(ctx, began); err != nil {
		return err
	}
	t.set("all_back_after_their_restart", "s", time.Since(began).Seconds())
	after, err := usage(t.server.Process)
	if err != nil {
		return err
	}
	t.each("restart_server_cpu_each", "ms", figures.Milliseconds(after.CPU-before.CPU))

	if err := t.server.Stop(); err != nil {
		return err
	}
	began = time.Now()
	if err := t.server.run(ctx, t.skiff); err != nil {
		return err
	}
	if err := t.awaitLeases(ctx, began); err != nil {
		return err
	}
	t.set("all_back_after_the_servers", "s", time.Since(began).Seconds())
	return t.awaitNodes(ctx)
}

// awaitLeases waits until all nodes have been heard of since.
func (t *trial) awaitLeases(ctx context.Context, since time.Time) error {
	return count(ctx, t.server.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Watch, t.nodes, func(l *coordinationv1.Lease) bool {
		return l.Spec.RenewTime.After(since)
	})
}

// count watches until there are n objects, all as they should be.
func count[T interface {
	runtime.Object
	metav1.Object
}](ctx context.Context, open func(context.Context, metav1.ListOptions) (watch.Interface, error), n int, good func(T) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w, err := open(ctx, metav1.ListOptions{
		SendInitialEvents: new(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		return err
	}
	defer w.Stop()
	all, ready, listed := map[string]bool{}, 0, false
	for e := range w.ResultChan() {
		object, ok := e.Object.(T)
		switch {
		case e.Type == watch.Bookmark:
			listed = true
		case !ok:
			return fmt.Errorf("the watch says %+v", e.Object)
		default:
			if all[object.GetName()] {
				ready--
			}
			delete(all, object.GetName())
			if e.Type != watch.Deleted {
				all[object.GetName()] = good(object)
			}
			if all[object.GetName()] {
				ready++
			}
		}
		if listed && len(all) == n && ready == n {
			return nil
		}
	}
	return errors.Join(ctx.Err(), fmt.Errorf("the watch ended with %d of %d, %d of them as they should be", len(all), n, ready))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
