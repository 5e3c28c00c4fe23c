package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// server is a skiff server under measurement.
type server struct {
	skiff   string
	dir     string
	process *exec.Cmd
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
	s.process = exec.Command(s.skiff, "server", "--data-dir", s.dir)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	s.process.Stdout, s.process.Stderr = log, log
	s.process.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	s.began = time.Now()
	if err := s.process.Start(); err != nil {
		return 0, err
	}
	if err := s.waitReady(ctx); err != nil {
		return 0, err
	}
	took := time.Since(s.began)
	return took, s.connect()
}

func (s *server) waitReady(ctx context.Context) error {
	web := http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the time matters, not who answers
		DisableKeepAlives: true,
	}}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://127.0.0.1:6443/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := web.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(time.Millisecond)
	}
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return fmt.Errorf("server is not ready after a minute; its log:\n%s", text)
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
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	err := s.process.Wait()
	return time.Since(began), err
}

// remove ends everything of the server and deletes its data.
func (s *server) remove() error {
	out, err := exec.Command(s.skiff, "killall", "--data-dir", s.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("killall: %w: %s", err, out)
	}
	_ = s.process.Wait() // killall has ended it; whether it was waited for before does not matter
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
