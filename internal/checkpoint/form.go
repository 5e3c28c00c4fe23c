package checkpoint

import (
	"fmt"
	"hash/fnv"

	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// form is what is remembered of one object.
type form struct {
	name     string // namespace/name
	revision string
	data     []byte // protobuf
	// sum is of the data, but for the revision: two forms with the same sum say
	// the same.
	sum uint64
	// core is of that part which is to be on disk at once. The rest may be
	// written later: what a Pod says of itself as long as it runs.
	core uint64
}

// formOf makes the form of an object that a server sent: without field managers,
// and without what of a Node changes all the time and says nothing.
func formOf(object runtime.Unknown) (form, error) {
	switch object.APIVersion + "/" + object.Kind {
	case "v1/Pod":
		return podForm(object.Raw)
	case "v1/Node":
		return nodeForm(object.Raw)
	}
	o := anything{}
	if err := o.Unmarshal(object.Raw); err != nil {
		return form{}, fmt.Errorf("read %s: %w", object.Kind, err)
	}
	return makeForm(&o, &o.meta, func() {})
}

// message is what is sent as protobuf.
type message interface{ Marshal() ([]byte, error) }

// makeForm makes the form of an object; reduce leaves only its core.
func makeForm(object message, meta *metav1.ObjectMeta, reduce func()) (f form, err error) {
	meta.ManagedFields = nil
	f = form{name: meta.Namespace + "/" + meta.Name, revision: meta.ResourceVersion}
	if f.data, err = object.Marshal(); err != nil {
		return f, err
	}
	meta.ResourceVersion = ""
	if f.sum, err = sumOf(object); err != nil {
		return f, err
	}
	reduce()
	f.core, err = sumOf(object)
	return f, err
}

func sumOf(object message) (uint64, error) {
	data, err := object.Marshal()
	h := fnv.New64a()
	h.Write(data)
	return h.Sum64(), err
}

func podForm(raw []byte) (form, error) {
	var pod corev1.Pod
	if err := pod.Unmarshal(raw); err != nil {
		return form{}, fmt.Errorf("read Pod: %w", err)
	}
	return makeForm(&pod, &pod.ObjectMeta, func() { pod.Status = coreStatus(&pod) })
}

// coreStatus is what of a Pod's status decides what is done after the power came
// back: its end, its addresses, and where containers do not start again whatever
// became of them, what did.
func coreStatus(pod *corev1.Pod) corev1.PodStatus {
	s := corev1.PodStatus{Phase: pod.Status.Phase, StartTime: pod.Status.StartTime, PodIPs: pod.Status.PodIPs}
	if pod.Spec.RestartPolicy == corev1.RestartPolicyAlways {
		return s
	}
	for _, c := range pod.Status.ContainerStatuses {
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, State: c.State})
	}
	for _, c := range pod.Status.InitContainerStatuses {
		s.InitContainerStatuses = append(s.InitContainerStatuses, corev1.ContainerStatus{Name: c.Name, State: c.State})
	}
	return s
}

func nodeForm(raw []byte) (form, error) {
	var node corev1.Node
	if err := node.Unmarshal(raw); err != nil {
		return form{}, fmt.Errorf("read Node: %w", err)
	}
	node.Status.Images = nil
	for i := range node.Status.Conditions {
		node.Status.Conditions[i].LastHeartbeatTime = metav1.Time{}
	}
	return makeForm(&node, &node.ObjectMeta, func() {
		node.Status = corev1.NodeStatus{Addresses: node.Status.Addresses}
	})
}

// anything is an object of any kind, taken apart into its metadata and the rest.
type anything struct {
	meta metav1.ObjectMeta
	rest []byte
}

// metadataField is the number of the metadata in every kind.
const metadataField = 1

func (o *anything) Unmarshal(raw []byte) error {
	for len(raw) > 0 {
		number, kind, tag := protowire.ConsumeTag(raw)
		if tag < 0 {
			return protowire.ParseError(tag)
		}
		value := protowire.ConsumeFieldValue(number, kind, raw[tag:])
		if value < 0 {
			return protowire.ParseError(value)
		}
		if number == metadataField && kind == protowire.BytesType {
			text, _ := protowire.ConsumeBytes(raw[tag:])
			if err := o.meta.Unmarshal(text); err != nil {
				return fmt.Errorf("metadata: %w", err)
			}
		} else {
			o.rest = append(o.rest, raw[:tag+value]...)
		}
		raw = raw[tag+value:]
	}
	return nil
}

func (o *anything) Marshal() ([]byte, error) {
	text, err := o.meta.Marshal()
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(text)+len(o.rest)+8)
	out = protowire.AppendTag(out, metadataField, protowire.BytesType)
	out = protowire.AppendBytes(out, text)
	return append(out, o.rest...), nil
}
