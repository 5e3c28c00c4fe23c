package main

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/e2e/bench/load"
	"github.com/skiff-sh/skiff/e2e/figures"
	"github.com/skiff-sh/skiff/e2e/upstream"
)

const (
	skiffName    = "skiff"
	upstreamName = "upstream"
)

// side is one of the servers that are compared.
type side struct {
	name   string
	server *upstream.Server
	config *rest.Config
	client *kubernetes.Clientset
}

// usage is what all processes of the side use: etcd is upstream's as well.
func (s *side) usage() (figures.Usage, error) {
	return figures.UsageOf(slices.Collect(maps.Values(s.server.PIDs()))...)
}

// namespace makes one, with what admission wants before a Pod is made in it.
func (s *side) namespace(ctx context.Context, name string) error {
	_, err := s.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	_, err = s.client.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// start starts the servers, both without controllers and with their data on one
// disk.
func (b *bench) start(ctx context.Context) error {
	switch {
	case b.before != "":
		theirs, err := upstream.Skiff{Executable: b.before, Dir: b.under(upstreamName)}.Start(ctx)
		if err := b.take(upstreamName, theirs, err); err != nil {
			return err
		}
	case b.apiserver != "":
		theirs, err := upstream.Kubernetes{APIServer: b.apiserver, Etcd: b.etcd, Dir: b.under(upstreamName)}.Start(ctx)
		if err := b.take(upstreamName, theirs, err); err != nil {
			return err
		}
	}
	ours, err := upstream.Skiff{Executable: b.skiff, Dir: b.under(skiffName)}.Start(ctx)
	return b.take(skiffName, ours, err)
}

// under returns a server's directory, "" for one of its own.
func (b *bench) under(name string) string {
	if b.dir == "" {
		return ""
	}
	return filepath.Join(b.dir, name)
}

func (b *bench) take(name string, server *upstream.Server, err error) error {
	if err != nil {
		return err
	}
	s := &side{name: name, server: server, config: server.Config}
	b.sides = append(b.sides, s)
	s.client, err = kubernetes.NewForConfig(load.Own(s.config))
	return err
}

// stop ends the servers.
func (b *bench) stop() error {
	var errs []error
	for _, s := range b.sides {
		errs = append(errs, s.server.Stop())
	}
	return errors.Join(errs...)
}
