package scheduler

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// plane is an API over a real store with a scheduler at work, in a bubble of its
// own time.
type plane struct {
	testing.TB
	ctx    context.Context
	state  *state.State
	api    *api.API
	panics atomic.Int64
	run    func()
	stop   func()
}

func inPlane(t *testing.T, test func(p *plane), steps ...admission.Step) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := open(t, true, steps...)
		p.run()
		test(p)
		p.stop()
	})
}

func open(t testing.TB, detect bool, steps ...admission.Step) *plane {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &plane{TB: t, ctx: ctx}
	engine, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true})
	p.must(err)
	p.state, err = state.Open(ctx, engine, kind.All, state.Options{DetectMutation: detect})
	p.must(err)
	log := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	p.api = api.New(api.Config{State: p.state, Admission: append(admission.New(p.state), steps...), Log: log})
	p.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	p.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: "default"}})
	done := make(chan error, 1)
	p.run = func() {
		go func() { done <- New(Config{State: p.state, API: p.api, Log: log, Panics: &p.panics}).Run(ctx) }()
	}
	p.stop = func() {
		cancel()
		p.must(<-done)
		p.must(p.state.Close())
		p.must(engine.Close())
		if n := p.panics.Load(); n > 0 {
			t.Errorf("%d panics", n)
		}
	}
	return p
}

func (p *plane) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *plane) to(k *kind.Kind, name string) api.Request {
	req := api.Request{User: auth.User{Name: "admin", Groups: []string{auth.GroupMasters}}, FieldManager: "test", Kind: k, Name: name}
	if k.Namespaced {
		req.Namespace = "default"
	}
	return req
}

func (p *plane) create(objects ...kind.Object) {
	p.Helper()
	for _, obj := range objects {
		i := slices.IndexFunc(kind.All, func(k *kind.Kind) bool { return fmt.Sprintf("%T", k.New()) == fmt.Sprintf("%T", obj) })
		req := p.to(kind.All[i], "")
		status, isNode := obj.DeepCopyObject().(*corev1.Node)
		_, err := p.api.Create(p.ctx, req, obj)
		p.must(err)
		if isNode { // the API takes no status with a new one, and taints it
			p.modify(kind.Node, obj.GetName(), "", func(o kind.Object) { o.(*corev1.Node).Spec = status.Spec })
			p.modify(kind.Node, obj.GetName(), "status", func(o kind.Object) { o.(*corev1.Node).Status = status.Status })
		}
	}
}

func (p *plane) modify(k *kind.Kind, name, subresource string, change func(kind.Object)) {
	p.Helper()
	req := p.to(k, name)
	req.Subresource = subresource
	_, err := p.api.Modify(p.ctx, req, func(obj kind.Object) error { change(obj); return nil })
	p.must(err)
}

func (p *plane) delete(k *kind.Kind, name string) {
	p.Helper()
	_, _, err := p.api.Delete(p.ctx, p.to(k, name), metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	p.must(err)
}

// nodeOf returns the Pod's node once nothing happens any more.
func (p *plane) nodeOf(name string) string {
	p.Helper()
	synctest.Wait()
	pod, ok := state.Get[*corev1.Pod](p.state, kind.Pod, "default", name)
	if !ok {
		p.Fatalf("Pod %s is missing", name)
	}
	return pod.Spec.NodeName
}

// waits fails unless the Pod is on no node, and returns why.
func (p *plane) waits(name string) corev1.PodCondition {
	p.Helper()
	if n := p.nodeOf(name); n != "" {
		p.Fatalf("Pod %s is on %s", name, n)
	}
	pod, _ := state.Get[*corev1.Pod](p.state, kind.Pod, "default", name)
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			return c
		}
	}
	p.Fatalf("Pod %s has no condition PodScheduled", name)
	return corev1.PodCondition{}
}

// tries counts how often a Pod was found to fit nowhere.
func (p *plane) tries(name string) (n int) {
	synctest.Wait()
	for _, e := range state.List[*corev1.Event](p.state, kind.Event, state.Interest{}) {
		if e.InvolvedObject.Name == name && e.Reason == "FailedScheduling" {
			n += int(e.Count)
		}
	}
	return n
}

func (p *plane) told(name string) []string {
	var out []string
	for _, e := range state.List[*corev1.Event](p.state, kind.Event, state.Interest{}) {
		if e.InvolvedObject.Name == name {
			out = append(out, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Message))
		}
	}
	return out
}

func TestPendingPodTellsWhy(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.create(pod("p"))
		if c := p.waits("p"); c.Status != corev1.ConditionFalse || c.Reason != "Unschedulable" || c.Message != "no nodes available to schedule pods" {
			t.Errorf("condition %+v", c)
		}
		p.create(node("a", taint("x", corev1.TaintEffectNoSchedule)))
		const why = "0/1 nodes are available: 1 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
		if c := p.waits("p"); c.Message != why {
			t.Errorf("message %q", c.Message)
		}
		if got := p.told("p"); !slices.Contains(got, "Warning FailedScheduling: "+why) {
			t.Errorf("events %q", got)
		}
		p.modify(kind.Node, "a", "", func(o kind.Object) { o.(*corev1.Node).Spec.Taints = nil })
		if got := p.nodeOf("p"); got != "a" {
			t.Errorf("on %q", got)
		}
		if got := p.told("p"); !slices.Contains(got, "Normal Scheduled: Successfully assigned default/p to a") {
			t.Errorf("events %q", got)
		}
		pod, _ := state.Get[*corev1.Pod](p.state, kind.Pod, "default", "p")
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && (c.Status != corev1.ConditionTrue || c.Message != "") {
				t.Errorf("condition %+v", c)
			}
		}
	})
}

// A Pod is tried again when, and only when, something happens that may help.
func TestRetries(t *testing.T) {
	full := func(p *plane) { p.create(pod("full", asks(corev1.ResourceCPU, "4"))); p.nodeOf("full") }
	type step struct {
		name  string
		do    func(p *plane)
		again bool
	}
	grow := func(cpu string) func(p *plane) {
		return func(p *plane) {
			p.modify(kind.Node, "a", "status", func(o kind.Object) {
				o.(*corev1.Node).Status.Allocatable[corev1.ResourceCPU] = resource.MustParse(cpu)
			})
		}
	}
	mark := func(key, value string) func(p *plane) {
		return func(p *plane) { p.modify(kind.Node, "a", "", func(o kind.Object) { o.GetLabels()[key] = value }) }
	}
	beat := step{"a heartbeat", func(p *plane) {
		p.modify(kind.Node, "a", "status", func(o kind.Object) {
			o.(*corev1.Node).Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: kind.Now()}}
		})
	}, false}
	pause := step{"time", func(*plane) { time.Sleep(time.Hour) }, false}
	another := step{"a Pod elsewhere", func(p *plane) { p.create(pod("other", app("other"))) }, false}
	for _, c := range []struct {
		name  string
		there func(p *plane)
		pod   *corev1.Pod
		steps []step
	}{
		{"cpu", full, pod("p", asks(corev1.ResourceCPU, "2")), []step{
			beat, pause, another,
			{"a label", mark("x", "y"), false},
			{"too little more", grow("5"), false},
			{"the end of a Pod that asked for nothing", func(p *plane) { p.delete(kind.Pod, "other") }, false},
			{"a node that is too small", func(p *plane) {
				p.create(node("b", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("1") }))
			}, false},
			{"the end of the Pod that is in the way", func(p *plane) { p.delete(kind.Pod, "full") }, true},
		}},
		{"cpu, and the node grows", full, pod("p", asks(corev1.ResourceCPU, "2")), []step{{"enough more", grow("6"), true}}},
		{"cpu, and the Pod ends", full, pod("p", asks(corev1.ResourceCPU, "2")), []step{{"success", func(p *plane) {
			p.modify(kind.Pod, "full", "status", func(o kind.Object) { o.(*corev1.Pod).Status.Phase = corev1.PodSucceeded })
		}, true}}},
		{"selector", nil, pod("p", selects("disk", "ssd")), []step{
			beat, another, {"another label", mark("disk", "hdd"), false}, {"the label", mark("disk", "ssd"), true},
		}},
		{"selector, and a node comes", nil, pod("p", selects("disk", "ssd")), []step{
			{"one without", func(p *plane) { p.create(node("b")) }, false},
			{"one with", func(p *plane) { p.create(node("c", label("disk", "ssd"))) }, true},
		}},
		{"near somebody", nil, pod("p", near(terms(corev1.LabelHostname, "x"))), []step{
			another, {"the one", func(p *plane) { p.create(pod("x", app("x"))) }, true},
		}},
		{"far from somebody", func(p *plane) { p.create(pod("x", app("x"))); p.nodeOf("x") }, pod("p", far(terms(corev1.LabelHostname, "x"))), []step{
			beat, another, {"its end", func(p *plane) { p.delete(kind.Pod, "x") }, true},
		}},
		{"its own toleration", func(p *plane) {
			p.modify(kind.Node, "a", "", func(o kind.Object) { taint("x", corev1.TaintEffectNoSchedule)(o.(*corev1.Node)) })
		}, pod("p"), []step{
			another, {"a toleration", func(p *plane) { p.modify(kind.Pod, "p", "", func(o kind.Object) { tolerating("x")(o.(*corev1.Pod)) }) }, true},
		}},
		{"port", func(p *plane) { p.create(pod("x", hostPort80("", corev1.ProtocolTCP))); p.nodeOf("x") }, pod("p", hostPort80("", corev1.ProtocolTCP)), []step{
			another, {"its end", func(p *plane) { p.delete(kind.Pod, "x") }, true},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inPlane(t, func(p *plane) {
				p.create(node("a"))
				if c.there != nil {
					c.there(p)
				}
				p.create(c.pod)
				p.waits("p")
				for _, s := range c.steps {
					before := p.tries("p")
					s.do(p)
					on := p.nodeOf("p")
					switch after := p.tries("p"); {
					case s.again && on == "":
						t.Fatalf("%s: it still waits", s.name)
					case !s.again && (on != "" || after != before):
						t.Fatalf("%s: tried %d times, on %q", s.name, after-before, on)
					}
				}
			})
		})
	}
}

// A Pod that fails again and again is tried less and less often.
func TestRetriesSlowDown(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.create(node("a", label("zone", "1")), node("b", label("zone", "2"), func(n *corev1.Node) { n.Spec.Unschedulable = true }))
		p.create(pod("x", app("x")))
		p.nodeOf("x")
		p.create(pod("p", app("x"), spreadOver("zone", 1, corev1.DoNotSchedule)))
		p.waits("p")
		for i := range 50 {
			p.create(pod(fmt.Sprintf("x%d", i), app("x"), func(p *corev1.Pod) { p.Spec.NodeName = "a" }))
			synctest.Wait()
		}
		if n := p.tries("p"); n < quickTries || n > quickTries+1 {
			t.Errorf("%d tries at once", n)
		}
		time.Sleep(firstPause)
		before := p.tries("p")
		p.modify(kind.Node, "b", "", func(o kind.Object) { o.(*corev1.Node).Spec.Unschedulable = false })
		time.Sleep(longest)
		if got := p.nodeOf("p"); got != "b" {
			t.Errorf("on %q after %d more tries", got, p.tries("p")-before)
		}
	})
}

// A binding that is refused frees what it held, and is tried again after a pause.
func TestRefusedBinding(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	gate := admission.Step{Name: "gate", Validate: func(_ context.Context, r *admission.Request) error {
		if r.Kind == kind.Pod && r.Subresource == "binding" && r.Name == "p" && refuse.Load() {
			return r.Forbid(errors.New("not now"))
		}
		return nil
	}}
	inPlane(t, func(p *plane) {
		all := asks(corev1.ResourceCPU, "4")
		p.create(node("a"), pod("p", all))
		if got := p.nodeOf("p"); got != "" {
			t.Fatalf("on %q", got)
		}
		if got := p.told("p"); len(got) != 1 || got[0] != `Warning FailedScheduling: running Bind plugin "DefaultBinder": pods "p" is forbidden: not now` {
			t.Errorf("events %q", got)
		}
		p.create(pod("q", all)) // for which there is room, since p is nowhere
		if got := p.nodeOf("q"); got != "a" {
			t.Errorf("the other is on %q", got)
		}
		p.delete(kind.Pod, "q")
		refuse.Store(false)
		time.Sleep(time.Minute)
		if got := p.nodeOf("p"); got != "a" {
			t.Errorf("on %q after a minute", got)
		}
	}, gate)
}

func TestGatedAndForeignPodsAreLeftAlone(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.create(node("a"))
		p.create(pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/x"}} }))
		p.create(pod("foreign", func(p *corev1.Pod) { p.Spec.SchedulerName = "other" }))
		for _, name := range []string{"gated", "foreign"} {
			if got := p.nodeOf(name); got != "" || p.tries(name) > 0 {
				t.Errorf("%s is on %q after %d tries", name, got, p.tries(name))
			}
		}
		p.modify(kind.Pod, "gated", "", func(o kind.Object) { o.(*corev1.Pod).Spec.SchedulingGates = nil })
		if got := p.nodeOf("gated"); got != "a" {
			t.Errorf("on %q without its gate", got)
		}
	})
}

// Where there is room for one, priority goes first, then age.
func TestPriority(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.create(&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "urgent"}, Value: 1000})
		p.create(node("a"))
		all := asks(corev1.ResourceCPU, "4")
		p.create(pod("full", all))
		p.nodeOf("full")
		for _, name := range []string{"old", "young", "urgent"} {
			p.create(pod(name, all, func(p *corev1.Pod) {
				if name == "urgent" {
					p.Spec.PriorityClassName = name
				}
			}))
			p.waits(name)
			time.Sleep(time.Second)
		}
		for _, c := range []struct{ gone, next string }{{"full", "urgent"}, {"urgent", "old"}, {"old", "young"}} {
			p.delete(kind.Pod, c.gone)
			if got := p.nodeOf(c.next); got != "a" {
				t.Errorf("after %s, %s is on %q", c.gone, c.next, got)
			}
		}
	})
}

// Many Pods at once: each on one node, none fuller than it may be.
func TestManyPods(t *testing.T) {
	inPlane(t, func(p *plane) {
		const nodes, count = 20, 190
		for i := range nodes {
			p.create(node(fmt.Sprintf("n%d", i)))
		}
		binds := map[string][]string{}
		watch, err := p.state.Watch(kind.Pod, state.Interest{}, p.state.Revision())
		p.must(err)
		defer watch.Stop()
		done := make(chan struct{})
		for w := range 4 {
			go func() {
				defer func() { done <- struct{}{} }()
				for i := w; i < count; i += 4 {
					p.create(pod(fmt.Sprintf("p%d", i), asks(corev1.ResourceCPU, "400m")))
				}
			}()
		}
		for range 4 {
			<-done
		}
		synctest.Wait()
		for {
			e, ok, err := watch.Poll()
			p.must(err)
			if !ok {
				break
			}
			pod := e.Object.(*corev1.Pod)
			if n := pod.Spec.NodeName; n != "" && !slices.Contains(binds[pod.Name], n) {
				binds[pod.Name] = append(binds[pod.Name], n)
			}
		}
		on := map[string]int{}
		for name, nodes := range binds {
			if len(nodes) != 1 {
				t.Errorf("%s was bound to %q", name, nodes)
			}
			on[nodes[0]]++
		}
		if len(binds) != count {
			t.Errorf("%d of %d Pods are bound", len(binds), count)
		}
		for n, pods := range on {
			if pods > 10 || pods < 8 {
				t.Errorf("%d Pods on %s", pods, n)
			}
		}
		p.create(pod("more", asks(corev1.ResourceCPU, "4")))
		if c := p.waits("more"); !strings.Contains(c.Message, "20 Insufficient cpu") {
			t.Errorf("message %q", c.Message)
		}
	})
}
