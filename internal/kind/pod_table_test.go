package kind

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// at is a time before that of the table.
func at(ago time.Duration) metav1.Time { return metav1.NewTime(tableTime.Add(-ago)) }

var tableTime = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

func TestPodRow(t *testing.T) {
	waiting := func(name, reason string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
	}
	ended := func(name, reason string, code, signal int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code, Signal: signal}}}
	}
	running := func(name string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, Ready: true, Started: new(true), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	}
	restarted := func(s corev1.ContainerStatus, times int32, ago time.Duration) corev1.ContainerStatus {
		s.RestartCount = times
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{FinishedAt: at(ago)}
		return s
	}
	init := func(p *corev1.Pod, statuses ...corev1.ContainerStatus) {
		p.Status.Phase = corev1.PodPending
		for i, s := range statuses {
			p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: s.Name})
			if strings.HasPrefix(s.Name, "side") {
				p.Spec.InitContainers[i].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
			}
		}
		p.Status.InitContainerStatuses = statuses
		p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("app", "PodInitializing")}
	}
	cases := []struct {
		name   string
		change func(*corev1.Pod)
		want   string // READY STATUS RESTARTS
	}{
		{"pending", func(p *corev1.Pod) { p.Status.Phase, p.Status.ContainerStatuses = corev1.PodPending, nil }, "0/1|Pending|0"},
		{"creating", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("app", "ContainerCreating")}
		}, "0/1|ContainerCreating|0"},
		{"running", func(p *corev1.Pod) {}, "1/1|Running|0"},
		{"restarted", func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0] = restarted(p.Status.ContainerStatuses[0], 3, 5*time.Minute)
		}, "1/1|Running|3 (5m ago)"},
		{"restarted at an unknown time", func(p *corev1.Pod) { p.Status.ContainerStatuses[0].RestartCount = 3 }, "1/1|Running|3"},
		{"crash loop", func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0] = restarted(waiting("app", "CrashLoopBackOff"), 4, 12*time.Second)
		}, "0/1|CrashLoopBackOff|4 (12s ago)"},
		{"image", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("app", "ImagePullBackOff")}
		}, "0/1|ImagePullBackOff|0"},
		{"completed", func(p *corev1.Pod) {
			p.Status.Phase, p.Status.ContainerStatuses = corev1.PodSucceeded, []corev1.ContainerStatus{ended("app", "Completed", 0, 0)}
		}, "0/1|Completed|0"},
		{"error", func(p *corev1.Pod) {
			p.Status.Phase, p.Status.ContainerStatuses = corev1.PodFailed, []corev1.ContainerStatus{ended("app", "Error", 1, 0)}
		}, "0/1|Error|0"},
		{"exit code", func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{ended("app", "", 2, 0)} }, "0/1|ExitCode:2|0"},
		{"signal", func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{ended("app", "", 0, 9)} }, "0/1|Signal:9|0"},
		{"evicted", func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason, p.Status.ContainerStatuses = corev1.PodFailed, "Evicted", nil
		}, "0/1|Evicted|0"},
		{"one of two completed", func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "b"})
			p.Status.ContainerStatuses = []corev1.ContainerStatus{ended("app", "Completed", 0, 0), running("b")}
		}, "1/2|NotReady|0"},
		{"one of two completed, ready", func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "b"})
			p.Status.ContainerStatuses = []corev1.ContainerStatus{ended("app", "Completed", 0, 0), running("b")}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}, "1/2|Running|0"},
		{"terminating", func(p *corev1.Pod) { p.DeletionTimestamp = new(at(time.Second)) }, "1/1|Terminating|0"},
		{"deleted when completed", func(p *corev1.Pod) {
			p.DeletionTimestamp = new(at(time.Second))
			p.Status.Phase, p.Status.ContainerStatuses = corev1.PodSucceeded, []corev1.ContainerStatus{ended("app", "Completed", 0, 0)}
		}, "0/1|Completed|0"},
		{"node lost", func(p *corev1.Pod) { p.DeletionTimestamp, p.Status.Reason = new(at(time.Second)), "NodeLost" }, "1/1|Unknown|0"},
		{"gated", func(p *corev1.Pod) {
			p.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Reason: "SchedulingGated"}}}
		}, "0/1|SchedulingGated|0"},
		{"first of two init", func(p *corev1.Pod) { init(p, waiting("i1", "PodInitializing"), waiting("i2", "PodInitializing")) }, "0/1|Init:0/2|0"},
		{"second of two init", func(p *corev1.Pod) {
			init(p, ended("i1", "Completed", 0, 0), corev1.ContainerStatus{Name: "i2", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
		}, "0/1|Init:1/2|0"},
		{"init error", func(p *corev1.Pod) { init(p, restarted(ended("i1", "Error", 1, 0), 2, time.Hour)) }, "0/1|Init:Error|2 (60m ago)"},
		{"init exit code", func(p *corev1.Pod) { init(p, ended("i1", "", 3, 0)) }, "0/1|Init:ExitCode:3|0"},
		{"init signal", func(p *corev1.Pod) { init(p, ended("i1", "", 3, 15)) }, "0/1|Init:Signal:15|0"},
		{"init crash loop", func(p *corev1.Pod) { init(p, waiting("i1", "CrashLoopBackOff")) }, "0/1|Init:CrashLoopBackOff|0"},
		{"init done", func(p *corev1.Pod) { init(p, restarted(ended("i1", "Completed", 0, 0), 2, time.Hour)) }, "0/1|PodInitializing|0"},
		{"sidecar", func(p *corev1.Pod) {
			init(p, restarted(running("side"), 1, time.Hour), restarted(ended("i1", "Completed", 0, 0), 2, time.Minute))
			p.Status.Phase, p.Status.ContainerStatuses = corev1.PodRunning, []corev1.ContainerStatus{running("app")}
		}, "2/2|Running|1 (60m ago)"},
		{"sidecar died, initialized", func(p *corev1.Pod) {
			init(p, restarted(waiting("side", "CrashLoopBackOff"), 1, time.Hour))
			p.Status.Phase, p.Status.ContainerStatuses = corev1.PodRunning, []corev1.ContainerStatus{running("app")}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}}
		}, "1/2|Init:CrashLoopBackOff|1 (60m ago)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pod := newPod()
			pod.CreationTimestamp = at(time.Minute)
			pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{running("app")}}
			c.change(pod)
			row := Pod.Row(pod, tableTime)
			if got := fmt.Sprintf("%v|%v|%v", row[1], row[2], row[3]); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestPodWideRow(t *testing.T) {
	pod := newPod(func(p *corev1.Pod) {
		p.CreationTimestamp = at(3 * 24 * time.Hour)
		p.Spec.NodeName = "n1"
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "a/b"}, {ConditionType: "c/d"}}
		p.Status = corev1.PodStatus{
			PodIP:      "10.42.0.5",
			Conditions: []corev1.PodCondition{{Type: "a/b", Status: corev1.ConditionTrue}, {Type: "c/d", Status: corev1.ConditionFalse}},
		}
	})
	if got, want := strings.Join(cells(Pod.Row(pod, tableTime)), " "), "web 0/1  0 3d 10.42.0.5 n1 <none> 1/2"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := strings.Join(cells(Pod.Row(newPod(), tableTime)), " "), "web 0/1  0 <unknown> <none> <none> <none> <none>"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func cells(row []any) []string {
	var texts []string
	for _, cell := range row {
		texts = append(texts, fmt.Sprint(cell))
	}
	return texts
}

// TestWorkloadColumns holds the names, types and priorities that clients read.
func TestWorkloadColumns(t *testing.T) {
	for k, want := range map[*Kind]string{
		Pod:        "Name:string:name Ready:string Status:string Restarts:string Age:string IP:string:+ Node:string:+ Nominated Node:string:+ Readiness Gates:string:+",
		Deployment: "Name:string:name Ready:string Up-to-date:string Available:string Age:string Containers:string:+ Images:string:+ Selector:string:+",
		ReplicaSet: "Name:string:name Desired:integer Current:integer Ready:integer Age:string Containers:string:+ Images:string:+ Selector:string:+",
	} {
		var columns []string
		for _, c := range k.Columns {
			text := c.Name + ":" + c.Type
			if c.Format != "" {
				text += ":" + c.Format
			}
			if c.Priority == 1 {
				text += ":+"
			}
			if c.Description == "" {
				t.Errorf("%s: column %s says nothing of itself", k.Kind, c.Name)
			}
			columns = append(columns, text)
		}
		if got := strings.Join(columns, " "); got != want {
			t.Errorf("%s: %s\nwant %s", k.Kind, got, want)
		}
	}
}

// TestWorkloadDiscovery holds what clients find out about the kinds.
func TestWorkloadDiscovery(t *testing.T) {
	for k, want := range map[*Kind]string{
		Pod: "pods pod [po] [all]: attach=/v1 PodAttachOptions[create get] binding=/v1 Binding[create] ephemeralcontainers=[get patch update] " +
			"eviction=policy/v1 Eviction[create] exec=/v1 PodExecOptions[create get] log=[get] portforward=/v1 PodPortForwardOptions[create get] " +
			"proxy=/v1 PodProxyOptions[create delete get patch update] resize=[get patch update] status=[get patch update]",
		Deployment: "deployments deployment [deploy] [all]: scale=autoscaling/v1 Scale[get patch update] status=[get patch update]",
		ReplicaSet: "replicasets replicaset [rs] [all]: scale=autoscaling/v1 Scale[get patch update] status=[get patch update]",
	} {
		var subs []string
		for _, s := range k.Subresources {
			body := ""
			if !s.Kind.Empty() {
				body = s.Kind.Group + "/" + s.Kind.Version + " " + s.Kind.Kind
			}
			subs = append(subs, fmt.Sprintf("%s=%s%v", s.Name, body, s.Verbs))
		}
		got := fmt.Sprintf("%s %s %v %v: %s", k.Resource.Resource, k.Singular, k.ShortNames, k.Categories, strings.Join(subs, " "))
		if got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
