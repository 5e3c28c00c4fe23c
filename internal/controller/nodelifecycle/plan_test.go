package nodelifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	now   = metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	early = metav1.NewTime(now.Add(-time.Hour))
)

// node returns one with "Type=Status" conditions and "key:Effect" taints.
func node(conditions, taints string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", CreationTimestamp: early}}
	for _, text := range strings.Fields(conditions) {
		t, s, _ := strings.Cut(text, "=")
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeConditionType(t), Status: corev1.ConditionStatus(s), LastTransitionTime: early})
	}
	for _, text := range strings.Fields(taints) {
		key, effect, _ := strings.Cut(text, ":")
		if !strings.Contains(key, "/") {
			key = "node.kubernetes.io/" + key
		}
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffect(effect), TimeAdded: &early})
	}
	return n
}

func TestTaints(t *testing.T) {
	cordoned := node("Ready=True", "")
	cordoned.Spec.Unschedulable = true
	for _, c := range []struct {
		name  string
		node  *corev1.Node
		evict bool
		want  string // those with a new time end in "+"
	}{
		{"ready", node("Ready=True", ""), true, ""},
		{"not ready", node("Ready=False", ""), true, "not-ready:NoSchedule+ not-ready:NoExecute+"},
		{"unreachable", node("Ready=Unknown", ""), true, "unreachable:NoSchedule+ unreachable:NoExecute+"},
		{"not ready, all of them", node("Ready=False", ""), false, "not-ready:NoSchedule+"},
		{"unreachable, now all of them", node("Ready=Unknown", "unreachable:NoSchedule unreachable:NoExecute"), false, "unreachable:NoSchedule"},
		{"still unreachable", node("Ready=Unknown", "unreachable:NoSchedule unreachable:NoExecute"), true, "unreachable:NoSchedule unreachable:NoExecute"},
		{"from unreachable to not ready", node("Ready=False", "unreachable:NoSchedule unreachable:NoExecute"), true, "not-ready:NoSchedule+ not-ready:NoExecute+"},
		{"ready again", node("Ready=True", "unreachable:NoExecute not-ready:NoSchedule"), true, ""},
		{"others' stay", node("Ready=True", "example.com/x:NoSchedule not-ready:PreferNoSchedule"), true, "example.com/x:NoSchedule not-ready:PreferNoSchedule"},
		{"pressure", node("Ready=True MemoryPressure=True DiskPressure=True PIDPressure=True NetworkUnavailable=True", ""), true,
			"memory-pressure:NoSchedule+ disk-pressure:NoSchedule+ pid-pressure:NoSchedule+ network-unavailable:NoSchedule+"},
		{"no pressure", node("Ready=True MemoryPressure=False DiskPressure=Unknown", "memory-pressure:NoSchedule"), true, ""},
		{"cordoned", cordoned, true, "unschedulable:NoSchedule+"},
		{"uncordoned", node("Ready=True", "unschedulable:NoSchedule"), true, ""},
		{"silent from the start", node("", "not-ready:NoSchedule"), true, "not-ready:NoSchedule"},
	} {
		var got []string
		for _, taint := range taints(c.node, c.evict, now) {
			text := strings.TrimPrefix(taint.Key, "node.kubernetes.io/") + ":" + string(taint.Effect)
			if taint.TimeAdded.Equal(&now) {
				text += "+"
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %q, want %q", c.name, text, c.want)
		}
	}
}

func TestSilent(t *testing.T) {
	n := node("Ready=True MemoryPressure=Unknown Custom=True", "")
	var got []string
	for _, c := range silent(n, now) {
		moved := ""
		if c.LastTransitionTime.Equal(&now) {
			moved = "+"
		}
		got = append(got, fmt.Sprintf("%s=%s %s %s%s", c.Type, c.Status, c.Reason, c.Message, moved))
	}
	want := `Ready=Unknown NodeStatusUnknown Kubelet stopped posting node status.+
MemoryPressure=Unknown  
Custom=True  
DiskPressure=Unknown NodeStatusNeverUpdated Kubelet never posted node status.+
PIDPressure=Unknown NodeStatusNeverUpdated Kubelet never posted node status.+`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if n.Status.Conditions[0].Status != corev1.ConditionTrue {
		t.Error("the node that was given changed")
	}
}

// Only that something changes means anything, not what it says.
func TestHear(t *testing.T) {
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	var h heartbeat
	for i, c := range []struct{ renewed, posted, now, seen time.Time }{
		{at(-90), at(-90), at(0), at(0)},
		{at(-90), at(-90), at(1), at(0)},
		{at(-80), at(-90), at(2), at(2)},
		{at(-99), at(-90), at(3), at(3)}, // its clock was set back
		{at(-99), at(50), at(4), at(4)},
		{at(-99), at(50), at(5), at(4)},
	} {
		if h = h.hear(c.renewed, c.posted, c.now); !h.seen.Equal(c.seen) {
			t.Errorf("%d: seen %v, want %v", i, h.seen, c.seen)
		}
	}
}
