package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// durations are how long the stages of Pods' starts took, told at /metrics by
// upstream's names.
type durations struct {
	sandbox prometheus.Histogram // namespaces, network, cgroup and volumes of a Pod
	status  prometheus.Histogram // from a change to its being written

	operations                 *prometheus.HistogramVec // of which the others are
	image, pull, create, start prometheus.Observer      // to find that it is there; …; a container's first process; its own program
}

func newDurations() durations {
	options := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(.005, 2.5, 11)} // seconds
	}
	operations := prometheus.NewHistogramVec(options("kubelet_runtime_operations_duration_seconds",
		"Duration in seconds of runtime operations. Broken down by operation type."), []string{"operation_type"})
	return durations{
		sandbox:    prometheus.NewHistogram(options("kubelet_run_podsandbox_duration_seconds", "Duration in seconds of the run_podsandbox operations.")),
		status:     prometheus.NewHistogram(options("kubelet_pod_status_sync_duration_seconds", "Duration in seconds from a change of a pod's status until the API has it.")),
		operations: operations,
		image:      operations.WithLabelValues("image_status"), pull: operations.WithLabelValues("pull_image"),
		create: operations.WithLabelValues("create_container"), start: operations.WithLabelValues("start_container"),
	}
}

// observe counts what began then and ends now.
func observe(o prometheus.Observer, began time.Time) { o.Observe(time.Since(began).Seconds()) }

// tell gives the durations to who asks for metrics.
func (d *durations) tell(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{d.sandbox, d.status, d.operations} {
		c.Collect(to)
	}
}
