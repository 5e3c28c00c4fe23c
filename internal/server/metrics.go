package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// metrics are what the server tells at /metrics. What others count already is
// read when somebody asks; only what has a distribution is noted as it happens.
type metrics struct {
	registry *prometheus.Registry
	latency  prometheus.Histogram
	batch    prometheus.Histogram
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "skiff_store_commit_duration_seconds",
			Help:    "How long transactions of the store took to write and sync.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14), // to 4 s
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "skiff_store_commit_operations",
			Help:    "How many records a transaction of the store put and deleted.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 7), // to 4,096
		}),
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.latency, m.batch,
	)
	return m
}

// observe notes a transaction of the store.
func (m *metrics) observe(t bolt.Transaction) {
	m.latency.Observe(t.Took.Seconds())
	m.batch.Observe(float64(t.Operations))
}

// count adds a counter that another part keeps.
func (m *metrics) count(name, help string, value func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
		func() float64 { return float64(value()) }))
}

// gauge adds a figure that another part keeps.
func (m *metrics) gauge(name, help string, value func() int64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
		func() float64 { return float64(value()) }))
}

// follow adds the figures of an engine.
func (m *metrics) follow(engine store.Engine) {
	m.registry.MustRegister(storeCollector{engine})
}

// handler serves the metrics in the formats of Prometheus.
func (m *metrics) handler(log *zap.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: zap.NewStdLog(log)})
}

// storeCollector reads an engine's figures.
type storeCollector struct{ engine store.Engine }

// storeMetric is one of them.
type storeMetric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(store.Stats) int64
}

func (c storeCollector) metrics() []storeMetric {
	return []storeMetric{
		{"file_bytes", "Size of the store's file.", prometheus.GaugeValue, func(s store.Stats) int64 { return s.FileBytes }},
		{"free_bytes", "Room within the store's file.", prometheus.GaugeValue, func(s store.Stats) int64 { return s.FreeBytes }},
		{"lazy_bytes", "What was written lazily and is not on disk yet.", prometheus.GaugeValue, func(s store.Stats) int64 { return s.LazyBytes }},
		{"written_bytes_total", "What the store wrote to its file.", prometheus.CounterValue, func(s store.Stats) int64 { return s.WrittenBytes }},
		{"commits_total", "Transactions of the store.", prometheus.CounterValue, func(s store.Stats) int64 { return s.Commits }},
		{"operations_total", "Records put and deleted.", prometheus.CounterValue, func(s store.Stats) int64 { return s.Operations }},
		{"syncs_total", "How often the store waited for the disk to sync.", prometheus.CounterValue, func(s store.Stats) int64 { return s.Syncs }},
		{"compactions_total", "How often the store's file was compacted.", prometheus.CounterValue, func(s store.Stats) int64 { return s.Compactions }},
	}
}

func (m storeMetric) describe() *prometheus.Desc {
	return prometheus.NewDesc("skiff_store_"+m.name, m.help, nil, nil)
}

// Describe implements prometheus.Collector.
func (c storeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.metrics() {
		out <- m.describe()
	}
}

// Collect implements prometheus.Collector.
func (c storeCollector) Collect(out chan<- prometheus.Metric) {
	stats := c.engine.Stats()
	for _, m := range c.metrics() {
		out <- prometheus.MustNewConstMetric(m.describe(), m.kind, float64(m.value(stats)))
	}
}
