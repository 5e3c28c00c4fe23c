package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/skiff-sh/skiff/internal/agent/volume"
)

// defaultPath is the PATH of an image that says none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// objects gives the ConfigMaps and Secrets that Pods refer to.
type objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// environment is where a container's variables come from.
type environment struct {
	Pod       *corev1.Pod // with the status that the downward API shows
	Container *corev1.Container
	Services  map[string]string
	Objects   objects
	Limits    corev1.ResourceList // the node's allocatable: limits where there are none
	Volumes   map[string]string   // the Pod's, by name: where each is on the host

	values map[string]string
	// named holds only what env lists: $(NAME) refers to these and to Services.
	named map[string]string
}

// build returns every variable of the container, sorted by name.
func (e *environment) build(ctx context.Context) (map[string]string, error) {
	e.values, e.named = maps.Clone(e.Services), map[string]string{}
	if e.values == nil {
		e.values = map[string]string{}
	}
	for _, from := range e.Container.EnvFrom {
		if err := e.from(ctx, from); err != nil {
			return nil, err
		}
	}
	for _, v := range e.Container.Env {
		value, ok, err := e.value(ctx, v)
		if err != nil {
			return nil, err
		}
		if ok {
			e.named[v.Name], e.values[v.Name] = value, value
		}
	}
	return e.values, nil
}

func (e *environment) lookup(name string) (string, bool) {
	if v, ok := e.named[name]; ok {
		return v, true
	}
	v, ok := e.Services[name]
	return v, ok
}

func (e *environment) from(ctx context.Context, from corev1.EnvFromSource) error {
	data := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		cm, err := e.Objects.ConfigMap(ctx, e.Pod.Namespace, from.ConfigMapRef.Name)
		if err != nil {
			return optional(from.ConfigMapRef.Optional, err)
		}
		data = cm.Data
	case from.SecretRef != nil:
		secret, err := e.Objects.Secret(ctx, e.Pod.Namespace, from.SecretRef.Name)
		if err != nil {
			return optional(from.SecretRef.Optional, err)
		}
		for k, v := range secret.Data {
			data[k] = string(v)
		}
	}
	for k, v := range data {
		// A key that cannot be a variable's name is left out, as upstream does.
		if name := from.Prefix + k; len(validation.IsRelaxedEnvVarName(name)) == 0 {
			e.values[name] = v
		}
	}
	return nil
}

// value resolves one variable; ok is false where an optional source is missing.
func (e *environment) value(ctx context.Context, v corev1.EnvVar) (value string, ok bool, err error) {
	from := v.ValueFrom
	switch {
	case from == nil:
		return expand(v.Value, e.lookup), true, nil
	case from.FieldRef != nil:
		value, err = volume.Field(e.Pod, from.FieldRef.FieldPath)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err = volume.ResourceField(e.Pod, e.Container, from.ResourceFieldRef, e.Limits)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := e.Objects.ConfigMap(ctx, e.Pod.Namespace, ref.Name)
		if err != nil {
			return "", false, optional(ref.Optional, err)
		}
		value, ok := cm.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, e.Pod.Namespace, ref.Name)
		}
		return value, ok, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		secret, err := e.Objects.Secret(ctx, e.Pod.Namespace, ref.Name)
		if err != nil {
			return "", false, optional(ref.Optional, err)
		}
		data, ok := secret.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, e.Pod.Namespace, ref.Name)
		}
		return string(data), ok, nil
	case from.FileKeyRef != nil:
		return e.fileKey(from.FileKeyRef)
	}
	return "", false, fmt.Errorf("environment variable %s has a source that is not supported", v.Name)
}

func isTrue(b *bool) bool { return b != nil && *b }

// optional drops the error of a missing object that may be missing.
func optional(may *bool, err error) error {
	if isTrue(may) && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// serviceLister lists Services.
type serviceLister func(namespace string) ([]*corev1.Service, error)

func (a *Agent) listServices(namespace string) ([]*corev1.Service, error) {
	return a.Informers.Core().V1().Services().Lister().Services(namespace).List(labels.Everything())
}

// serviceEnv makes the variables that tell a Pod of Services: always of
// default/kubernetes, and of those in its namespace unless the Pod wants none.
func serviceEnv(pod *corev1.Pod, list serviceLister) (map[string]string, error) {
	out := map[string]string{}
	master, err := list(corev1.NamespaceDefault)
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	for _, s := range master {
		if s.Name == "kubernetes" {
			addServiceEnv(out, s)
		}
	}
	if pod.Spec.EnableServiceLinks != nil && !*pod.Spec.EnableServiceLinks {
		return out, nil
	}
	services, err := list(pod.Namespace)
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	slices.SortFunc(services, func(a, b *corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range services {
		addServiceEnv(out, s)
	}
	return out, nil
}

func addServiceEnv(out map[string]string, s *corev1.Service) {
	if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return
	}
	upper := func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
	host, prefix := s.Spec.ClusterIP, upper(s.Name)
	out[prefix+"_SERVICE_HOST"] = host
	out[prefix+"_SERVICE_PORT"] = strconv.Itoa(int(s.Spec.Ports[0].Port))
	address := host
	if strings.Contains(host, ":") {
		address = "[" + host + "]"
	}
	for i, p := range s.Spec.Ports {
		port := strconv.Itoa(int(p.Port))
		if p.Name != "" {
			out[prefix+"_SERVICE_PORT_"+upper(p.Name)] = port
		}
		protocol := string(p.Protocol)
		if protocol == "" {
			protocol = "TCP"
		}
		url := strings.ToLower(protocol) + "://" + address + ":" + port
		if i == 0 {
			out[prefix+"_PORT"] = url
		}
		one := prefix + "_PORT_" + port + "_" + strings.ToUpper(protocol)
		out[one] = url
		out[one+"_PROTO"] = strings.ToLower(protocol)
		out[one+"_PORT"] = port
		out[one+"_ADDR"] = host
	}
}

// environ joins the image's variables with those of the Pod, the latter having
// the last word, in the form the runtime takes.
func environ(image []string, hostname string, tty bool, own map[string]string) []string {
	values, order := map[string]string{}, []string{}
	set := func(k, v string) {
		if _, ok := values[k]; !ok {
			order = append(order, k)
		}
		values[k] = v
	}
	set("PATH", defaultPath)
	for _, kv := range image {
		k, v, _ := strings.Cut(kv, "=")
		set(k, v)
	}
	set("HOSTNAME", hostname)
	if tty {
		set("TERM", "xterm")
	}
	for _, k := range slices.Sorted(maps.Keys(own)) {
		set(k, own[k])
	}
	out := make([]string, 0, len(order))
	for _, k := range order {
		out = append(out, k+"="+values[k])
	}
	return out
}
