package agent

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// durations are how long the stages of Pods' starts took, told at /metrics by
// upstream's names. They cost a few atomic additions for each stage.
type durations struct {
	sandbox durationHistogram // namespaces, network, cgroup and volumes of a Pod
	image   durationHistogram // to find that it is there
	pull    durationHistogram
	create  durationHistogram // a container, its file system and its first process
	start   durationHistogram // that process's own program
	status  durationHistogram // from a change to its being written
}

// durationBounds are the buckets' upper bounds in seconds.
var durationBounds = [...]float64{.005, .0125, .03125, .078125, .1953125, .48828125, 1.220703125, 3.0517578125, 7.62939453125, 19.073486328125, 47.6837158203125}

// durationHistogram counts durations. Its zero value is ready.
type durationHistogram struct {
	buckets [len(durationBounds) + 1]atomic.Uint64 // the last is for what exceeds all bounds
	sum     atomic.Int64                           // nanoseconds
}

// since counts what began then and ends now.
func (h *durationHistogram) since(began time.Time) {
	took := time.Since(began)
	i := 0
	for i < len(durationBounds) && took.Seconds() > durationBounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(took))
}

// histogram tells what was counted; what was never done is left out.
func (p *prometheusSink) histogram(name, help string, h *durationHistogram, l ...string) {
	var count uint64
	buckets := map[float64]uint64{}
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(durationBounds) {
			buckets[durationBounds[i]] = count
		}
	}
	if count == 0 {
		return
	}
	var names, values []string
	for i := 0; i+1 < len(l); i += 2 {
		names, values = append(names, l[i]), append(values, l[i+1])
	}
	p.to <- prometheus.MustNewConstHistogram(prometheus.NewDesc(name, help, names, nil),
		count, time.Duration(h.sum.Load()).Seconds(), buckets, values...)
}

// tell gives the durations to who asks for metrics.
func (d *durations) tell(p *prometheusSink) {
	p.histogram("kubelet_run_podsandbox_duration_seconds", "Duration in seconds of the run_podsandbox operations.", &d.sandbox)
	for _, o := range []struct {
		kind  string
		times *durationHistogram
	}{
		{"image_status", &d.image}, {"pull_image", &d.pull}, {"create_container", &d.create}, {"start_container", &d.start},
	} {
		p.histogram("kubelet_runtime_operations_duration_seconds", "Duration in seconds of runtime operations. Broken down by operation type.",
			o.times, "operation_type", o.kind)
	}
	p.histogram("kubelet_pod_status_sync_duration_seconds", "Duration in seconds from a change of a pod's status until the API has it.", &d.status)
}
