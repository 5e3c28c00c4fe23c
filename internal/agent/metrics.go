package agent

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
)

// What is told at /metrics, /metrics/resource and /metrics/cadvisor has upstream's
// names. It is read when somebody asks, and nothing is kept.

// scrape collects metrics by a function.
type scrape func(*prometheusSink)

// Describe implements prometheus.Collector: what comes is not known before.
func (scrape) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s scrape) Collect(to chan<- prometheus.Metric) { s(&prometheusSink{to: to}) }

// prometheusSink takes metrics, with the time when they were read where that is set.
type prometheusSink struct {
	to chan<- prometheus.Metric
	at time.Time
}

// pairs are pairs of name and value.
type pairs []string

func (p *prometheusSink) add(kind prometheus.ValueType, name, help string, value float64, l pairs) {
	var names, values []string
	for i := 0; i+1 < len(l); i += 2 {
		names, values = append(names, l[i]), append(values, l[i+1])
	}
	m := prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...)
	if !p.at.IsZero() {
		m = prometheus.NewMetricWithTimestamp(p.at, m)
	}
	p.to <- m
}

func (p *prometheusSink) gauge(name, help string, value float64, l ...string) {
	p.add(prometheus.GaugeValue, name, help, value, l)
}

func (p *prometheusSink) counter(name, help string, value float64, l ...string) {
	p.add(prometheus.CounterValue, name, help, value, l)
}

// serveMetrics answers with what the collectors tell.
func (a *Agent) serveMetrics(w http.ResponseWriter, r *http.Request, all ...prometheus.Collector) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(all...)
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: zap.NewStdLog(a.log), ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(w, r)
}

// serveOwnMetrics answers /metrics: the agent's own.
func (a *Agent) serveOwnMetrics(w http.ResponseWriter, r *http.Request) {
	a.serveMetrics(w, r, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		scrape(func(p *prometheusSink) {
			p.gauge("kubelet_node_name", "The node's name. The count is always 1.", 1, "node", a.NodeName)
			p.gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox", float64(len(a.allWorkers())))
			for state, n := range a.containersByState() {
				p.gauge("kubelet_running_containers", "Number of containers currently running", float64(n), "container_state", state)
			}
			a.durations.tell(p.to)
			p.counter("skiff_agent_panics_total", "How often a Pod's worker or a request panicked and went on.", float64(a.panics.Load()))
		}))
}

// serveResource answers /metrics/resource, which metrics-server reads.
func (a *Agent) serveResource(w http.ResponseWriter, r *http.Request) {
	s := a.stats()
	a.serveMetrics(w, r, scrape(func(p *prometheusSink) { resourceMetrics(s, p) }))
}

func resourceMetrics(s nodeStats, p *prometheusSink) {
	p.gauge("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", 0)
	p.at = s.Time
	p.counter("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", s.Usage.CPU.Seconds())
	p.gauge("node_memory_working_set_bytes", "Current working set of the node in bytes", float64(s.Usage.WorkingSet))
	p.gauge("node_swap_usage_bytes", "Current swap usage of the node in bytes. Reported only on non-windows systems", float64(s.Usage.Swap))
	for _, pod := range s.Pods {
		of := pairs{"namespace", pod.Namespace, "pod", pod.Name}
		p.counter("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", pod.Usage.CPU.Seconds(), of...)
		p.gauge("pod_memory_working_set_bytes", "Current working set of the pod in bytes", float64(pod.Usage.WorkingSet), of...)
		p.gauge("pod_swap_usage_bytes", "Current amount of the pod swap usage in bytes. Reported only on non-windows systems", float64(pod.Usage.Swap), of...)
		for _, c := range pod.Containers {
			of := pairs{"container", c.Name, "namespace", pod.Namespace, "pod", pod.Name}
			p.counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", c.Usage.CPU.Seconds(), of...)
			p.gauge("container_memory_working_set_bytes", "Current working set of the container in bytes", float64(c.Usage.WorkingSet), of...)
			p.gauge("container_swap_usage_bytes", "Current amount of the container swap usage in bytes. Reported only on non-windows systems", float64(c.Usage.Swap), of...)
			p.gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds", seconds(c.Start), of...)
		}
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / float64(time.Second) }

// serveCadvisor answers /metrics/cadvisor.
func (a *Agent) serveCadvisor(w http.ResponseWriter, r *http.Request) {
	s := a.stats()
	a.serveMetrics(w, r, scrape(func(p *prometheusSink) { cadvisorMetrics(s, a.machine, p) }))
}

func cadvisorMetrics(s nodeStats, m Description, p *prometheusSink) {
	p.gauge("machine_cpu_cores", "Number of logical CPU cores.", float64(s.Cores),
		"boot_id", m.Info.BootID, "machine_id", m.Info.MachineID, "system_uuid", m.Info.SystemUUID)
	p.gauge("machine_memory_bytes", "Amount of memory installed on the machine.", float64(m.memory()),
		"boot_id", m.Info.BootID, "machine_id", m.Info.MachineID, "system_uuid", m.Info.SystemUUID)
	p.gauge("cadvisor_version_info", "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.", 1,
		"kernelVersion", m.Info.KernelVersion, "osVersion", m.Info.OSImage)
	p.at = s.Time
	cgroupMetrics(s.Usage, s.Boot, s.Time, p, identity("", "/", "", "", "", ""))
	networkMetrics(s.Links, p, identity("", "/", "", "", "", ""))
	for _, pod := range s.Pods {
		of := identity("", pod.Path, "", "", pod.Namespace, pod.Name)
		cgroupMetrics(pod.Usage, pod.Start, s.Time, p, of)
		networkMetrics(pod.Links, p, of)
		for _, c := range pod.Containers {
			cgroupMetrics(c.Usage, c.Start, s.Time, p, identity(c.Name, c.Path, c.Image, c.ID, pod.Namespace, pod.Name))
		}
	}
}

// identity are the pairs by which cgroups are known.
func identity(container, path, image, name, namespace, pod string) pairs {
	return pairs{"container", container, "id", path, "image", image, "name", name, "namespace", namespace, "pod", pod}
}

func cgroupMetrics(u cgroup.Usage, start, now time.Time, p *prometheusSink, of pairs) {
	with := func(more ...string) pairs { return append(append(pairs{}, of...), more...) }
	p.counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", u.CPU.Seconds(), with("cpu", "total")...)
	p.gauge("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", float64(u.Memory), of...)
	p.gauge("container_memory_working_set_bytes", "Current working set in bytes.", float64(u.WorkingSet), of...)
	p.gauge("container_memory_rss", "Size of RSS in bytes.", float64(u.RSS), of...)
	p.gauge("container_memory_cache", "Number of bytes of page cache memory.", float64(u.Cache), of...)
	p.gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.", float64(u.Mapped), of...)
	p.gauge("container_memory_swap", "Container swap usage in bytes.", float64(u.Swap), of...)
	for kind, n := range map[string]uint64{"pgfault": u.Faults, "pgmajfault": u.MajorFaults} {
		p.counter("container_memory_failures_total", "Cumulative count of memory allocation failures.", float64(n), with("failure_type", kind, "scope", "container")...)
	}
	p.gauge("container_processes", "Number of processes running inside the container.", float64(u.Processes), of...)
	p.gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", seconds(start), of...)
	p.gauge("container_last_seen", "Last time a container was seen by the exporter", float64(now.Unix()), of...)
	p.gauge("container_spec_memory_limit_bytes", "Memory limit for the container.", float64(u.MemoryLimit), of...)
	p.gauge("container_spec_cpu_shares", "CPU share of the container.", float64(u.CPUShares), of...)
	if u.CPUQuota > 0 {
		p.gauge("container_spec_cpu_quota", "CPU quota of the container.", float64(u.CPUQuota), of...)
		p.gauge("container_spec_cpu_period", "CPU period of the container.", float64(u.CPUPeriod), of...)
		p.counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", float64(u.Periods), of...)
		p.counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", float64(u.Throttled), of...)
		p.counter("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", u.ThrottledTime.Seconds(), of...)
	}
}

func networkMetrics(links []linkStats, p *prometheusSink, of pairs) {
	for _, l := range links {
		of := append(append(pairs{}, of...), "interface", l.Name)
		for _, m := range []struct {
			name, help string
			value      uint64
		}{
			{"receive_bytes", "Cumulative count of bytes received", l.ReceivedBytes},
			{"receive_packets", "Cumulative count of packets received", l.ReceivedPackets},
			{"receive_errors", "Cumulative count of errors encountered while receiving", l.ReceiveErrors},
			{"receive_packets_dropped", "Cumulative count of packets dropped while receiving", l.ReceiveDrops},
			{"transmit_bytes", "Cumulative count of bytes transmitted", l.SentBytes},
			{"transmit_packets", "Cumulative count of packets transmitted", l.SentPackets},
			{"transmit_errors", "Cumulative count of errors encountered while transmitting", l.SendErrors},
			{"transmit_packets_dropped", "Cumulative count of packets dropped while transmitting", l.SendDrops},
		} {
			p.counter("container_network_"+m.name+"_total", m.help, float64(m.value), of...)
		}
	}
}
