package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skiff-sh/skiff/embed"
)

const namespace = metav1.NamespaceDefault

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(1)),
		Containers: []corev1.Container{{
			Name: "hello", Image: embed.HelloImage, ImagePullPolicy: corev1.PullIfNotPresent,
			Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
		}},
	}
}

func (s *server) createPod(ctx context.Context, name string) error {
	_, err := s.client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec:       podSpec(),
	}, metav1.CreateOptions{})
	return err
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (s *server) waitPod(ctx context.Context, name string) error {
	return follow(ctx, s.client.CoreV1().Pods(namespace).Watch,
		metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}, podReady)
}

// withServer runs fn with a server whose node is Ready.
func (b *bench) withServer(ctx context.Context, fn func(*server) error) (err error) {
	s, err := b.newServer()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	if _, err := s.start(ctx); err != nil {
		return err
	}
	if err := s.waitNode(ctx); err != nil {
		return err
	}
	return fn(s)
}

// pods measures how long Pods take to be Ready, alone and together, and beside
// them what the machine takes for the same without Kubernetes.
func (b *bench) pods(ctx context.Context) error {
	return b.withServer(ctx, func(s *server) error {
		if err := b.podsAlone(ctx, s); err != nil {
			return err
		}
		if err := s.deleteAll(ctx, labels.Everything()); err != nil {
			return err
		}
		for _, n := range []int{30, 100} {
			if err := b.podsTogether(ctx, s, n); err != nil {
				return err
			}
		}
		return b.deployments(ctx, s)
	})
}

// deployments measures Deployments of thirty that come and go.
func (b *bench) deployments(ctx context.Context, s *server) error {
	var ready, gone []time.Duration
	for range b.runs {
		r, g, err := s.thirty(ctx)
		if err != nil {
			return err
		}
		ready, gone = append(ready, r), append(gone, g)
	}
	b.set("deployment30_ready_ms", median(ready))
	b.set("deployment30_gone_ms", median(gone))
	return nil
}

// deleteAll deletes Pods and waits until they are gone.
func (s *server) deleteAll(ctx context.Context, which labels.Selector) error {
	options := metav1.ListOptions{LabelSelector: which.String()}
	if err := s.client.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, options); err != nil {
		return err
	}
	return s.waitGone(ctx, which)
}

func (s *server) waitGone(ctx context.Context, which labels.Selector) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	list, err := s.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: which.String()})
	if err != nil || len(list.Items) == 0 {
		return err
	}
	left := len(list.Items)
	w, err := s.client.CoreV1().Pods(namespace).Watch(ctx,
		metav1.ListOptions{LabelSelector: which.String(), ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		switch e.Type {
		case watch.Added:
			left++
		case watch.Deleted:
			left--
		}
		if left == 0 {
			return nil
		}
	}
	return fmt.Errorf("%d Pods are left", left)
}

func (s *server) thirty(ctx context.Context) (ready, gone time.Duration, err error) {
	selector := map[string]string{"app": "thirty"}
	began := time.Now()
	_, err = s.client.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "thirty"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(30)),
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: selector}, Spec: podSpec()},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return 0, 0, err
	}
	err = follow(ctx, s.client.AppsV1().Deployments(namespace).Watch, metav1.ListOptions{},
		func(d *appsv1.Deployment) bool { return d.Status.AvailableReplicas == 30 })
	if err != nil {
		return 0, 0, err
	}
	ready = time.Since(began)
	began = time.Now()
	if err := s.client.AppsV1().Deployments(namespace).Delete(ctx, "thirty", metav1.DeleteOptions{}); err != nil {
		return 0, 0, err
	}
	if err := s.waitGone(ctx, labels.SelectorFromSet(selector)); err != nil {
		return 0, 0, err
	}
	return ready, time.Since(began), nil
}

// services measures the time from a Pod's Ready, as a client sees it, to the
// first connection through its Service.
func (b *bench) services(ctx context.Context) error {
	return b.withServer(ctx, func(s *server) error {
		var took []time.Duration
		for i := range 10 {
			d, err := s.serviceReady(ctx, fmt.Sprintf("svc-%d", i))
			if err != nil {
				return err
			}
			took = append(took, d)
		}
		b.set("service_ready_p50_ms", median(took))
		return nil
	})
}

func (s *server) serviceReady(ctx context.Context, name string) (time.Duration, error) {
	svc, err := s.client.CoreV1().Services(namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return 0, err
	}
	if err := s.createPod(ctx, name); err != nil {
		return 0, err
	}
	if err := s.waitPod(ctx, name); err != nil {
		return 0, err
	}
	began := time.Now()
	dialer := net.Dialer{Timeout: 100 * time.Millisecond}
	for time.Since(began) < 10*time.Second {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(svc.Spec.ClusterIP, "80"))
		if err == nil {
			return time.Since(began), conn.Close()
		}
		time.Sleep(100 * time.Microsecond)
	}
	return 0, fmt.Errorf("no connection through Service %s", name)
}
