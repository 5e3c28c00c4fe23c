package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skiff-sh/skiff/e2e/bench/load"
)

// podRounds are few: upstream takes half a minute to delete ten thousand Pods.
const podRounds = 3

// deletePatience is how long their deletion may take on a machine that does other
// things as well.
const deletePatience = 3 * time.Minute

// manyPods measures Pods being made by 8 and by 24 clients, and all of them being
// deleted at once.
func (b *bench) manyPods(ctx context.Context) error {
	for round := range min(podRounds, b.rounds) {
		for _, s := range b.sides {
			if err := b.podRound(ctx, s, fmt.Sprintf("pods-%d", round)); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

func (b *bench) podRound(ctx context.Context, s *side, namespace string) error {
	if err := s.namespace(ctx, namespace); err != nil {
		return err
	}
	clients, err := load.Clients(ctx, s.config, 24)
	if err != nil {
		return err
	}
	made := 0
	for _, n := range []int{8, 24} {
		err := b.measure(s, fmt.Sprintf("pod_create_%d", n), func() (load.Outcome, error) {
			o, err := postPods(ctx, clients[:n], namespace, b.spell, b.pods)
			made += len(o.Took)
			return o, err
		})
		if err != nil {
			return err
		}
	}
	if _, err := postPods(ctx, clients, namespace, time.Hour, b.pods-made); err != nil {
		return err
	}
	u, err := s.usage()
	if err != nil {
		return err
	}
	b.results.addUsage(s, "pods_10000", u)
	return b.measure(s, "pod_deletecollection", func() (load.Outcome, error) {
		return load.Run(ctx, 1, time.Hour, func(ctx context.Context, _, n int) error {
			if n > 0 {
				return load.ErrDone
			}
			return s.deletePods(ctx, namespace)
		})
	})
}

// deletePods deletes all Pods of a namespace, with as many requests as that takes:
// upstream's server ends one after a minute.
func (s *side) deletePods(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, deletePatience)
	defer cancel()
	pods := s.client.CoreV1().Pods(namespace)
	for {
		err := pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		if err == nil || ctx.Err() != nil {
			return err
		}
		left, failed := pods.List(ctx, metav1.ListOptions{Limit: 1})
		if failed != nil || len(left.Items) == 0 {
			return failed
		}
	}
}

// postPods makes Pods until the spell is over or there are so many.
func postPods(ctx context.Context, clients []*kubernetes.Clientset, namespace string, spell time.Duration, most int) (load.Outcome, error) {
	each := (most + len(clients) - 1) / len(clients)
	return load.Run(ctx, len(clients), spell, func(ctx context.Context, client, n int) error {
		if n >= each {
			return load.ErrDone
		}
		_, err := clients[client].CoreV1().Pods(namespace).Create(ctx, pod(), metav1.CreateOptions{})
		return err
	})
}

// pod returns an ordinary one that no scheduler looks at.
func pod() *corev1.Pod {
	amount := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi")}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-", Labels: map[string]string{"app": "bench"}},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody",
			Containers: []corev1.Container{{
				Name: "hello", Image: "registry.example/hello:1",
				Command:   []string{"/hello", "--listen", ":8080"},
				Env:       []corev1.EnvVar{{Name: "GREETING", Value: "hello"}},
				Ports:     []corev1.ContainerPort{{ContainerPort: 8080}},
				Resources: corev1.ResourceRequirements{Requests: amount, Limits: amount},
				ReadinessProbe: &corev1.Probe{
					ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/hello", "--check"}}},
				},
			}},
		},
	}
}
