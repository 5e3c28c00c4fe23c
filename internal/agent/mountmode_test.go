package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestRecursiveReadOnly(t *testing.T) {
	for _, c := range []struct {
		mode        corev1.RecursiveReadOnlyMode
		mount       corev1.VolumeMount
		supported   bool
		want        bool
		wantProblem string
	}{
		{mode: corev1.RecursiveReadOnlyDisabled, supported: true},
		{mode: corev1.RecursiveReadOnlyEnabled, mount: corev1.VolumeMount{ReadOnly: true}, supported: true, want: true},
		{mode: corev1.RecursiveReadOnlyIfPossible, mount: corev1.VolumeMount{ReadOnly: true}, supported: true, want: true},
		{mode: corev1.RecursiveReadOnlyIfPossible, mount: corev1.VolumeMount{ReadOnly: true}},
		{
			mode: corev1.RecursiveReadOnlyEnabled, mount: corev1.VolumeMount{ReadOnly: true},
			wantProblem: `volume "v" requested recursive read-only mode, but it is not supported by the runtime`,
		},
		{
			mode: corev1.RecursiveReadOnlyEnabled, supported: true,
			wantProblem: `volume "v" requested recursive read-only mode, but it is not read-only`,
		},
		{
			mode: corev1.RecursiveReadOnlyEnabled, supported: true,
			mount:       corev1.VolumeMount{ReadOnly: true, MountPropagation: ptr(corev1.MountPropagationHostToContainer)},
			wantProblem: `volume "v" requested recursive read-only mode, but it is not compatible with propagation "HostToContainer"`,
		},
		{
			mode: "Sometimes", supported: true, mount: corev1.VolumeMount{ReadOnly: true},
			wantProblem: `unknown recursive read-only mode "Sometimes"`,
		},
	} {
		c.mount.Name, c.mount.RecursiveReadOnly = "v", &c.mode
		got, err := recursivelyReadOnly(c.mount, c.supported)
		problem := ""
		if err != nil {
			problem = err.Error()
		}
		if got != c.want || problem != c.wantProblem {
			t.Errorf("%+v: %t %q", c, got, problem)
		}
	}
	if got, err := recursivelyReadOnly(corev1.VolumeMount{}, true); got || err != nil {
		t.Errorf("a mount that says nothing: %t %v", got, err)
	}
	ro := &corev1.Container{VolumeMounts: []corev1.VolumeMount{
		{Name: "all", ReadOnly: true, RecursiveReadOnly: ptr(corev1.RecursiveReadOnlyIfPossible)}, {Name: "one", ReadOnly: true}, {Name: "none"},
	}}
	got := mountStatuses(ro, true)
	if *got[0].RecursiveReadOnly != corev1.RecursiveReadOnlyEnabled || *got[1].RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled || got[2].RecursiveReadOnly != nil {
		t.Errorf("statuses %+v", got)
	}
}
