package bootstrap

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
)

// Config is what the objects say of this cluster.
type Config struct {
	ServiceAddresses []netip.Addr // of default/kubernetes
	DNSAddresses     []netip.Addr // of kube-system/kube-dns
	Port             uint16       // of the API
	ClientCA         []byte       // PEM
	FrontProxyCA     []byte       // PEM
	FrontProxyNames  []string
	Node             string // the server's own, "" if it has none

	// What every node of the cluster has to know.
	ClusterCIDRs, ServiceCIDRs []netip.Prefix
	ClusterDomain              string
	Version                    string

	// Where the API is now: its address, and all URLs under which it may be
	// reached, the likeliest first. It is asked again when the server's own Node
	// changes.
	Address func() netip.Addr
	Servers func() []string
}

// wanted is an object that must exist. adopt carries over what must be true
// from a fresh one; where it is nil, whatever exists does.
type wanted struct {
	kind  *kind.Kind
	make  func() kind.Object
	adopt func(have, fresh kind.Object)
}

// objects returns what must exist, in the order in which it can be made.
func objects(c Config) []wanted {
	var list []wanted
	for _, name := range []string{metav1.NamespaceSystem, metav1.NamespaceDefault, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		list = append(list, wanted{kind: kind.Namespace, make: func() kind.Object {
			return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		}})
	}
	list = append(list,
		priorityClass("system-node-critical", 2000001000, "Used for system critical pods that must not be moved from their current node."),
		priorityClass("system-cluster-critical", 2000000000, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
		wanted{kind: kind.Service, make: c.apiService},
		wanted{kind: kind.Service, make: c.dnsService},
		wanted{kind: kind.Endpoints, make: c.endpoints, adopt: func(have, fresh kind.Object) {
			have.(*corev1.Endpoints).Subsets = fresh.(*corev1.Endpoints).Subsets
		}},
		wanted{kind: kind.EndpointSlice, make: c.endpointSlice, adopt: func(have, fresh kind.Object) {
			h, f := have.(*discoveryv1.EndpointSlice), fresh.(*discoveryv1.EndpointSlice)
			h.Endpoints, h.Ports = f.Endpoints, f.Ports
		}},
		wanted{kind: kind.ConfigMap, make: c.authentication, adopt: adoptData},
		wanted{kind: kind.ConfigMap, make: c.settings, adopt: adoptData},
	)
	return list
}

func adoptData(have, fresh kind.Object) {
	have.(*corev1.ConfigMap).Data = fresh.(*corev1.ConfigMap).Data
}

func priorityClass(name string, value int32, description string) wanted {
	return wanted{kind: kind.PriorityClass, make: func() kind.Object {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, Description: description}
	}}
}

func texts[T fmt.Stringer](values []T) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = v.String()
	}
	return list
}

func (c Config) apiService() kind.Object {
	ips := texts(c.ServiceAddresses)
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ips[0], ClusterIPs: ips,
			Ports: []corev1.ServicePort{{
				Name: "https", Protocol: corev1.ProtocolTCP, Port: 443,
				TargetPort: intstr.FromInt32(int32(c.Port)),
			}},
		},
	}
}

// dnsService has no selector: every node answers at its address itself.
func (c Config) dnsService() kind.Object {
	ips := texts(c.DNSAddresses)
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kube-dns", Namespace: metav1.NamespaceSystem,
			Labels: map[string]string{
				"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "skiff-dns",
			},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ips[0], ClusterIPs: ips,
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
			},
		},
	}
}

func (c Config) endpoints() kind.Object {
	return &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"},
		},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: c.Address().String()}},
			Ports:     []corev1.EndpointPort{{Name: "https", Port: int32(c.Port), Protocol: corev1.ProtocolTCP}},
		}},
	}
}

func (c Config) endpointSlice() kind.Object {
	address, addressType := c.Address(), discoveryv1.AddressTypeIPv4
	if address.Is6() {
		addressType = discoveryv1.AddressTypeIPv6
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"},
		},
		AddressType: addressType,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{address.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		}},
		Ports: []discoveryv1.EndpointPort{{
			Name: new("https"), Port: new(int32(c.Port)), Protocol: new(corev1.ProtocolTCP),
		}},
	}
}

// authentication is how an aggregated API server learns whom to trust.
func (c Config) authentication() kind.Object {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "extension-apiserver-authentication", Namespace: metav1.NamespaceSystem},
		Data: map[string]string{
			"client-ca-file":                     string(c.ClientCA),
			"requestheader-client-ca-file":       string(c.FrontProxyCA),
			"requestheader-allowed-names":        list(c.FrontProxyNames...),
			"requestheader-username-headers":     list("X-Remote-User"),
			"requestheader-group-headers":        list("X-Remote-Group"),
			"requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
		},
	}
}

// settings is how nodes, and machines that want to become one, learn what is the
// same for the whole cluster. The keys are those of the server's settings; lists
// have commas.
func (c Config) settings() kind.Object {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: auth.ClusterSettings, Namespace: metav1.NamespaceSystem},
		Data: map[string]string{
			"cluster-cidr":   strings.Join(texts(c.ClusterCIDRs), ","),
			"service-cidr":   strings.Join(texts(c.ServiceCIDRs), ","),
			"cluster-dns":    strings.Join(texts(c.DNSAddresses), ","),
			"cluster-domain": c.ClusterDomain,
			"servers":        strings.Join(c.Servers(), ","),
			"version":        c.Version,
		},
	}
}

func list(items ...string) string {
	encoded, err := json.Marshal(items)
	if err != nil {
		panic(err) // a list of texts can always be encoded
	}
	return string(encoded)
}
