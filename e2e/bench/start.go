package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// size measures the executable, and the download: the executable as zstd.
func (b *bench) size(context.Context) error {
	data, err := os.ReadFile(b.skiff)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	b.set("executable_bytes", float64(len(data)))
	b.set("download_bytes", float64(packed.Len()))
	return nil
}

// starts measures cold starts, stops and warm starts.
func (b *bench) starts(ctx context.Context) error {
	var m startTimes
	for range b.runs {
		if err := b.startOnce(ctx, &m); err != nil {
			return err
		}
	}
	b.set("cold_readyz_ms", median(m.coldReadyz))
	b.set("cold_node_ready_ms", median(m.coldNode))
	b.set("cold_pod_ready_ms", median(m.coldPod))
	b.set("stop_ms", median(m.stop))
	b.set("warm_readyz_ms", median(m.warmReadyz))
	b.set("warm_node_ready_ms", median(m.warmNode))
	return nil
}

type startTimes struct {
	coldReadyz, coldNode, coldPod, stop, warmReadyz, warmNode []time.Duration
}

func (b *bench) startOnce(ctx context.Context, m *startTimes) (err error) {
	s, err := b.newServer()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	took, err := s.start(ctx)
	if err != nil {
		return err
	}
	m.coldReadyz = append(m.coldReadyz, took)
	if err := s.createPod(ctx, "first"); err != nil {
		return err
	}
	if err := s.waitNode(ctx); err != nil {
		return err
	}
	m.coldNode = append(m.coldNode, time.Since(s.began))
	if err := s.waitPod(ctx, "first"); err != nil {
		return err
	}
	m.coldPod = append(m.coldPod, time.Since(s.began))
	for range 2 { // once to take up what runs, once more to see that it holds
		if err := b.restartOnce(ctx, s, m); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) restartOnce(ctx context.Context, s *server, m *startTimes) error {
	took, err := s.stop()
	if err != nil {
		return err
	}
	m.stop = append(m.stop, took)
	if took, err = s.start(ctx); err != nil {
		return err
	}
	m.warmReadyz = append(m.warmReadyz, took)
	// The Node was Ready before: what counts is the first word of the new agent.
	err = follow(ctx, s.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Watch, metav1.ListOptions{},
		func(l *coordinationv1.Lease) bool { return l.Spec.RenewTime != nil && l.Spec.RenewTime.After(s.began) })
	if err != nil {
		return err
	}
	if err := s.waitPod(ctx, "first"); err != nil {
		return err
	}
	m.warmNode = append(m.warmNode, time.Since(s.began))
	return nil
}
