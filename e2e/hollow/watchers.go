package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// Real nodes know all others, to lead to their Pods: each watches all Nodes. That is
// what grows with the square of their number, and what hollow nodes leave out.
const (
	watcherCount  = 100
	watchedWrites = 300
	// statusReport is how often a node writes its Node though nothing is new.
	statusReport = 5 * time.Minute
)

// watchers measures what some more watches of all Nodes cost, and says what as many
// as there are nodes would.
func (t *trial) watchers(ctx context.Context) error {
	if err := sleep(ctx, 10*time.Second); err != nil { // until the restart is over
		return err
	}
	before, err := usage(t.server.Process)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer end()
	var events, bytes atomic.Int64
	for range watcherCount {
		answer, err := t.watchNodes(ctx)
		if err != nil {
			return err
		}
		watching.Go(func() { follow(answer, &events, &bytes) })
	}
	if err := reach(ctx, &bytes); err != nil {
		return err
	}
	initial := bytes.Load()
	with, err := usage(t.server.Process)
	if err != nil {
		return err
	}
	for i := range watchedWrites {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"measured":"%d"}}}`, i)
		_, err := t.server.client.CoreV1().Nodes().Patch(ctx, fmt.Sprintf("hollow-%d", i%t.nodes), types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil {
			return err
		}
	}
	if err := reach(ctx, &bytes); err != nil {
		return err
	}
	after, err := usage(t.server.Process)
	if err != nil {
		return err
	}
	// What the writes cost themselves is measured apart, without watchers.
	end()
	watching.Wait()
	alone, err := t.writesAlone()
	if err != nil {
		return err
	}
	delivered := float64(watcherCount * watchedWrites)
	microseconds := float64((after.CPU - with.CPU - alone).Microseconds()) / delivered
	perEvent := float64(bytes.Load()-initial) / delivered
	t.set("mesh_list_cpu_each_watcher", "ms", float64((with.CPU-before.CPU).Milliseconds())/watcherCount)
	t.set("mesh_list_bytes_each_watcher", "B", float64(initial)/watcherCount)
	t.set("mesh_server_anon_each_watcher", "B", (with.Anon-before.Anon)/watcherCount)
	t.set("mesh_event_cpu", "µs", microseconds)
	t.set("mesh_event_bytes", "B", perEvent)
	rate := float64(t.nodes) * float64(t.nodes) / statusReport.Seconds()
	t.set("mesh_all_nodes_cpu", "%", 100*rate*microseconds/1e6)
	t.set("mesh_all_nodes_bytes_per_second", "B", rate*perEvent)
	return nil
}

// watchNodes opens a watch of all Nodes over a connection of its own.
func (t *trial) watchNodes(ctx context.Context) (*http.Response, error) {
	config := rest.CopyConfig(t.server.config)
	config.Dial = nil
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	web := http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		url+"/api/v1/nodes?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/vnd.kubernetes.protobuf;stream=watch")
	answer, err := web.Do(request)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("watch nodes: %s", answer.Status)
	}
	return answer, err
}

// follow counts what comes.
func follow(answer *http.Response, events, bytes *atomic.Int64) {
	defer answer.Body.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := answer.Body.Read(buffer)
		bytes.Add(int64(n))
		events.Add(1)
		if err != nil {
			return
		}
	}
}

// reach waits until nothing comes any more.
func reach(ctx context.Context, bytes *atomic.Int64) error {
	for last := int64(-1); bytes.Load() != last || last == 0; {
		last = bytes.Load()
		if err := sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// writesAlone returns what the writes cost the server when nobody watches.
func (t *trial) writesAlone() (time.Duration, error) {
	before, err := usage(t.server.Process)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := range watchedWrites {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"measured":"alone-%d"}}}`, i)
		_, err := t.server.client.CoreV1().Nodes().Patch(ctx, fmt.Sprintf("hollow-%d", i%t.nodes), types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil {
			return 0, err
		}
	}
	if err := sleep(ctx, 4*time.Second); err != nil { // as long as reach took
		return 0, err
	}
	after, err := usage(t.server.Process)
	return after.CPU - before.CPU, err
}
