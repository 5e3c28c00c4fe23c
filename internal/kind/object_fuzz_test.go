package kind

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

// fuzzSeeds are objects with a little of everything that is checked.
var fuzzSeeds = []string{
	`{}`, `{"metadata":{"name":"a","namespace":"b","labels":{"a":"b"},"annotations":{"c":"d"},"finalizers":["x/y"],"ownerReferences":[{"kind":"K","name":"n","uid":"u","apiVersion":"v1"}]}}`,
	`{"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80,"hostPort":80}],"env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.annotations['a']"}}},{"name":"B","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"1m"}}}],"resources":{"limits":{"cpu":"1","memory":"1Gi","hugepages-2Mi":"2Mi"},"requests":{"cpu":"2"}},"livenessProbe":{"httpGet":{"port":"x"}},"volumeMounts":[{"name":"v","mountPath":"/a","subPathExpr":"$(A)"}],"securityContext":{"runAsUser":-1,"capabilities":{"add":["X"]}}}],"volumes":[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"t"}},{"downwardAPI":{"items":[{"path":"x","fieldRef":{"fieldPath":"metadata.labels['b']"}}]}}]}}],"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}]}}},"tolerations":[{"operator":"Exists","effect":"NoExecute","tolerationSeconds":5}],"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule"}]},"status":{"phase":"Running","containerStatuses":[{"name":"c","state":{"terminated":{"exitCode":1}}}],"podIPs":[{"ip":"10.0.0.1"}]}}`,
	`{"spec":{"type":"NodePort","clusterIP":"10.43.0.1","clusterIPs":["10.43.0.1","fd00::1"],"ports":[{"name":"a","port":80,"targetPort":"http","nodePort":30000,"protocol":"SCTP"}],"externalIPs":["1.2.3.4"],"sessionAffinityConfig":{"clientIP":{"timeoutSeconds":1}},"loadBalancerSourceRanges":["10.0.0.0/8"]}}`,
	`{"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"NotIn","values":["d"]}]},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}},"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},"progressDeadlineSeconds":1}}`,
	`{"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true},"targetRef":{"kind":"Pod"},"zone":"z","hints":{"forZones":[{"name":"z"}]}}],"ports":[{"name":"p","port":1,"protocol":"TCP"}]}`,
	`{"data":{"a":"YQ==",".dockerconfigjson":"e30="},"type":"kubernetes.io/dockerconfigjson","immutable":true,"binaryData":{"a":"YQ=="}}`,
	`{"spec":{"request":"LS0tLS1CRUdJTg==","signerName":"kubernetes.io/kubelet-serving","usages":["digital signature"],"expirationSeconds":1},"status":{"conditions":[{"type":"Approved","status":"True"}],"certificate":"LS0t"}}`,
	`{"spec":{"podCIDRs":["10.0.0.0/24"],"taints":[{"key":"a","effect":"NoSchedule"}],"providerID":"x"},"status":{"capacity":{"cpu":"-1","a/b":"0.1"},"conditions":[{"type":"Ready","status":"True"}],"addresses":[{"type":"InternalIP","address":"1.2.3.4"}]}}`,
	`{"involvedObject":{"kind":"Pod","namespace":"b","name":"p"},"reason":"r","type":"Normal","count":1,"eventTime":"2026-01-01T00:00:00.000000Z","series":{"count":2,"lastObservedTime":"2026-01-01T00:00:00.000000Z"},"reportingComponent":"a/b"}`,
	`{"spec":{"holderIdentity":"h","leaseDurationSeconds":-1,"renewTime":"2026-01-01T00:00:00.000000Z"},"value":2000000001,"globalDefault":true,"preemptionPolicy":"Never","subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":1}]}]}`,
}

// Whatever object is sent, of any kind and in any encoding, is given its defaults,
// checked, shown and printed without a panic, and comes back from both encodings as it
// went in.
func FuzzObject(f *testing.F) {
	text := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, Scheme(), Scheme(), kjson.SerializerOptions{Strict: true})
	yaml := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, Scheme(), Scheme(), kjson.SerializerOptions{Strict: true, Yaml: true})
	binary := protobuf.NewSerializer(Scheme(), Scheme())
	for k := range All {
		for _, seed := range fuzzSeeds {
			f.Add(uint8(k), uint8(0), []byte(seed))
		}
	}
	var pod bytes.Buffer
	if err := binary.Encode(&corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}, &pod); err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(5), uint8(2), pod.Bytes())
	f.Add(uint8(5), uint8(1), []byte("spec:\n  containers: &a [{name: c}]\n  initContainers: *a\n"))
	f.Fuzz(func(t *testing.T, which, format uint8, data []byte) {
		if len(data) > 64<<10 {
			return // the limits of bodies are rest's
		}
		k := All[int(which)%len(All)]
		gvk, into := k.GVK(), runtime.Object(k.New())
		face := (*Face)(nil)
		if n := int(which) / len(All) % (len(k.Faces) + 1); n > 0 {
			face = &k.Faces[n-1]
			gvk, into = face.Resource.GroupVersion().WithKind(k.Kind), face.New()
		}
		out, _, err := []runtime.Decoder{text, yaml, binary}[format%3].Decode(data, &gvk, into)
		if err != nil && !runtime.IsStrictDecodingError(err) || out != into {
			return
		}
		obj := out.(Object)
		if face != nil {
			obj = face.ToStored(obj)
		}
		obj.GetObjectKind().SetGroupVersionKind(k.GVK())
		exercise(k, face, obj)
		roundTrip(t, k, obj)
	})
}

// exercise calls everything that a kind has for an object, as a request would.
func exercise(k *Kind, face *Face, obj Object) {
	before := obj.DeepCopyObject().(Object)
	if k.Default != nil {
		k.Default(obj)
	}
	if k.PrepareCreate != nil {
		k.PrepareCreate(obj.DeepCopyObject().(Object))
	}
	if k.PrepareUpdate != nil {
		k.PrepareUpdate(obj.DeepCopyObject().(Object), before)
	}
	if k.Validate != nil {
		k.Validate(obj)
	}
	if k.ValidateUpdate != nil {
		k.ValidateUpdate(obj, before)
	}
	if k.Warnings != nil {
		k.Warnings(obj, nil)
		k.Warnings(obj, before)
	}
	if k.EarlyWarnings != nil {
		k.EarlyWarnings(obj)
	}
	if k.Canonicalize != nil {
		k.Canonicalize(obj.DeepCopyObject().(Object))
	}
	if k.DeletionGrace != nil {
		k.DeletionGrace(obj, &metav1.DeleteOptions{})
	}
	if k.Lazy != nil {
		k.Lazy(obj, before)
	}
	if k.Row != nil {
		k.Row(obj, time.Unix(1_800_000_000, 0))
	}
	if k.Fields != nil {
		k.Fields(obj)
	}
	for _, s := range k.Subresources {
		if s.PrepareUpdate != nil {
			s.PrepareUpdate(obj.DeepCopyObject().(Object), before)
		}
		if s.ValidateUpdate != nil {
			s.ValidateUpdate(obj, before)
		}
	}
	for i := range k.Faces {
		shown := k.Faces[i].FromStored(obj)
		if k.Faces[i].Row != nil {
			k.Faces[i].Row(shown, time.Unix(1_800_000_000, 0))
		}
		k.Faces[i].ToStored(shown)
	}
	if face != nil && face.Validate != nil {
		face.Validate(obj)
	}
}

// roundTrip encodes an object with its defaults and reads it again: it is the same then,
// and what was defaulted once is not by its defaults changed again.
func roundTrip(t *testing.T, k *Kind, obj Object) {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		return // a time beyond the year 9999, which decoding lets through
	}
	again := k.New()
	if err := json.Unmarshal(data, again); err != nil {
		t.Fatalf("%s: read what was written: %v\n%s", k.Kind, err, data)
	}
	second, err := json.Marshal(again)
	if err != nil || !bytes.Equal(data, second) {
		t.Fatalf("%s: written twice (%v):\n%s\n%s", k.Kind, err, data, second)
	}
	if k.Default != nil {
		k.Default(again)
		if third, err := json.Marshal(again); err != nil || !bytes.Equal(second, third) {
			t.Errorf("%s: defaulted twice (%v):\n%s\n%s", k.Kind, err, second, third)
		}
	}
	message, ok := obj.(interface {
		Marshal() ([]byte, error)
	})
	if !ok {
		return
	}
	wire, err := message.Marshal()
	if err != nil {
		t.Fatalf("%s: %v", k.Kind, err)
	}
	read := k.New().(interface {
		Object
		Unmarshal([]byte) error
	})
	if err := read.Unmarshal(wire); err != nil {
		t.Fatalf("%s: read protobuf: %v", k.Kind, err)
	}
	rewire, err := read.(interface{ Marshal() ([]byte, error) }).Marshal()
	if err != nil || !bytes.Equal(wire, rewire) && !equality.Semantic.DeepEqual(obj, read) {
		t.Errorf("%s: protobuf written twice differs (%v)", k.Kind, err)
	}
}
