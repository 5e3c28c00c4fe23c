package join

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// clusterMap is the ConfigMap in kube-system in which the servers tell what is
// the same on every node; see package controller/bootstrap.
const clusterMap = "skiff-cluster"

// askTime is how long a server may take to answer one question.
const askTime = 30 * time.Second

// Cluster is what is the same on every node.
type Cluster struct {
	ClusterCIDRs  []netip.Prefix
	ServiceCIDRs  []netip.Prefix
	ClusterDNS    []netip.Addr
	ClusterDomain string
	Servers       []string // https://HOST:PORT, the likeliest first; there may be none

	data map[string]string // what it was read from
}

// needed are the keys without which a node cannot do.
var needed = []string{"cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain"}

// parseCluster reads the data of the ConfigMap; it keeps them. Lists have commas,
// and keys of later versions are passed over.
func parseCluster(data map[string]string) (c Cluster, err error) {
	var errs [3]error
	c.ClusterCIDRs, errs[0] = parseList(data, "cluster-cidr", netip.ParsePrefix)
	c.ServiceCIDRs, errs[1] = parseList(data, "service-cidr", netip.ParsePrefix)
	c.ClusterDNS, errs[2] = parseList(data, "cluster-dns", netip.ParseAddr)
	c.ClusterDomain = data["cluster-domain"]
	c.Servers, _ = parseList(data, "servers", func(s string) (string, error) { return s, nil })
	c.data = data
	all := errs[:]
	for _, key := range needed {
		if data[key] == "" {
			all = append(all, fmt.Errorf("%s is missing", key))
		}
	}
	if err := errors.Join(all...); err != nil {
		return Cluster{}, fmt.Errorf("settings of the cluster: %w", err)
	}
	return c, nil
}

func parseList[T any](data map[string]string, key string, parse func(string) (T, error)) ([]T, error) {
	var list []T
	for text := range strings.SplitSeq(data[key], ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		one, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		list = append(list, one)
	}
	return list, nil
}

// concerns says whether a node that runs with c has to know of other.
func (c Cluster) concerns(other Cluster) bool {
	for _, key := range needed {
		if c.data[key] != other.data[key] {
			return true
		}
	}
	return false
}

// askCluster reads it from the servers.
func askCluster(ctx context.Context, client kubernetes.Interface) (Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	found, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, clusterMap, metav1.GetOptions{})
	if err != nil {
		return Cluster{}, explainToNode(err)
	}
	c, err := parseCluster(found.Data)
	if err != nil {
		return Cluster{}, &Problem{What: err, Do: "look at the ConfigMap kube-system/" + clusterMap + "; the server writes it when it starts", Waits: true}
	}
	return c, nil
}

// FollowCluster keeps the cluster's settings as they change, for the next start,
// until the context ends. It returns a *Problem when the servers say that the
// node's name is another machine's by now.
func (m *Membership) FollowCluster(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(m.client, 0,
		informers.WithNamespace(metav1.NamespaceSystem),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, clusterMap).String()
		}))
	informer := factory.Core().V1().ConfigMaps().Informer()
	kept := m.Cluster
	note := func(obj any) { kept = m.note(kept, obj.(*corev1.ConfigMap).Data) }
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    note,
		UpdateFunc: func(_, obj any) { note(obj) },
	})
	replaced := make(chan error, 1)
	err = errors.Join(err, informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		p := new(Problem)
		if !errors.As(explainToNode(err), &p) || !p.Replaced {
			m.log.Debug("cluster's settings not followed; trying again", zap.Error(err))
			return
		}
		select {
		case replaced <- p:
		default:
		}
	}))
	if err != nil {
		return fmt.Errorf("follow the cluster's settings: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer factory.Shutdown()
	defer stop()
	factory.StartWithContext(ctx)
	select {
	case <-ctx.Done():
		return nil
	case err := <-replaced:
		return err
	}
}

// note keeps settings that are new, and returns those that are kept.
func (m *Membership) note(kept Cluster, data map[string]string) Cluster {
	if maps.Equal(data, kept.data) {
		return kept
	}
	c, err := parseCluster(data)
	if err == nil {
		m.Uplink.Learn(c.Servers)
		err = m.keep.writeCluster(c)
	}
	if err != nil {
		m.log.Warn("settings of the cluster not kept", zap.Error(err))
		return kept
	}
	if kept.concerns(c) {
		m.log.Warn("settings of the cluster have changed: restart this agent, its Pods stay", zap.Any("settings", data))
	}
	return c
}
