package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/e2e/process"
)

// server is a skiff server under measurement.
type server struct {
	skiff   string
	dir     string
	process *process.Process
	began   time.Time
	config  *rest.Config
	client  *kubernetes.Clientset
}

// newServer prepares a server with an empty data directory.
func (b *bench) newServer() (*server, error) {
	dir, err := os.MkdirTemp("", "skiff-bench-")
	if err != nil {
		return nil, err
	}
	return &server{skiff: b.skiff, dir: dir}, nil
}

// start starts the process and returns how long it took until /readyz.
func (s *server) start(ctx context.Context) (time.Duration, error) {
	s.began = time.Now()
	var err error
	if s.process, err = process.Start(exec.Command(s.skiff, "server", "--data-dir", s.dir), filepath.Join(s.dir, "log")); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.process.Ready(ctx, process.Anyone(), "https://127.0.0.1:6443/readyz"); err != nil {
		return 0, err
	}
	took := time.Since(s.began)
	return took, s.connect()
}

func (s *server) connect() (err error) {
	s.config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(s.dir, "kubeconfig.yaml"))
	if err != nil {
		return err
	}
	s.config.QPS = -1
	s.client, err = kubernetes.NewForConfig(s.config)
	return err
}

// stop asks the process to end and returns how long that took.
func (s *server) stop() (time.Duration, error) {
	began := time.Now()
	err := s.process.Stop()
	return time.Since(began), err
}

// remove ends everything of the server and deletes its data.
func (s *server) remove() error {
	out, err := exec.Command(s.skiff, "killall", "--data-dir", s.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("killall: %w: %s", err, out)
	}
	s.process.Kill() // killall has ended it
	return os.RemoveAll(s.dir)
}

// waitNode waits until the node is Ready.
func (s *server) waitNode(ctx context.Context) error {
	return follow(ctx, s.client.CoreV1().Nodes().Watch, metav1.ListOptions{}, func(node *corev1.Node) bool {
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	})
}

// follow watches until done says so of an object.
func follow[T any](ctx context.Context, open func(context.Context, metav1.ListOptions) (watch.Interface, error),
	options metav1.ListOptions, done func(T) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	w, err := open(ctx, options)
	if err != nil {
		return err
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if obj, ok := e.Object.(T); ok && e.Type != watch.Deleted && done(obj) {
			return nil
		}
	}
	return errors.New("the watch ended before what it waited for happened")
}
