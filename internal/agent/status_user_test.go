package agent

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestUserStatus(t *testing.T) {
	was := []corev1.ContainerStatus{{ContainerID: "containerd://a", User: &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: 7}}}}
	for name, c := range map[string]struct {
		id     string
		user   *User
		uid    int64
		groups []int64
		none   bool
	}{
		"the group is one of the groups": {id: "a", user: &User{UID: 1, GID: 2, Groups: []int64{3}}, uid: 1, groups: []int64{2, 3}},
		"once":                           {id: "a", user: &User{UID: 1, GID: 2, Groups: []int64{3, 2}}, uid: 1, groups: []int64{3, 2}},
		"told before":                    {id: "a", uid: 7},
		"another container":              {id: "b", none: true},
	} {
		t.Run(name, func(t *testing.T) {
			got := userStatus(&run{ContainerState: ContainerState{ID: c.id, User: c.user}}, was)
			if c.none {
				if got != nil {
					t.Errorf("got %+v", got.Linux)
				}
				return
			}
			if got == nil || got.Linux.UID != c.uid || !slices.Equal(got.Linux.SupplementalGroups, c.groups) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// Whom a container began as is known also where its end was told before its start.
func TestUserOfWhatEndedFirst(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod())
		w := b.agent.workerOf("default", "web")
		w.mu.Lock()
		defer w.mu.Unlock()
		r := &record{Current: &run{ContainerState: ContainerState{ID: "x", Name: "c", Phase: ContainerCreated}}}
		w.setEnded(r, ContainerState{ID: "x", Name: "c", User: &User{UID: 7}})
		if u := r.Current.User; u == nil || u.UID != 7 {
			t.Errorf("the user is %+v", u)
		}
	})
}
