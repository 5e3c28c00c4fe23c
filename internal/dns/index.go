package dns

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// The indices in the shared informers that names are looked up by.
const (
	byAddress = "dns/address" // Services by cluster address, EndpointSlices by endpoint
	byService = "dns/service" // EndpointSlices by namespace/name of their Service
)

// index finds the cluster's objects by what questions are about.
type index struct {
	services, slices cache.SharedIndexInformer
}

func (x index) prepare() error {
	err := x.services.AddIndexers(cache.Indexers{byAddress: func(obj any) ([]string, error) {
		s, is := obj.(*corev1.Service)
		if !is || s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone {
			return nil, nil
		}
		return clusterIPs(s), nil
	}})
	if err != nil {
		return fmt.Errorf("index Services by address: %w", err)
	}
	err = x.slices.AddIndexers(cache.Indexers{
		byAddress: func(obj any) ([]string, error) {
			var out []string
			if s, is := obj.(*discoveryv1.EndpointSlice); is && s.AddressType != discoveryv1.AddressTypeFQDN {
				for _, e := range s.Endpoints {
					out = append(out, e.Addresses...)
				}
			}
			return out, nil
		},
		byService: func(obj any) ([]string, error) {
			s, is := obj.(*discoveryv1.EndpointSlice)
			if !is || s.Labels[discoveryv1.LabelServiceName] == "" {
				return nil, nil
			}
			return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}, nil
		},
	})
	if err != nil {
		return fmt.Errorf("index EndpointSlices: %w", err)
	}
	return nil
}

func clusterIPs(s *corev1.Service) []string {
	if len(s.Spec.ClusterIPs) > 0 {
		return s.Spec.ClusterIPs
	}
	if s.Spec.ClusterIP == "" {
		return nil
	}
	return []string{s.Spec.ClusterIP}
}

func (x index) service(namespace, name string) *corev1.Service {
	obj, ok, err := x.services.GetIndexer().GetByKey(namespace + "/" + name)
	if err != nil || !ok {
		return nil
	}
	return obj.(*corev1.Service)
}

func (x index) hasServices(namespace string) bool {
	keys, err := x.services.GetIndexer().IndexKeys(cache.NamespaceIndex, namespace)
	return err == nil && len(keys) > 0
}

func (x index) slicesOf(s *corev1.Service) []*discoveryv1.EndpointSlice {
	return slicesBy(x.slices, byService, s.Namespace+"/"+s.Name)
}

func (x index) slicesWith(a netip.Addr) []*discoveryv1.EndpointSlice {
	return slicesBy(x.slices, byAddress, a.String())
}

func slicesBy(informer cache.SharedIndexInformer, name, value string) []*discoveryv1.EndpointSlice {
	found, err := informer.GetIndexer().ByIndex(name, value)
	if err != nil {
		return nil
	}
	out := make([]*discoveryv1.EndpointSlice, len(found))
	for i, o := range found {
		out[i] = o.(*discoveryv1.EndpointSlice)
	}
	return out
}

func (x index) servicesWith(a netip.Addr) []*corev1.Service {
	found, err := x.services.GetIndexer().ByIndex(byAddress, a.String())
	if err != nil {
		return nil
	}
	out := make([]*corev1.Service, len(found))
	for i, o := range found {
		out[i] = o.(*corev1.Service)
	}
	return out
}
