package api_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// told returns "message × count" of every Event, sorted.
func told(c *cluster) []string {
	var list []string
	for _, e := range state.List[*corev1.Event](c.state, kind.Event, state.Interest{}) {
		list = append(list, fmt.Sprintf("%s × %d", e.Message, e.Count))
	}
	slices.Sort(list)
	return list
}

func TestRecorder(t *testing.T) {
	say := func(r *api.Recorder, on *corev1.Pod, format string, args ...any) {
		r.Event(context.Background(), kind.Pod, on, corev1.EventTypeNormal, "Test", format, args...)
	}
	for _, c := range []struct {
		name string
		say  func(r *api.Recorder, on *corev1.Pod, pass func(time.Duration))
		want []string
	}{
		{"repeated", func(r *api.Recorder, on *corev1.Pod, _ func(time.Duration)) {
			for range 3 {
				say(r, on, "same")
			}
		}, []string{"same × 3"}},
		{"different at one moment", func(r *api.Recorder, on *corev1.Pod, _ func(time.Duration)) {
			say(r, on, "one")
			say(r, on, "two")
		}, []string{"one × 1", "two × 1"}},
		{"similar", func(r *api.Recorder, on *corev1.Pod, _ func(time.Duration)) {
			for i := range 12 {
				say(r, on, "n%02d", i)
			}
		}, []string{"(combined from similar events): n11 × 3", "n00 × 1", "n01 × 1", "n02 × 1", "n03 × 1", "n04 × 1", "n05 × 1", "n06 × 1", "n07 × 1", "n08 × 1"}},
		{"similar but long ago", func(r *api.Recorder, on *corev1.Pod, pass func(time.Duration)) {
			for i := range 9 {
				say(r, on, "n%d", i)
			}
			pass(11 * time.Minute)
			say(r, on, "n9")
		}, []string{"n0 × 1", "n1 × 1", "n2 × 1", "n3 × 1", "n4 × 1", "n5 × 1", "n6 × 1", "n7 × 1", "n8 × 1", "n9 × 1"}},
		{"too many", func(r *api.Recorder, on *corev1.Pod, pass func(time.Duration)) {
			for range 40 {
				say(r, on, "again")
			}
			pass(5 * time.Minute)
			say(r, on, "again")
			say(r, on, "again")
		}, []string{"again × 26"}},
		{"long", func(r *api.Recorder, on *corev1.Pod, _ func(time.Duration)) {
			say(r, on, "%s", strings.Repeat("x", 1025))
		}, []string{strings.Repeat("x", 1020) + " ... × 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(1e9, 0)
			cluster := newCluster(t, func(c *api.Config, _ *state.Options) { c.Now = func() time.Time { return now } })
			on := cluster.create(kind.Pod, pod("p")).(*corev1.Pod)
			c.say(cluster.NewRecorder("test", auth.User{}), on, func(d time.Duration) { now = now.Add(d) })
			if got := told(cluster); !slices.Equal(got, c.want) {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
		})
	}
}
