package agent

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
	"github.com/skiff-sh/skiff/internal/config"
)

func TestShortages(t *testing.T) {
	const gib = 1 << 30
	acted := func(signal string) map[shortageKey]bool { return map[shortageKey]bool{{signal, 0}: true} }
	tests := map[string]struct {
		rooms  []Room
		before map[shortageKey]bool
		want   []string
	}{
		"plenty":                      {[]Room{{"memory.available", gib, 8 * gib}, {"nodefs.available", 6, 100}}, nil, nil},
		"memory":                      {[]Room{{"memory.available", 99 << 20, 8 * gib}}, nil, []string{"memory 100Mi 99Mi"}},
		"what all Pods may use":       {[]Room{{allocatableMemory, 99 << 20, 8 * gib}}, nil, []string{"memory 100Mi 99Mi"}},
		"disk and memory, that first": {[]Room{{"nodefs.available", 4 * gib, 100 * gib}, {"memory.available", 0, gib}}, nil, []string{"memory 100Mi 0", "ephemeral-storage 5Gi 4Gi"}},
		"a little more is not enough": {[]Room{{"nodefs.available", 14 * gib, 100 * gib}}, acted("nodefs.available"), []string{"ephemeral-storage 5Gi 14Gi"}},
		"but that much is":            {[]Room{{"nodefs.available", 15 * gib, 100 * gib}}, acted("nodefs.available"), nil},
		"another one's shortage":      {[]Room{{"nodefs.available", 14 * gib, 100 * gib}}, acted("imagefs.available"), nil},
		"images' own disk":            {[]Room{{"nodefs.available", 50, 100}, {"imagefs.available", 4, 100}}, nil, []string{"ephemeral-storage 5 4"}},
		"inodes":                      {[]Room{{"nodefs.inodesFree", 400000, 100 << 20}}, nil, []string{"inodes 5Mi 400k"}},
		"a disk that does not count":  {[]Room{{"nodefs.inodesFree", 0, 0}}, nil, nil},
		"processes":                   {[]Room{{"pid.available", 4, 100}}, nil, []string{"pids 5 4"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range shortages(config.DefaultKubelet().Thresholds(), tt.rooms, func(k shortageKey) bool { return tt.before[k] }) {
				got = append(got, string(s.Resource)+" "+s.Threshold.String()+" "+s.available().String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestConditionsStayForAWhile(t *testing.T) {
	var p pressures
	start := time.Unix(1000, 0)
	short := []shortage{{Room: Room{Signal: "memory.available"}, Condition: corev1.NodeMemoryPressure}}
	if hold := p.take(short, time.Minute, start); !hold[corev1.NodeMemoryPressure] || len(ripe(short)) != 1 {
		t.Error("no condition, or nobody has to go")
	}
	if hold := p.take(nil, time.Minute, start.Add(59*time.Second)); !hold[corev1.NodeMemoryPressure] {
		t.Error("gone too soon")
	}
	if hold := p.take(nil, time.Minute, start.Add(time.Minute)); len(hold) > 0 {
		t.Error("does not go")
	}
}

// What is short of a soft threshold is told at once, and costs a Pod its place when it
// lasts; what has come back in between begins anew.
func TestSoftThresholds(t *testing.T) {
	k, err := config.ParseKubelet([]string{
		"eviction-hard=memory.available<1", "eviction-soft=memory.available<10", "eviction-soft-grace-period=memory.available=30s",
		"eviction-minimum-reclaim=memory.available=5",
	})
	if err != nil {
		t.Fatal(err)
	}
	var p pressures
	start := time.Unix(1000, 0)
	for _, step := range []struct {
		after     time.Duration
		available int64
		want      string
	}{
		{0, 20, "false 0"}, {10 * time.Second, 9, "true 0"}, {39 * time.Second, 9, "true 0"}, {40 * time.Second, 9, "true 1"},
		{50 * time.Second, 14, "true 1"}, {60 * time.Second, 15, "false 0"},
		{70 * time.Second, 9, "true 0"}, {80 * time.Second, 12, "false 0"}, {101 * time.Second, 9, "true 0"},
		{110 * time.Second, 0, "true 1"},
	} {
		short := shortages(k.Thresholds(), []Room{{"memory.available", step.available, 100}}, p.hadActed)
		hold := p.take(short, 0, start.Add(step.after))
		if got := fmt.Sprint(hold[corev1.NodeMemoryPressure], " ", len(ripe(short))); got != step.want {
			t.Errorf("after %s with %d: %s, want %s", step.after, step.available, got, step.want)
		}
	}
}

func TestEvictionGrace(t *testing.T) {
	soft := shortage{Grace: time.Minute}
	for _, tt := range []struct {
		s    shortage
		most int64
		want int64
	}{{shortage{}, 60, 1}, {soft, 0, 1}, {soft, 60, 60}, {soft, -1, 0}} {
		if got := evictionGrace(tt.s, tt.most); got != tt.want {
			t.Errorf("%v at most %d: %d", tt.s.Grace, tt.most, got)
		}
	}
}

func TestDisksOf(t *testing.T) {
	l := load{
		Uses:       map[corev1.ResourceName]int64{},
		Containers: []containerLoad{{Layer: taken{100, 1}, Logs: taken{20, 1}}},
		Disks:      &footprint{Volumes: map[string]volumeFootprint{"v": {taken: taken{3, 1}, Local: true}, "memory": {taken: taken{5000, 1}}}},
	}
	for name, tt := range map[string]struct {
		signal string
		apart  bool
		want   int64
	}{
		"one disk":                    {"nodefs.available", false, 123},
		"one disk, by its other name": {"imagefs.available", false, 123},
		"the node's":                  {"nodefs.available", true, 23},
		"the images'":                 {"imagefs.inodesFree", true, 100},
	} {
		l.measure(disksOf(tt.signal, tt.apart))
		if got := l.Uses[corev1.ResourceEphemeralStorage]; got != tt.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func using(name string, priority int32, asks string, uses int64) load {
	pod := webPod(func(p *corev1.Pod) {
		p.Name = name
		p.Spec.Priority = &priority
		if asks != "" {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(asks)}
		}
	})
	return load{Pod: pod, Uses: map[corev1.ResourceName]int64{corev1.ResourceMemory: uses, "pids": uses},
		Containers: []containerLoad{{Name: "c", Memory: uses}}, Disks: &footprint{}}
}

func TestRank(t *testing.T) {
	loads := []load{
		using("modest", 0, "2Gi", 1<<30), using("important", 100, "", 4<<30), using("over a little", 0, "1Gi", 1<<30+1),
		using("over much", 0, "1Gi", 3<<30), using("best effort", 0, "", 1<<30),
	}
	names := func() (out []string) {
		for _, l := range loads {
			out = append(out, l.Pod.Name)
		}
		return out
	}
	rank(loads, corev1.ResourceMemory)
	if want := []string{"over much", "best effort", "over a little", "important", "modest"}; !slices.Equal(names(), want) {
		t.Errorf("for memory %q", names())
	}
	rank(loads, "pids")
	if want := []string{"over much", "over a little", "best effort", "modest", "important"}; !slices.Equal(names(), want) {
		t.Errorf("for processes %q", names())
	}
}

func TestEvictionMessage(t *testing.T) {
	s := shortage{Room: Room{Signal: "memory.available", Available: 50 << 20}, Resource: corev1.ResourceMemory, Threshold: resource.MustParse("100Mi")}
	want := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 2Gi, request is 1Gi, has larger consumption of memory. "
	got, whom := evictionMessage(s, using("web", 0, "1Gi", 2<<30))
	if got != want {
		t.Errorf("got %q", got)
	}
	if told := whom.annotations(); !maps.Equal(told, map[string]string{"starved_resource": "memory", "offending_containers": "c", "offending_containers_usage": "2Gi"}) {
		t.Errorf("annotations %v", told)
	}
	want = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 2Gi, request is 0, has larger consumption of memory. "
	if got, _ := evictionMessage(s, using("web", 0, "", 2<<30)); got != want {
		t.Errorf("got %q", got)
	}
}

func TestOverDisk(t *testing.T) {
	limited := func(list corev1.ResourceList) *corev1.Pod {
		return webPod(func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits = list })
	}
	storage := corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Mi")}
	volume := webPod(func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(1<<20, resource.BinarySI)}}}}
	})
	two := limited(storage)
	two.Spec.Containers = append(two.Spec.Containers, corev1.Container{Name: "d", Resources: corev1.ResourceRequirements{Limits: storage}})
	writes := func(p *corev1.Pod, n int64) load {
		return load{Pod: p, Containers: []containerLoad{{Name: "c", Layer: taken{Bytes: n}}}, Disks: &footprint{Layers: map[string]taken{"1": {Bytes: n}}}}
	}
	holds := func(n int64) load {
		return load{Pod: volume, Disks: &footprint{Volumes: map[string]volumeFootprint{"v": {taken: taken{Bytes: n}, Local: true}}}}
	}
	tests := map[string]struct {
		load  load
		apart bool
		want  string
	}{
		"no limit":                    {writes(webPod(), 5<<30), false, ""},
		"within":                      {writes(limited(storage), 1<<20), false, ""},
		"the Pod":                     {writes(limited(storage), 2<<20), false, "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "},
		"a container":                 {writes(two, 2<<20), false, `Container c exceeded its local ephemeral storage limit "1Mi". `},
		"a layer on the images' disk": {writes(two, 2<<20), true, ""},
		"a volume":                    {holds(2 << 20), false, `Usage of EmptyDir volume "v" exceeds the limit "1Mi". `},
		"a small file":                {holds(4096), false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := overDisk(tt.load, tt.apart); got != tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestRefusedUnderPressure(t *testing.T) {
	memory := map[corev1.NodeConditionType]bool{corev1.NodeMemoryPressure: true}
	disk := map[corev1.NodeConditionType]bool{corev1.NodeMemoryPressure: true, corev1.NodeDiskPressure: true}
	class := func(c corev1.PodQOSClass) *corev1.Pod {
		return webPod(func(p *corev1.Pod) { p.Status.QOSClass = c })
	}
	tolerant := class(corev1.PodQOSBestEffort)
	tolerant.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
	critical := class(corev1.PodQOSBestEffort)
	critical.Spec.Priority = new(int32(systemCritical))
	tests := map[string]struct {
		pod  *corev1.Pod
		hold map[corev1.NodeConditionType]bool
		want string
	}{
		"all is well":             {class(corev1.PodQOSBestEffort), nil, ""},
		"best effort":             {class(corev1.PodQOSBestEffort), memory, "The node had condition: [MemoryPressure]. "},
		"one that asks for some":  {class(corev1.PodQOSBurstable), memory, ""},
		"tolerant":                {tolerant, memory, ""},
		"critical":                {critical, disk, ""},
		"nobody without disk":     {class(corev1.PodQOSGuaranteed), disk, "The node had condition: [DiskPressure MemoryPressure]. "},
		"tolerant of memory only": {tolerant, disk, "The node had condition: [DiskPressure MemoryPressure]. "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := refusedUnderPressure(tt.pod, tt.hold)
			if (got == nil) != (tt.want == "") || got != nil && (got.Message != tt.want || got.Reason != "Evicted") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a")
	if err := os.WriteFile(file, make([]byte, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if use := diskUse(dir); use.Bytes < 100<<10 || use.Bytes > 130<<10 || use.Inodes != 2 {
		t.Errorf("it takes %+v", use)
	}
	if use := diskUse(filepath.Join(dir, "none")); use != (taken{}) {
		t.Error("what is not there takes room")
	}
}

// shortMachine is short of what a test says.
type shortMachine struct {
	Machine
	room func() []Room
}

func (m shortMachine) Pressure() Pressure { return Pressure{Room: m.room()} }

// greedy is a Pod's cgroup that uses 1 GiB.
type greedy struct{ fakeCgroups }

func (greedy) Usage(cgroup.Pod, string) (cgroup.Usage, error) {
	return cgroup.Usage{WorkingSet: 1 << 30}, nil
}

func TestNodeEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var available atomic.Int64
		available.Store(4 << 30)
		b.machine = shortMachine{hostMachine{dir: t.TempDir()}, func() []Room { return []Room{{"memory.available", available.Load(), 8 << 30}} }}
		b.cgroups = greedy{}
		b.start()
		defer func() { b.stop() }()
		b.create(webPod())
		pass(time.Second)
		available.Store(50 << 20)
		pass(2 * nodeCheckInterval)
		s := b.pod().Status
		want := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 1Gi, request is 0, has larger consumption of memory. "
		if s.Phase != corev1.PodFailed || s.Reason != "Evicted" || s.Message != want {
			t.Errorf("status is %s %s %q", s.Phase, s.Reason, s.Message)
		}
		if got := condition(b.pod(), corev1.DisruptionTarget); got != "True TerminationByKubelet "+want {
			t.Errorf("condition is %q", got)
		}
		b.wantEvent("Evicted " + want)
		b.wantEvent("EvictionThresholdMet Attempting to reclaim memory")

		available.Store(4 << 30) // the condition stays for a while
		b.create(webPod(func(p *corev1.Pod) { p.Name, p.UID = "late", "late" }))
		pass(time.Second)
		if !slices.ContainsFunc(b.events(), func(e string) bool { return strings.HasPrefix(e, "Evicted The node had condition: [MemoryPressure]. ") }) {
			t.Errorf("no event among %q", b.events())
		}
	})
}

func TestReserved(t *testing.T) {
	k, err := config.ParseKubelet([]string{"kube-reserved=cpu=200m,memory=1Gi", "system-reserved=cpu=100m"})
	if err != nil {
		t.Fatal(err)
	}
	d := Description{Capacity: corev1.ResourceList{
		"cpu": resource.MustParse("2"), "memory": resource.MustParse("4Gi"), "ephemeral-storage": resource.MustParse("100Gi"), "hugepages-2Mi": resource.MustParse("512Mi"),
	}}
	d.Reserved = reserved(k, d.Capacity)
	if shares, memory := forPods(k, d.Capacity); shares != 1740 || memory != 3<<30 {
		t.Errorf("all Pods together get %d shares, %d bytes", shares, memory)
	}
	if _, memory := forPods(config.DefaultKubelet(), d.Capacity); memory != 0 {
		t.Errorf("with nothing reserved %d bytes", memory)
	}
	got := d.allocatable()
	for name, want := range map[corev1.ResourceName]string{"cpu": "1700m", "memory": "2460Mi", "ephemeral-storage": "95Gi", "hugepages-2Mi": "512Mi"} {
		if q := got[name]; q.Cmp(resource.MustParse(want)) != 0 {
			t.Errorf("%s is %s, want %s", name, q.String(), want)
		}
	}
}
